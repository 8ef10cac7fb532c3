"""Networks of other libraries, rewritten in the layers of torch.nn."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves, tree_map

from fsc.arguments import check_module
from fsc.images.joint import Inputs
from fsc.networks.calls import call_of
from fsc.networks.computed_weights import copy_of, fix_weights
from fsc.networks.concrete import is_own_layer
from fsc.networks.open_sizes import holders
from fsc.networks.operations import CONVOLUTION
from fsc.networks.plain_layer import layer_class, may_return_its_input
from fsc.networks.rewriting import Rewriter, Rewriting
from fsc.networks.states import check_sizes_known
from fsc.networks.trace_failures import sentence
from fsc.networks.tracing import unread
from fsc.wording import shown

_NEW_NAMES = (
    "write what it changes in place and reads under another name, as `x += y`, with a new result, "
    "as `x = x + y`"
)
_MAX_NUMEL = 2**28  # of an example that a file asks for
_DTYPES = {
    name: getattr(torch, name) for name in ("bool", "uint8", "int8", "int16", "int32", "int64")
}


def plain(model: nn.Module, example_inputs: Inputs) -> nn.Module:
    """Return a network of torch.nn's own layers that computes what a network computes.

    The result is a copy in evaluation mode, and made for it. Subclasses of layers (a BatchNorm
    with its activation inside, convolutions that pad by size or standardise their weight) and
    layers by hand (a frozen BatchNorm) become what they compute; computed weights (weight norm,
    spectral norm, any parametrization, pruning masks) become parameters; what returns its input in
    evaluation mode (dropout, stochastic depth) becomes an Identity. Layers of torch.nn stay, and
    so do names: what takes the place of `a.b` is called `a.b`, its parts `a.b.norm`, `a.b.act`.
    A forward that branches on the size of its input is fixed to that of the example. One that has
    sizes written into it, as of a `split` or a `view`, becomes the graph of its calls, whose
    attributes the sizes are, so that channels can go.

    Every module is compared with what takes its place, in float64 and in its own dtype, and the
    whole network in float64; what computes something else is left. `rewritings` tells all.

    Args:
        model: any network; it is not changed.
        example_inputs: what it is called with, on its device: a tensor, a tuple of arguments, or a
            dict of named ones; two images are enough.

    Raises:
        ValueError: something has to be rewritten, and the network does not run on the example, or a
            layer does not know its sizes yet.
        TypeError: model is no network.

    Example:
        >>> class Doubled(nn.Linear):
        ...     def forward(self, input):
        ...         return nn.functional.linear(input, 2 * self.weight, self.bias)
        >>> plain(nn.Sequential(Doubled(3, 2)), torch.zeros(2, 3))
        Sequential(
          (0): Linear(in_features=3, out_features=2, bias=True)
        )
    """
    check_module("plain: model", model)
    check_sizes_known("plain: model", model)
    result = copy_of(model).eval()
    done = [Rewriting(*fixed) for fixed in fix_weights(result)]
    fixed = bool(done)
    done += _without_statistics(result)
    names = _candidates(result, done)
    if fixed or names or unread(result, call_of(example_inputs)) or holders(result):
        result = Rewriter(model, result, example_inputs, done).run(names)
    if done:
        record = {"shapes": _shapes(example_inputs), "rewritings": [asdict(each) for each in done]}
        result.fsc_plain = record  # type: ignore[assignment]
    return result


def rewritings(model: nn.Module) -> list[Rewriting]:
    """What `plain` did to a network that it returned; empty where nothing had to be done."""
    record: Any = getattr(model, "fsc_plain", {"rewritings": []})
    return [Rewriting(**each) for each in record["rewritings"]]


def plain_name(model: nn.Module, name: str) -> str:
    """What a layer is called in a network that `plain` returned; it may be by that name already.

    Args:
        model: that network.
        name: of the layer, as the user or the report has it; it stays where several layers, or
            none, have taken the place of the user's.
    """
    if not any(each.name == name and each.became for each in rewritings(model)):
        return name
    layers = [n for n, m in model.named_modules() if isinstance(m, CONVOLUTION | nn.Linear)]
    inside = [layer for layer in layers if layer.startswith(f"{name}.")]
    return inside[0] if len(inside) == 1 else name


def check_followed(function: str, model: nn.Module, example_inputs: Inputs) -> None:
    """Make sure that torch.fx follows a network that `plain` returned.

    Args:
        function: who asks, for the sentence.
        model: the network.
        example_inputs: what it was rewritten for.

    Raises:
        ValueError: it does not; the sentence says what was tried, and why that failed.
    """
    found = unread(model, call_of(example_inputs))
    if found is None:
        return
    names = ("", found.name)
    left = [each for each in rewritings(model) if each.name in names and not each.became]
    innermost = model.get_submodule(found.name) if found.name else None
    reason = left[-1].remark if left else None
    advice = _NEW_NAMES if found.kind == "unlike" else None
    said = sentence(function, found.error, model, innermost, reason, advice)
    raise ValueError(said) from found.error


def pass_on(source: nn.Module, target: nn.Module) -> None:
    """Note with a network that was made of a plain one what `plain` did to that."""
    if hasattr(source, "fsc_plain"):
        target.fsc_plain = source.fsc_plain


def example_shapes(model: nn.Module) -> Any:
    """The shapes of the example that `plain` rewrote a network for; None where it did not."""
    record: Any = getattr(model, "fsc_plain", {"shapes": None})
    return record["shapes"] if any(each.became for each in rewritings(model)) else None


def plain_for_shapes(model: nn.Module, shapes: Any) -> nn.Module:
    """Return a network as `plain` rewrites it for inputs of these shapes.

    Args:
        model: any network; it is not changed.
        shapes: what `example_shapes` gave: one shape, or a list or dict of shapes, lists and dicts;
            a shape begins with the name of its dtype where that is no floating-point one.

    Raises:
        ValueError: these are no shapes, or the network does not run on such inputs.
    """
    return plain(model, drawn(model, shapes, torch.Generator().manual_seed(0)))


def drawn(model: nn.Module, shapes: Any, generator: torch.Generator) -> Inputs:
    """Inputs of a network; takes shapes and raises as `plain_for_shapes` does."""
    weight = next((x for x in model.parameters() if x.is_floating_point()), torch.empty(0))
    found: Inputs = _drawn(shapes, weight, generator)
    return found


def _drawn(shapes: Any, weight: Tensor, generator: torch.Generator) -> Any:
    """Inputs of some shapes. Values do not matter, but for some of either sign."""
    if isinstance(shapes, dict):
        return {name: _drawn(shape, weight, generator) for name, shape in shapes.items()}
    if isinstance(shapes, list) and shapes and isinstance(shapes[0], list | dict):
        return tuple(_drawn(shape, weight, generator) for shape in shapes)
    named = isinstance(shapes, list) and bool(shapes) and shapes[0] in _DTYPES
    shape = shapes[1:] if named else shapes
    whole = isinstance(shape, list) and all(type(n) is int and n > 0 for n in shape)
    if not whole or not shape or math.prod(shape) > _MAX_NUMEL:
        raise ValueError(
            f"shapes must be lists of positive integers, of at most {_MAX_NUMEL} values in all, "
            f"got {shown(shapes)}"
        )
    drawn = torch.randn(shape, generator=generator)
    if not named:
        return drawn.to(weight)
    # Of integers only 0 is an index of every table.
    made = drawn > 0 if shapes[0] == "bool" else torch.zeros(shape)
    return made.to(weight.device, _DTYPES[shapes[0]])


def _candidates(model: nn.Module, done: list[Rewriting]) -> list[str]:
    """Names of modules that may have to be rewritten, parents first."""
    found = []
    for name, module in model.named_modules():
        if is_own_layer(module) or not _may_be_a_layer(module):
            continue
        if module._forward_hooks or module._forward_pre_hooks:
            done.append(Rewriting(name, type(module).__name__, "", "it has hooks"))
        elif not any(left.name == name for left in done if not left.became):
            found.append(name)
    return found


def _may_be_a_layer(module: nn.Module) -> bool:
    if layer_class(module) is not None or isinstance(getattr(module, "running_mean", None), Tensor):
        return True
    if next(module.children(), None) is not None or isinstance(module, fx.GraphModule):
        return False
    if type(module).__module__.startswith("torch.nn"):  # an empty container
        return False
    has_tensors = any(True for _ in (*module.parameters(), *module.buffers()))
    return has_tensors or may_return_its_input(module)


def _without_statistics(model: nn.Module) -> list[Rewriting]:
    remark = "it keeps no running statistics and normalises by those of its input"
    return [
        Rewriting(name, type(module).__name__, "", remark)
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None
    ]


def _shapes(example_inputs: Inputs) -> Any:
    """The shapes of the example, by which it can be made again; None where that is not enough."""

    def shape_of(value: Any) -> Any:
        dtype = str(value.dtype).removeprefix("torch.")
        return [dtype, *value.shape] if dtype in _DTYPES else list(value.shape)

    leaves = tree_leaves(example_inputs)
    made = all(isinstance(x, Tensor) and not x.is_complex() for x in leaves)
    return tree_map(shape_of, example_inputs) if made else None
