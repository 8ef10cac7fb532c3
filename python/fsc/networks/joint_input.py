"""Networks made to take one tensor, which they leave as it is, and made as they were again."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import MethodType
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map

from fsc.images.forward import Forward
from fsc.images.joint import Inputs, JointInput, packed
from fsc.networks.calls import call_of, writes_into
from fsc.networks.wrappers import dtype_of


class _TakesOne(nn.Module):
    """What classes have in common that take one tensor where another class takes what it takes."""

    fsc_joint: JointInput | None
    fsc_copies: bool  # whether the forward writes into what it is given
    fsc_class: type[nn.Module]
    fsc_forward: Callable[..., Any] | None  # that was set on the network itself

    def forward(self, images: Tensor) -> Any:
        """The forward of the network, its arguments taken out of the rows of one tensor."""
        images = images.clone() if self.fsc_copies else images
        args, kwargs = ((images,), {}) if self.fsc_joint is None else self.fsc_joint.call(images)
        own = MethodType(self.fsc_class.forward, self)
        return (self.fsc_forward or own)(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> _TakesOne:
        # A GraphModule would trace itself anew, by the class that it was.
        made = object.__new__(type(self))
        memo[id(self)] = made
        vars(made).update(copy.deepcopy(vars(self), memo))
        return made


def one_input(function: str, model: nn.Module, inputs: Inputs) -> tuple[nn.Module, Tensor]:
    """Make a network take one tensor, and its inputs one.

    One that writes into what it is given, such as by a ReLU in place, gets a copy each time.
    Modules keep their names, so that what is found in the one network holds in the other. Hooks
    and the mode are the network's own; the modules and tensors inside are shared, with theirs.

    Args:
        function: who asks, for the sentence.
        model: any network; it is not changed, and shares its modules with the result.
        inputs: what it takes: a tensor, a tuple of arguments, or a dict of named ones, [N, ...]
            each.

    Returns:
        A network of the same modules, and a tensor [N, ...]; both as they are where there is one
        argument only and it stays as it is.

    Raises:
        ValueError: an input is of a dtype that cannot lie in one tensor with the others.
    """
    if isinstance(inputs, Tensor) and isinstance(model, _TakesOne):
        return model, inputs
    first = tree_map(lambda leaf: leaf[:1], inputs)
    copies = writes_into(model, call_of(first))
    if not isinstance(inputs, Tensor):
        rows, joint = packed(function, inputs, dtype_of(model))
        return _taking_one(model, joint, copies), rows
    if Forward.of(model).takes_one and not copies:
        return model, inputs
    return _taking_one(model, None, copies), inputs


def _taking_one(model: nn.Module, joint: JointInput | None, copies: bool) -> nn.Module:
    """The network on rows as `joint` says; None: on its first argument, without the others."""
    own = type(model)
    names = {"fsc_joint": joint, "fsc_copies": copies, "fsc_class": own} | {
        "__module__": own.__module__
    }
    made: nn.Module = _shared(model, type(own.__name__, (_TakesOne, own), names))
    vars(made)["fsc_forward"] = vars(made).pop("forward", None)
    return made


def joint_of(model: nn.Module) -> JointInput | None:
    """How the inputs of a network lie in the rows that it takes; None where it takes no rows."""
    return model.fsc_joint if isinstance(model, _TakesOne) else None


def as_given(model: nn.Module) -> nn.Module:
    """A network that takes what it took before `one_input`; it shares its modules with `model`."""
    if not isinstance(model, _TakesOne):
        return model
    made = _shared(model, model.fsc_class)
    own = vars(made).pop("fsc_forward")
    if own is not None:
        vars(made)["forward"] = own
    return made


def _shared(model: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """The same network as one of another class, its own methods among them."""
    made = object.__new__(kind)
    tables = vars(nn.Module())  # of modules, tensors and hooks
    for name, value in vars(model).items():
        if isinstance(value, MethodType) and value.__self__ is model:
            value = MethodType(value.__func__, made)
        # Whoever adds a hook or a module to the one has not added it to the other.
        vars(made)[name] = value.copy() if isinstance(tables.get(name), dict | set) else value
    return made
