"""Schemes of the user's own, from JSON."""

from __future__ import annotations

import os

from fsc.files import read_json
from fsc.schemes.quantized import QuantizedScheme
from fsc.schemes.sparse import SparseScheme
from fsc.schemes.structured import Scheme

_KINDS: dict[str, type[Scheme] | type[SparseScheme] | type[QuantizedScheme]] = {
    "structured": Scheme,
    "sparse": SparseScheme,
    "quantized": QuantizedScheme,
}


def from_json(path: str | os.PathLike[str]) -> Scheme | SparseScheme | QuantizedScheme:
    """Read a scheme of one's own: {"name": "mine", "kept": {"features.0": 32, ...}}.

    The counts are output channels, single weights with "kind": "sparse" beside the name, or the
    bits of a weight with "kind": "quantized".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no JSON or not of this form.
    """
    content = read_json(path, "scheme file")
    if not isinstance(content, dict) or set(content) - {"kind"} != {"name", "kept"}:
        raise ValueError(
            f"scheme file {path} must hold an object with name, kept and, unless it is structured, "
            "kind"
        )
    name, kept, kind = content["name"], content["kept"], content.get("kind", "structured")
    if not isinstance(name, str) or not name:
        raise ValueError(f"scheme file {path}: name must be a text, got {name!r}")
    if kind not in _KINDS:
        raise ValueError(
            f"scheme file {path}: kind must be one of {', '.join(_KINDS)}, got {kind!r}"
        )
    if not isinstance(kept, dict) or not kept:
        raise ValueError(f"scheme file {path}: kept must map layers to counts, got {kept!r}")
    for layer, count in kept.items():
        if type(count) is not int:
            raise ValueError(f"scheme file {path}: kept[{layer!r}] must be a count, got {count!r}")
    return _KINDS[kind](name, kept)
