"""Schemes that decouple convolutions into depthwise and pointwise ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any, Literal

from torch import nn

from fsc.arguments import as_count, as_flag, check_text
from fsc.networks.decoupling import decouple_layers, energy_lost, pays
from fsc.networks.operations import LAYER
from fsc.networks.tracing import ancestors, shared_layers, trace
from fsc.schemes.ignoring import Ignored, check_list_of_ignored, ignored_layers
from fsc.schemes.reasons import commonest
from fsc.wording import shown

Terms = int | Literal["1mix"] | Mapping[str, int]
MIXED: Literal["1mix"] = "1mix"


@dataclass(frozen=True)
class Decoupling:
    """Which convolutions become a depthwise and a pointwise one, and how many terms each has.

    All ungrouped 2-D convolutions with kernels larger than 1x1 do, but for those that would then
    take more multiply-accumulates, and those that read the network's input: few channels come in
    there, and the paper leaves them whole.

    Attributes:
        terms: T, filters of the depthwise convolution for each input channel; or "1mix": the half
            of the layers that loses least energy by it has T = 1, the others T = 2; or name of each
            layer -> its T.
        ignored: layers that stay whole: names, patterns such as "head*", types.
        first: whether layers that read the network's input are decoupled, too.
        name: what reports call it.
        held_back: name of each layer that stays whole, though it was not ignored -> why.

    Raises:
        ValueError: terms are below 1, another text, or name no layer.
        TypeError: a value is of the wrong type.

    Example:
        >>> Decoupling(terms=2).name
        'decoupled-2'
    """

    terms: Terms = 2
    ignored: Ignored = ()
    first: bool = False
    name: str = ""
    held_back: dict[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        """Refuses what no network can be asked for."""
        check_text("Decoupling: name", self.name)
        named = isinstance(self.terms, Mapping)
        if isinstance(self.terms, Mapping):
            terms: Terms = {n: _as_terms(each, named=True) for n, each in self.terms.items()}
        else:
            terms = _as_terms(self.terms, named=False)
        object.__setattr__(self, "terms", terms)
        if named and not self.terms:
            raise ValueError("Decoupling: terms must name a layer, got none")
        check_list_of_ignored("Decoupling", self.ignored)
        object.__setattr__(self, "first", as_flag("Decoupling: first", self.first))
        if named and (self.ignored or self.first):
            other = "ignored" if self.ignored else "first"
            raise ValueError(f"Decoupling: {other} must not be given beside terms of named layers")
        if not self.name:
            object.__setattr__(self, "name", f"decoupled{'' if named else f'-{self.terms}'}")


def _as_terms(value: Any, *, named: bool) -> Any:
    if isinstance(value, str) and value == MIXED and not named:
        return value
    if not isinstance(value, Integral) or isinstance(value, bool):
        rule = f"must be an integer{'' if named else f', {MIXED!r} or a dict of layers'}"
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f"Decoupling: terms {rule}, got {shown(value)}")
    return as_count("Decoupling: terms", value)


def named_layers(scheme: Decoupling, given: nn.Module, model: nn.Module) -> Decoupling:
    """The scheme with the names of the layers that are decoupled, and why others are not.

    Args:
        scheme: what is asked for.
        given: the network as the user has it, for the names and types that are ignored.
        model: the same in plain modules.

    Raises:
        ValueError: a name is no layer that can be decoupled, or there is nothing to decouple.
    """
    able = dict(able_layers(model, first=scheme.first or isinstance(scheme.terms, Mapping)))
    if isinstance(scheme.terms, Mapping):
        for name, count in scheme.terms.items():
            _check_named(scheme.name, name, count, able, model)
        return scheme
    left_alone = ignored_layers("compress", scheme.ignored, given, model)
    held_back: dict[str, str] = {}
    layers: dict[str, nn.Conv2d] = {}
    most = 2 if scheme.terms == MIXED else int(scheme.terms)
    for name, found in able.items():
        if any(name == each or name.startswith(f"{each}.") for each in left_alone):
            continue
        if isinstance(found, str):
            held_back[name] = found
        elif not pays(found, most):
            held_back[name] = f"{name!r} stays whole: decoupled it would cost more"
        else:
            layers[name] = found
    if not layers:
        why = f"; {commonest(held_back)}" if held_back else ""
        raise ValueError(
            f"scheme {scheme.name!r}: model must have convolutions with kernels larger than 1x1 "
            f"that are cheaper as depthwise and pointwise ones, got none{why}"
        )
    terms = _mixed(layers) if scheme.terms == MIXED else dict.fromkeys(layers, most)
    return replace(scheme, terms=terms, ignored=(), first=False, held_back=held_back)


def _mixed(layers: Mapping[str, nn.Conv2d]) -> dict[str, int]:
    """One term for the half of the layers that loses least energy by it, two for the others."""
    ordered = sorted(layers, key=lambda name: energy_lost(layers[name], 1))
    single = set(ordered[: len(ordered) // 2])
    return {name: 1 if name in single else 2 for name in layers}


def _check_named(
    where: str, name: str, count: int, able: Mapping[str, nn.Conv2d | str], model: nn.Module
) -> None:
    found = able.get(name)
    if isinstance(found, str):
        raise ValueError(f"scheme {where!r}: layer {name!r} must be one that can go: {found}")
    if found is None:
        module = dict(model.named_modules()).get(name)
        told = "none" if module is None else type(module).__name__
        raise ValueError(
            f"scheme {where!r}: layer {name!r} must be a 2-D convolution with a kernel larger than "
            f"1x1 that the model calls, got {told}"
        )
    taps = found.kernel_size[0] * found.kernel_size[1]
    if count > taps:
        raise ValueError(
            f"scheme {where!r}: terms of {name!r} must be at most {taps}, the taps of its kernel, "
            f"got {count}"
        )


def able_layers(model: nn.Module, *, first: bool) -> Iterator[tuple[str, nn.Conv2d | str]]:
    """Every 2-D convolution with a larger kernel that mixes channels: itself, or why it stays."""
    graph = trace(model)
    shared = shared_layers(model, graph)
    read_otherwise = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    for node in graph.nodes:
        name = str(node.target)
        layer = model.get_submodule(name) if node.op == "call_module" else None
        if not isinstance(layer, nn.Conv2d) or max(layer.kernel_size) == 1:
            continue
        if layer.groups == layer.in_channels > 1:
            continue  # depthwise already
        if type(layer) is not nn.Conv2d:
            yield name, f"{name!r} stays whole: it is a {type(layer).__name__}"
        elif layer.groups > 1:
            yield name, f"{name!r} stays whole: it has {layer.groups} groups"
        elif name in shared:
            yield name, f"{name!r} stays whole: {shared[name]}"
        elif any(read.startswith(f"{name}.") for read in read_otherwise):
            yield name, f"{name!r} stays whole: its weight is read by more than the layer"
        elif not first and not any(LAYER.matches(model, each) for each in ancestors(node)):
            yield name, f"{name!r} stays whole: it reads the network's input"
        else:
            yield name, layer


def decouple(model: nn.Module, scheme: Decoupling) -> None:
    """Decouple the layers that a scheme names, in place.

    Args:
        model: the network, in plain modules.
        scheme: with names, see `named_layers`.
    """
    assert isinstance(scheme.terms, Mapping)
    decouple_layers(model, scheme.terms)
