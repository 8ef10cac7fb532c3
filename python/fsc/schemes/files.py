"""Schemes of the user's own, from JSON."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, TypeVar

from torch import nn

from fsc.files import read_json
from fsc.images.joint import Inputs
from fsc.schemes.blocks import DropBlocks
from fsc.schemes.decoupling import Decoupling
from fsc.schemes.quantized import FULL_PRECISION, QuantizedScheme, quantized
from fsc.schemes.slimming import slimming
from fsc.schemes.sparse import SparseScheme, sparse
from fsc.schemes.structured import Scheme, structured
from fsc.wording import shown

Kind = TypeVar("Kind", DropBlocks, Decoupling)

# What each kind may hold beside its name and kind.
_KEYS = {
    "structured": ({"kept"}, {"pruning_ratio", "ignored", "style"}),
    "slimming": ({"pruning_ratio", "ignored", "style"},),
    "sparse": ({"kept"}, {"pruning_ratio", "ignored"}),
    "quantized": ({"bits", "ignored", "activation_bits"},),
    "blocks": ({"blocks"}, {"count"}, {"latency"}),
    "decoupled": ({"terms", "ignored", "first"},),
}


def from_json(
    path: str | os.PathLike[str], model: nn.Module, example_inputs: Inputs
) -> Scheme | SparseScheme | QuantizedScheme | DropBlocks | Decoupling:
    """Read a scheme of one's own.

    {"name": "mine", "kept": {"features.0": 32, ...}}: output channels that stay.
    {"name": "mine", "pruning_ratio": 0.5, "ignored": ["features.0"]}: the share that goes; see
    `structured`. A ratio may also be an object: {"features.0": 0.3, ...}. "style": "normal" leaves
    residual streams whole.
    {"name": "mine", "kind": "slimming", "pruning_ratio": 0.6}: the share of all channels that goes,
    those whose BatchNorm scales are smallest; see `slimming`.
    With "kind": "sparse" both count single weights instead; see `sparse`.
    {"name": "mine", "kind": "quantized", "bits": 2, "activation_bits": 4}: bits of every weight,
    or of those of some: {"features.0": 2, ...}; see `quantized`.
    {"name": "mine", "kind": "blocks", "blocks": ["layer1.1", ...]}: residual blocks that go, or
    "count": 2 or "latency": 0.8 in the place of "blocks"; see `DropBlocks`.
    {"name": "mine", "kind": "decoupled", "terms": 2}: layers become a depthwise and a pointwise
    one, with "ignored" and "first" where they are wanted; see `Decoupling`.

    Args:
        path: the file.
        model: the network that it is for; only its structure counts, but for "slimming".
        example_inputs: what the network takes; one image is enough.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no JSON or not of this form, or does not go with the network.
    """
    content = read_json(path, "scheme file")
    try:
        return _scheme(content, model, example_inputs)
    except ValueError as error:
        raise ValueError(f"scheme file {path}: {error}") from error


def _scheme(
    content: Any, model: nn.Module, example_inputs: Inputs
) -> Scheme | SparseScheme | QuantizedScheme | DropBlocks | Decoupling:
    if not isinstance(content, dict):
        raise ValueError(f"content must be an object, got {type(content).__name__}")
    name, kind = content.pop("name", None), content.pop("kind", "structured")
    if not isinstance(name, str) or not name:
        raise ValueError(f"name must be a text, got {shown(name)}")
    if not isinstance(kind, str) or kind not in _KEYS:
        raise ValueError(f"kind must be one of {', '.join(_KEYS)}, got {shown(kind)}")
    forms = _KEYS[kind]
    if not content or not any(set(content) <= form for form in forms):
        wanted = " or ".join(", ".join(sorted(form, reverse=True)) for form in forms)
        raise ValueError(
            f"a {kind} scheme must hold {wanted}, got {', '.join(content) or 'nothing'}"
        )
    if kind == "blocks":
        return _of_kind(DropBlocks, name, content)
    ignored = content.get("ignored", [])
    if not isinstance(ignored, list) or not all(isinstance(entry, str) for entry in ignored):
        raise ValueError(f"ignored must be a list of names, got {shown(ignored)}")
    if kind == "decoupled":
        return _of_kind(Decoupling, name, content)
    if kind == "quantized":
        return _quantized(name, content, ignored, model)
    if kind == "slimming":
        return _slimming(name, content, ignored, model, example_inputs)
    if "kept" in content:
        kept = _numbers("kept", content["kept"], (int,))
        return Scheme(name, kept) if kind == "structured" else SparseScheme(name, kept)
    ratio = content.get("pruning_ratio")
    shares = _number("pruning_ratio", ratio, (int, float))
    if kind == "structured":
        style = content.get("style", "residual")
        scheme = structured(model, shares, example_inputs, ignored, style=style)
        return replace(scheme, name=name)
    return replace(sparse(model, shares, ignored), name=name)


def _quantized(
    name: str, content: dict[str, Any], ignored: list[str], model: nn.Module
) -> QuantizedScheme:
    activation_bits = content.get("activation_bits", FULL_PRECISION)
    bits = _number("bits", content.get("bits"), (int,))
    return replace(quantized(model, bits, ignored, activation_bits), name=name)


def _slimming(
    name: str, content: dict[str, Any], ignored: list[str], model: nn.Module, inputs: Inputs
) -> Scheme:
    ratio, style = content.get("pruning_ratio"), content.get("style", "residual")
    if not isinstance(ratio, int | float) or isinstance(ratio, bool):
        told = "nothing" if ratio is None else repr(ratio)
        raise ValueError(f"pruning_ratio must be a number, got {told}")
    return replace(slimming(model, ratio, inputs, ignored, style), name=name)


def _of_kind(kind: type[Kind], name: str, content: dict[str, Any]) -> Kind:
    try:
        return kind(**content, name=name)
    except TypeError as error:  # of a value, which a file has wrong and not a program
        raise ValueError(str(error)) from error


def _number(key: str, value: Any, types: tuple[type, ...]) -> Any:
    """One number for all layers, or an object of one for each."""
    if isinstance(value, dict):
        return _numbers(key, value, types)
    if type(value) in types:
        return value
    raise ValueError(
        f"{key} must be {_PROSE[types[-1]]}, or map layers to such, got "
        f"{'nothing' if value is None else repr(value)}"
    )


def _numbers(key: str, value: Any, types: tuple[type, ...]) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{key} must map layers to numbers, got {shown(value)}")
    for layer, number in value.items():
        if type(number) not in types:
            raise ValueError(f"{key}[{layer!r}] must be {_PROSE[types[-1]]}, got {shown(number)}")
    return value


_PROSE = {int: "an integer", float: "a number"}
