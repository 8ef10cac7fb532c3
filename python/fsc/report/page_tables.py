"""Tables of a page: before and after, layer by layer, and how it was done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fsc.report.interval import wilson
from fsc.report.known import TIMES
from fsc.report.markup import Markup, joined, rows, table, tag, text
from fsc.report.page_pictures import before_of, strip
from fsc.report.summary import is_sparse, millions, share

_LONG_NAME = 24
_COLUMNS = ("before", "after", "compared")


def before_and_after(known: Mapping[str, Any]) -> Markup:
    """Student beside teacher, in all that is known of both."""
    body = [rows("td", cells, class_="number") for cells in _measures(known)]
    headings = ["", *map(_head, _COLUMNS)]
    return table("Teacher and student", headings, body)


def _measures(known: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """What is measured, of the teacher, of the student, and how they compare."""
    if "top1" in known and "top1_teacher" in known:
        yield _accuracy("right answers", known, "top1")
        if known.get("test_images"):
            values = (known["top1_teacher"], known["top1"])
            ends = [wilson(value, known["test_images"]) for value in values]
            before, after = (f"{low:.1f}–{high:.1f}" for low, high in ends)
            yield "its 95 % interval", before, after, ""
    if "top5" in known and "top5_teacher" in known:
        yield _accuracy("among the first five", known, "top5")
    yield _pair("parameters", known, "parameters", "{:,}".format)
    if is_sparse(known):
        whole = known["parameters_teacher"]
        left = share(known["nonzero"], whole)
        yield "parameters that are not zero", "", f"{known['nonzero']:,}", left
    yield _pair("multiply-accumulates for one image", known, "flops", millions)
    for name, key, form in (
        ("size of the file", "kilobytes", "{:,.0f} kB"),
        *((f"time for {what}", key, _milliseconds(key)) for key, what in TIMES.items()),
    ):
        if known.get(key) is not None and known.get(f"{key}_teacher") is not None:
            yield _pair(name, known, key, form.format)


def _milliseconds(key: str) -> str:
    return "{:,.1f} ms" if "batch" in key else "{:,.2f} ms"


def _accuracy(name: str, known: Mapping[str, Any], key: str) -> tuple[str, str, str, str]:
    before, after = known[f"{key}_teacher"], known[key]
    points = _signed(f"{after - before:+.2f} points")
    # The hyphen is one that no line breaks at.
    named = f"{name} (top\u2011{key.removeprefix('top')})"
    return named, f"{before:.2f} %", f"{after:.2f} %", points


def _signed(number: str) -> str:
    """A number with the sign for minus, as wide as that for plus."""
    return number.replace("-", "\u2212")


def _pair(name: str, known: Mapping[str, Any], key: str, form: Any) -> tuple[str, str, str, str]:
    before, after = known[f"{key}_teacher"], known[key]
    return name, form(before), form(after), share(after, before)


def layers(known: Mapping[str, Any]) -> Markup:
    """Every layer: its channels and weights before and after, what went, and what it cost."""
    solved = {layer["name"]: layer for layer in known["layers"]}
    headings: list[object] = ["no.", "layer", *map(_head, ("channels before", "after"))]
    sparse = ("not zero",) if is_sparse(known) else ()
    headings += ["which stay", *map(_head, ("weights before", "after", *sparse))]
    headings.append("what became of it")
    headings += map(_head, ("error before", "after")) if solved else ()
    body = []
    for number, change in enumerate(known["changes"], start=1):
        cells: list[Any] = [number, tag("td", *_breakable(change["name"]), class_="name")]
        cells += _counts(change, "channels")
        cells += [tag("td", _which_stay(change, known)), *_counts(change, "weights")]
        cells += [_number(f"{change['nonzero']:,}")] if sparse else []
        cells.append(tag("td", *_fate(change, known), class_="fate"))
        if solved:
            cells += _errors(solved.get(change["name"]))
        body.append(rows("td", cells))
    return table("Layers in the order of the network", headings, body)


def _breakable(name: str) -> list[object]:
    """A name; a long one may be broken behind its dots."""
    if len(name) <= _LONG_NAME:
        return [name]
    first, *others = name.split(".")
    return [first, *(part for each in others for part in (".", tag("wbr"), each))]


def _head(name: str) -> Markup:
    """A heading of a column of numbers."""
    return tag("th", name, scope="col", class_="number")


def _number(content: object) -> Markup:
    return tag("td", content, class_="number")


def _counts(change: Mapping[str, Any], kind: str) -> list[Markup]:
    return [_number(f"{change[name]:,}") for name in (f"{kind}_teacher", kind)]


def _errors(layer: Mapping[str, Any] | None) -> list[Markup]:
    if layer is None:
        return [_number(""), _number("")]
    before = before_of(layer)
    start = "" if before is None else f"{before:.4f}"
    return [_number(start), _number(f"{layer['relative_error']:.4f}")]


def _which_stay(change: Mapping[str, Any], known: Mapping[str, Any]) -> Markup:
    total, stays = change["channels_teacher"], known["kept"].get(change["name"])
    if stays is None and 0 < change["channels"] < total:
        return Markup()  # those of the layer that it filters
    if stays is None:
        stays = range(change["channels"])
    return strip(stays, total)


def _fate(change: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[object]:
    """What became of a layer, in words."""
    name, gone = change["name"], change["channels_teacher"] - change["channels"]
    block = next((b for b in known["dropped"] if name == b or name.startswith(f"{b}.")), None)
    if block is not None:
        yield f"gone with its block {block}"
    elif name in known["decoupled"]:
        yield f"two layers now, of {known['decoupled'][name]} filters for each input channel"
    elif gone:
        yield "1 channel went" if gone == 1 else f"{gone:,} channels went"
    elif name in known["left"]:
        yield tag("a", "keeps its channels, see why", href="#stayed")
        if change["weights"] < change["weights_teacher"]:
            yield ", and reads fewer"
        elif is_sparse(known) and change["nonzero"] < change["weights"]:
            yield ", and loses weights"
    elif change["weights"] < change["weights_teacher"]:
        yield "reads fewer channels"
    elif is_sparse(known) and change["nonzero"] < change["weights"]:
        yield f"{share(change['nonzero'], change['weights'])} of its weights stay"
    else:
        yield "as large as it was"


def statistics(images: Mapping[str, Any]) -> Markup:
    """Mean, deviation and range of each channel of the images."""
    names = ("mean", "deviation", "minimum", "maximum")
    body = [
        rows("td", (number, *(_signed(f"{value:.3f}") for value in values)), class_="number")
        for number, values in enumerate(zip(*(images[n] for n in names), strict=True), start=1)
    ]
    headings = ["channel", *map(_head, names)]
    return table("Images as the network reads them, over all pixels", headings, body)


def settings(caption: str, values: Mapping[str, Any]) -> Markup:
    """Names and values; what lies in others is named after them."""
    body = [rows("td", (name, _value(value))) for name, value in _flat(values)]
    return table(caption, ["name", "value"], body)


def _flat(values: Mapping[str, Any], of: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            kind = value.get("type")
            if kind is not None:
                yield f"{of}{name}", kind
            rest = {key: inner for key, inner in value.items() if key != "type"}
            yield from _flat(rest, f"{of}{name}.")
        else:
            yield f"{of}{name}", value


def _value(value: Any) -> Markup:
    if value is None or isinstance(value, bool):
        return text({None: "none", True: "yes", False: "no"}[value])
    if isinstance(value, list | tuple):
        return joined([", ".join(map(str, value)) or "none"])
    return text(value)
