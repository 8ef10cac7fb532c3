"""Schemes of the user's own, from JSON."""

from __future__ import annotations

import os

from fsc.files import read_json
from fsc.schemes.sparse import SparseScheme
from fsc.schemes.structured import Scheme


def from_json(path: str | os.PathLike[str]) -> Scheme | SparseScheme:
    """Read a scheme of one's own: {"name": "mine", "kept": {"features.0": 32, ...}}.

    The counts are output channels, or single weights with "kind": "sparse" beside the name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no JSON or not of this form.
    """
    content = read_json(path, "scheme file")
    if not isinstance(content, dict) or set(content) - {"kind"} != {"name", "kept"}:
        raise ValueError(
            f"scheme file {path} must hold an object with name, kept and, where it is sparse, kind"
        )
    name, kept, kind = content["name"], content["kept"], content.get("kind", "structured")
    if not isinstance(name, str) or not name:
        raise ValueError(f"scheme file {path}: name must be a text, got {name!r}")
    if kind not in ("structured", "sparse"):
        raise ValueError(f"scheme file {path}: kind must be structured or sparse, got {kind!r}")
    if not isinstance(kept, dict) or not kept:
        raise ValueError(f"scheme file {path}: kept must map layers to counts, got {kept!r}")
    for layer, count in kept.items():
        if type(count) is not int:
            raise ValueError(f"scheme file {path}: kept[{layer!r}] must be a count, got {count!r}")
    return SparseScheme(name, kept) if kind == "sparse" else Scheme(name, kept)
