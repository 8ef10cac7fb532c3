"""The model card of a compressed network: Markdown with YAML in front, as model hubs show it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fsc.models import factories
from fsc.result import Report

_FRONT = """---
library_name: fsc
tags:
- fsc
- model-compression
- pruning
---
"""
_LOADING = """## How to load it

```python
import fsc

model = fsc.from_pretrained("path/to/this/folder"{argument})
```
{meaning}
`fsc evaluate path/to/this/folder --data DATA{flag}` counts its right answers on images with labels.
No code of this folder is run. `config.json` says what the header of `model.safetensors` says."""
_MOST_NAMES = 10


def card(header: Mapping[str, Any], report: Report | None, measured: Mapping[str, float]) -> str:
    """The text of a card.

    Args:
        header: of the network's file.
        report: how it came about; None: nothing is known of that.
        measured: what was measured -> the value; empty: nothing was.

    Example:
        >>> print(card({"model": "resnet14"}, None, {}).splitlines()[8])
        # resnet14
    """
    name = _title(header.get("model") or header.get("source"))
    title = f"# {name or 'A network'}"
    parts = [title if report is None else f"{title}, compressed"]
    if header.get("description"):
        parts.append(_line(header["description"]))
    if report is not None:
        parts += ["## What is left", _sizes(report), _made(header, report)]
    if measured:
        rows = [f"| {_line(what)} | {value:.2f} |" for what, value in measured.items()]
        parts += ["## Accuracy", "\n".join(["| measured | |", "|---|---|", *rows])]
    else:
        parts.append("No accuracy was measured.")
    if "normalization" in header:
        parts += ["## Images", _images(header)]
    parts.append(_loading(header))
    return "\n".join([_FRONT, "\n\n".join(parts), ""])


def _title(name: Any) -> str:
    """A network or data in a card: a file or folder by its own name alone."""
    return _line(Path(name).name) if isinstance(name, str) else ""


def _line(text: Any) -> str:
    """A text as one line that breaks no table and is no markup."""
    return re.sub(r"([\\|<>`\[\]*_])", r"\\\1", " ".join(str(text).split()))


def _code(text: Any) -> str:
    """A name as code, where nothing is markup but the end of it."""
    return "`" + " ".join(str(text).split()).replace("`", "'") + "`"


def _sizes(report: Report) -> str:
    counts = {
        "parameters": (report.parameters_teacher, report.parameters),
        "multiply-accumulates for one image": (report.flops_teacher, report.flops),
    }
    if report.nonzero < 0.99 * report.parameters:
        counts["parameters that are not zero"] = (report.parameters_teacher, report.nonzero)
    rows = [
        f"| {what} | {before:,} | {after:,} | {100 * after / max(before, 1):.1f} % |"
        for what, (before, after) in counts.items()
    ]
    return "\n".join(["| | before | after | left |", "|---|---|---|---|", *rows])


def _made(header: Mapping[str, Any], report: Report) -> str:
    """How it came about, a point each."""
    data = f" of {_title(header['data'])}" if "data" in header else ""
    images = "image" if report.num_images == 1 else "images"
    method = header.get("method", report.method_name or report.method)
    points = [
        f"Made by the method {_code(method)}, scheme {_code(report.scheme)}, seed "
        f"{report.seed}, from {report.num_images:,} {images}{data}.",
        f"On these images its outputs differ from the original's by {100 * report.distance:.2f} % "
        f"of the {report.distance_of} of these.",
    ]
    lists = {
        "Layers with fewer channels": list(report.kept),
        "Blocks that are gone": report.dropped,
        "Layers in two, depthwise and pointwise": list(report.decoupled),
        "Layers that keep all their channels, or could not be changed": list(report.left),
    }
    points += [f"{what}: {_some(names)}." for what, names in lists.items() if names]
    points += [f"Warning: {_line(sentence)}." for sentence in report.warnings]
    return "\n".join(f"- {point}" for point in points)


def _some(names: list[str]) -> str:
    """How many names, and the first of them."""
    shown = ", ".join(map(_code, names[:_MOST_NAMES]))
    return f"{len(names)} ({shown}{', ...' if len(names) > _MOST_NAMES else ''})"


def _images(header: Mapping[str, Any]) -> str:
    """How images become what the network reads."""
    mean, std = (list(header["normalization"][key]) for key in ("mean", "std"))
    text = f"Values between 0 and 1, minus {mean}, divided by {std}, a number for each channel."
    preparation = header.get("preparation")
    if preparation and preparation["size"]:
        side, crop = preparation["size"]
        text = (
            f"Resized ({preparation['interpolation']}) so that the shorter side has {side} pixels, "
            f"of which the middle {crop} x {crop} are cut out. {text}"
        )
    return text


def _loading(header: Mapping[str, Any]) -> str:
    if header.get("model") or factories.of_library(header.get("source")) is not None:
        return _LOADING.format(argument="", flag="", meaning="")
    return _LOADING.format(
        argument=", model=network",
        flag=" --model FILE.py:FUNCTION",
        meaning="\nwhere `network` is the one that it was made from, before compression.\n",
    )
