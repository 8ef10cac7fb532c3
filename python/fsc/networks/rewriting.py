"""Putting other modules into a network and making sure that it computes what it did."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves, tree_map

from fsc.images.joint import Inputs
from fsc.networks.calls import Calls, call_of, cast, output_of, record_calls, run_apart
from fsc.networks.computed_weights import copy_of, fix_weights
from fsc.networks.exported import exported
from fsc.networks.open_sizes import holders, open_sizes
from fsc.networks.outputs import difference
from fsc.networks.placing import put
from fsc.networks.plain_layer import (
    from_calls,
    is_known,
    layer_class,
    specialised,
    with_own_class,
)
from fsc.networks.silence import silence
from fsc.networks.trace_failures import reason_of_export
from fsc.networks.tracing import Unread, unread

_LAYER_TOLERANCE = 1e-10  # of one module in float64
_NETWORK_TOLERANCE = 1e-6  # in float64 too: rounding in one layer grows on its way to the output
_ROUNDINGS = 1000  # of one module in its own dtype
_UNCALLED = "the network does not call it"
EXPORTED = "the graph that torch.export finds"
_SIZE_REMARK = "for inputs of the size of the example"


@dataclass(frozen=True)
class Rewriting:
    """What was done with one module.

    Attributes:
        name: of the module, "" for the network itself.
        was: its class, or what computed a weight of it.
        became: the layers in its place; "" where it was left as it is.
        remark: why it was left, or for which inputs alone the new layers hold; else "".
    """

    name: str
    was: str
    became: str
    remark: str = ""


class Rewriter:
    """Rewrites a network beside a float64 copy of it, in which everything is compared.

    A network that casts to a dtype of its own runs in no other; it is compared in that.

    Args:
        original: the network as it was given.
        model: its copy in evaluation mode, with computed weights made parameters.
        example_inputs: what it is called with.
        done: the list that grows by what is done.

    Raises:
        ValueError: the network does not run on the example.
    """

    def __init__(
        self, original: nn.Module, model: nn.Module, example_inputs: Inputs, done: list[Rewriting]
    ) -> None:
        """Changes nothing yet."""
        self.original, self.model, self.done = original, model, done
        self.call = call_of(example_inputs)
        self.exact = copy_of(original).eval().double()
        self._inputs = tree_map(lambda x: cast(x, torch.float64), self.call)
        self._dtype_of_exact = torch.float64
        self._unfollowed_because = ""

    def run(self, names: Iterable[str]) -> nn.Module:
        """Rewrite modules of these names and those that torch.fx cannot trace.

        Returns:
            The rewritten network; where the whole of it computes something else, a copy of the
            original one.
        """
        expected = self._expected()
        fix_weights(self.exact)
        self._rewrite_layers(names)
        self._specialise()
        self._open_sizes()
        found = difference(expected, output_of(self.exact, self._inputs))
        fault = f"something else, by {found:.1g}" if found > self._tolerance else ""
        if not fault and not self._holds_for_one_image():
            fault = "something else for another number of images"
        if not fault:
            return self.model
        self.done.clear()
        cause = f"{self._unfollowed_because}; " if self._unfollowed_because else ""
        self._leave("", self.original, f"{cause}rewritten it would compute {fault}")
        return copy_of(self.original).eval()

    def _holds_for_one_image(self) -> bool:
        """Whether the rewritten network computes the same where fewer images are given."""
        if not any(each.remark == _SIZE_REMARK for each in self.done):
            return True
        one = tree_map(lambda x: x[:1] if isinstance(x, Tensor) and x.ndim else x, self._inputs)
        try:
            expected = output_of(copy_of(self.original).eval().to(self._dtype_of_exact), one)
        except Exception:  # it is made for so many images
            return True
        try:
            with silence():
                return difference(expected, output_of(self.exact, one)) <= self._tolerance
        except Exception:  # whatever an operation of the graph raises
            return False

    def _expected(self) -> Any:
        """What the network gives, in float64 where it runs so."""
        try:
            return output_of(self.exact, self._inputs)
        except Exception:  # whatever it raises: it may cast to a dtype of its own
            self.exact, self._inputs = copy_of(self.original).eval(), self.call
            self._dtype_of_exact = self._dtype("")
        try:
            return output_of(self.exact, self._inputs)
        except Exception as cause:
            shapes = [list(x.shape) for x in tree_leaves(self.call) if isinstance(x, Tensor)]
            raise ValueError(
                f"plain: model and example_inputs of {', '.join(map(str, shapes))} must run "
                f"together, failed with: {_line(cause)}"
            ) from cause

    @property
    def _tolerance(self) -> float:
        roundings = _ROUNDINGS * torch.finfo(self._dtype_of_exact).eps
        return max(_NETWORK_TOLERANCE, roundings)

    def _rewrite_layers(self, names: Iterable[str]) -> None:
        calls = record_calls(self.exact, names, self._inputs)
        replaced: list[str] = []
        for name in calls:
            if any(name.startswith(f"{parent}.") for parent in replaced):
                continue
            if self._rewrite_layer(name, calls[name]):
                replaced.append(name)

    def _rewrite_layer(self, name: str, calls: Calls) -> bool:
        exact = self.exact.get_submodule(name)
        is_layer = layer_class(exact) is not None
        reason = "" if calls else _UNCALLED
        for make in (_of_own_class, from_calls) if calls else ():
            try:
                made, reads_sizes = make(exact, *calls[0])
                copied = copy_of(made).to(self._dtype(name))
                reason = self._fault(name, made, copied, calls)
            except Exception as error:  # whatever a forward of somebody else raises
                reason = _line(error)
                continue
            if not is_layer and not is_known(made):
                return False
            if not reason:
                self._put(name, made, copied)
                remark = _SIZE_REMARK if reads_sizes else ""
                self.done.append(Rewriting(name, type(exact).__name__, _described(made), remark))
                return True
        if is_layer:
            self._leave(name, exact, reason)
        return False

    def _specialise(self) -> None:
        """Fixes forwards that torch.fx cannot follow to the inputs that they see here."""
        tried: set[tuple[str, str]] = set()
        while (found := self._unfollowed()) is not None and (found.name, found.kind) not in tried:
            name, self._unfollowed_because = found.name, _line(found.error)
            tried.add((name, found.kind))
            was = type(self.exact.get_submodule(name)).__name__
            became = "the graph of its calls"
            # Calls are read as torch.fx reads them, which is what is wrong in what is unlike.
            is_unlike = found.kind == "unlike"
            reason = _line(found.error) if is_unlike else self._as_graph(name, specialised)
            if reason:
                self._unfollowed_because = reason
                became = EXPORTED
                if other := self._as_graph(name, exported):
                    reason += f"; torch.export fails with: {other}"
                    self._leave(name, self.exact.get_submodule(name), reason)
                    return
            self.done[:] = [each for each in self.done if each.name != name or each.became]
            self.done.append(Rewriting(name, was, became, _SIZE_REMARK))

    def _unfollowed(self) -> Unread | None:
        """The innermost module whose forward torch.fx cannot follow, and why."""
        return unread(self.exact, self._inputs)

    def _open_sizes(self) -> None:
        """Makes sizes attributes where they are written into a forward."""
        found = self._unfollowed()
        if found is not None and found.kind == "untraced":
            return
        for name in holders(self.exact):
            was = type(self.exact.get_submodule(name)).__name__
            if not self._as_graph(name, open_sizes):
                became = "the graph of its calls, with sizes as attributes"
                self.done.append(Rewriting(name, was, became))

    def _as_graph(self, name: str, make: Callable[..., nn.Module]) -> str:
        """Puts a graph in the place of a module, and tells why it cannot; "" where it could."""
        try:
            exact, model = self.exact.get_submodule(name), self.model.get_submodule(name)
            calls = record_calls(self.exact, [name], self._inputs)[name]
            if not calls:
                return _UNCALLED
            own = tree_map(lambda x: cast(x, self._dtype(name)), calls[0])
            made, copied = make(exact, *calls[0]), make(model, *own)
            with silence():
                reason = self._fault(name, made, copied, calls)
        except Exception as error:  # whatever a forward of somebody else raises
            return reason_of_export(error) if make is exported else _line(error)
        if not reason:
            self._put(name, made, copied)
        return reason

    def _fault(self, name: str, made: nn.Module, copied: nn.Module, calls: Calls) -> str:
        """What is wrong with modules that are to take a module's place; "" for nothing."""
        dtype, own = self._dtype(name), self._dtype_of_exact
        precision = max(_LAYER_TOLERANCE, _ROUNDINGS * torch.finfo(own).eps)
        pairs = (
            (self.exact.get_submodule(name), made, own, precision),
            (self.model.get_submodule(name), copied, dtype, _ROUNDINGS * torch.finfo(dtype).eps),
        )
        for old, new, kind, tolerance in pairs:
            for call in calls:
                inputs = tree_map(lambda x: cast(x, kind), call)  # noqa: B023
                was = run_apart(old, inputs)  # what it does to its inputs counts as well
                try:
                    apart = difference(was, run_apart(new, inputs))
                except Exception as error:  # whatever an operation raises
                    return f"what it calls does not run, {_line(error)}"
                if apart > tolerance:
                    return f"what it calls gives something else in {kind}, by {apart:.1g}"
        return ""

    def _dtype(self, name: str) -> torch.dtype:
        """The dtype of a module, or else of the network."""
        for module in (self.model.get_submodule(name), self.model):
            for tensor in (*module.parameters(), *module.buffers()):
                if tensor.is_floating_point():
                    return tensor.dtype
        return torch.float32

    def _put(self, name: str, made: nn.Module, copied: nn.Module) -> None:
        if not name:
            self.exact, self.model = made, copied
            return
        put(self.exact, name, made)
        put(self.model, name, copied)

    def _leave(self, name: str, module: nn.Module, reason: str) -> None:
        self.done.append(Rewriting(name, type(module).__name__, "", reason))


def _of_own_class(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[nn.Module, bool]:
    made = with_own_class(module)
    if made is None:
        raise ValueError("it has a forward of its own")
    return made, False


def _described(module: nn.Module) -> str:
    layers = [layer for layer in module.modules() if not list(layer.children())]
    names = ", ".join(type(layer).__name__ for layer in layers)
    return f"a graph with {names}" if isinstance(module, fx.GraphModule) else names


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
