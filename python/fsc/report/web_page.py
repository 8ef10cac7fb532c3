"""A compression as one page for people: nothing to fetch, nothing to run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from fsc.arguments import check_text
from fsc.images.joint import Inputs
from fsc.report import page_images, page_pictures, page_tables
from fsc.report.known import check_statistics, told_of
from fsc.report.markup import Markup, joined, tag
from fsc.report.page_style import STYLE
from fsc.report.summary import asked, is_sparse, millions, share

# Of a report, as `fsc.Report` names them.
_NEEDED = (
    *("method", "hyper_parameters", "scheme", "num_images", "inputs", "images", "seed", "device"),
    *("dtype", "seconds", "parameters", "parameters_teacher", "nonzero", "flops", "flops_teacher"),
    *("distance", "distance_of", "distance_start", "layers", "learning_rates", "kept", "changes"),
    *("dropped", "decoupled", "left", "warnings", "rewritten", "versions"),
)
# Nothing may be fetched or run, whatever a name of a layer tries.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class Told(Protocol):
    """What an `fsc.Report` can do."""

    def to_dict(self) -> dict[str, Any]:
        """The report as plain lists, dicts, strings and numbers."""


class Made(Protocol):
    """What an `fsc.Result` has."""

    @property
    def report(self) -> Told:
        """What was done."""


def page(
    result: Made | Told | Mapping[str, Any],
    images: Inputs | None = None,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    known: Mapping[str, Any] | None = None,
    command: str | None = None,
) -> str:
    """Write a compression as one HTML page, that needs no other file, no network and no script.

    Args:
        result: an `fsc.Result`, its report, or what a report.json of `fsc compress` holds.
        images: the images that it was made from, or some of them, of which a few are shown: a
            tensor, or the tuple or dict of a network with several inputs. None: none are shown.
        mean: what was subtracted from each channel of images between 0 and 1, so that they look as
            they did; None: each is stretched from its darkest to its brightest pixel.
        std: what divided it.
        known: what else is known, by the names of report.json: "model", "data", "shots" and
            "ways"; "top1" and "top5" in percent, "kilobytes", "milliseconds" and
            "milliseconds_batch" (of 64 images), both also with "_compiled", each with the
            teacher's ("top1_teacher"); "test_images", how many were counted;
            "notes", a list of sentences; "method_in_words".
        command: what repeats it.

    Returns:
        The page, to be written as UTF-8.

    Raises:
        ValueError: a report without something that the page tells, images that are not finite, of
            other shapes or more than it tells of, mean and std do not fit, or what is known has
            another name, makes no sense or lacks the teacher's.
        TypeError: an argument is of the wrong type.

    Example:
        >>> import fsc, torch
        >>> from fsc import models
        >>> images = torch.randn(4, 3, 16, 16)
        >>> result = fsc.compress(models.build("resnet14"), images, method="l1", flops=0.6)
        >>> page(result, images, known={"model": "resnet14"}).startswith("<!doctype html>")
        True
    """
    told = told_of(_held(result), known)
    check_statistics(mean, std)
    if command is not None:
        check_text("page: command", command)
    network = Path(str(told["model"])).name if told["model"] else "A network"
    title = f"{network}, compressed by the method {told.get('method_name') or told['method']}"
    body = tag(
        "main",
        tag("h1", title),
        *_lead(told, command),
        *_warnings(told),
        *_measured(told),
        *_layers(told),
        *page_images.section(told, images, mean, std),
        *_how(told),
    )
    return f"<!doctype html>\n{tag('html', _head(title), tag('body', body), lang='en')}\n"


def _held(result: Made | Told | Mapping[str, Any]) -> Mapping[str, Any]:
    """What a report holds, once it is known that it is whole."""
    asked_for = "page: result must be an fsc.Result, its report or what a report.json holds, got"
    report: Any = getattr(result, "report", result)
    if not isinstance(report, Mapping) and not hasattr(report, "to_dict"):
        raise TypeError(f"{asked_for} {type(result).__name__}")
    held: Mapping[str, Any] = report if isinstance(report, Mapping) else report.to_dict()
    missing = [name for name in _NEEDED if name not in held]
    if missing:
        raise ValueError(f"{asked_for} one without {missing[0]!r}")
    return held


def _head(title: str) -> Markup:
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", Markup(STYLE)),
    )


def _lead(told: Mapping[str, Any], command: str | None) -> Iterator[Markup]:
    parameters = (told["parameters_teacher"], told["parameters"])
    flops = (told["flops_teacher"], told["flops"])
    images = "1 image" if told["num_images"] == 1 else f"{told['num_images']:,} images"
    said = (
        f"From {images}, in {told['seconds']:.1f} seconds: {parameters[0]:,} parameters became "
        f"{parameters[1]:,} ({share(*reversed(parameters))}), {millions(flops[0])} "
        f"multiply-accumulates became {millions(flops[1])} ({share(*reversed(flops))})."
    )
    # A number and its unit stay in one line.
    yield tag("p", said.replace(" %", "\u00a0%").replace(" M", "\u00a0M"))
    goal = asked(told["scheme"], told["model"])
    wanted = f"Scheme {told['scheme']}: {goal}." if goal else f"Scheme {told['scheme']}."
    how = told.get("method_in_words")
    yield tag("p", wanted, f" Method {told['method']}: {how}." if how else "")
    if command is not None:
        yield tag("p", "This repeats it, with --overwrite where the files are that it wrote:")
        yield tag("pre", tag("code", _unbroken(command)))


def _warnings(told: Mapping[str, Any]) -> Iterator[Markup]:
    if told["warnings"]:
        items = tag("ul", *(tag("li", _unbroken(each)) for each in told["warnings"]))
        yield tag("section", tag("h2", "Warnings"), items, class_="warnings")


def _unbroken(sentence: str) -> Markup:
    """Text whose flags are not broken behind a hyphen."""
    parts = re.split(r"( )", sentence)
    return joined(tag("span", p, class_="flag") if p[:2] == "--" else p for p in parts)


def _measured(told: Mapping[str, Any]) -> Iterator[Markup]:
    yield tag("h2", "Before and after")
    yield page_tables.before_and_after(told)
    notes = list(told.get("notes") or ())
    if "top1" not in told:
        notes.insert(0, "Right answers were not counted.")
    start = told["distance_start"]
    before = "" if start is None else f"; before anything was recovered by {start:.3g}"
    notes.append(
        f"On the images given the student's outputs differ from the teacher's by "
        f"{told['distance']:.3g} of their {told['distance_of']}{before}."
    )
    yield tag("ul", *(tag("li", note) for note in notes), class_="note")


def _layers(told: Mapping[str, Any]) -> Iterator[Markup]:
    yield tag("h2", "Layer by layer")
    numbers = {each["name"]: number for number, each in enumerate(told["changes"], start=1)}
    if told["changes"]:
        yield page_pictures.kept(told["changes"], is_sparse=is_sparse(told)) or tag(
            "p", "Every layer keeps all of its channels and weights."
        )
    known = [layer for layer in told["layers"] if layer["name"] in numbers]
    drawn = page_pictures.errors(known, [numbers[layer["name"]] for layer in known])
    if drawn is not None:
        yield drawn
        yield tag(
            "p",
            "The error of a layer is the distance of its outputs from the teacher's, as a share of "
            "their mean square; before: with the teacher's weights on the channels that stay.",
            class_="note",
        )
    elif not told["layers"]:
        yield tag("p", "This method does not solve layers one by one: none has its own error.")
    yield page_tables.layers(told)
    if told["changes"]:
        counted = "Weights are counted with those that are zero, before and after, biases are not."
        yield tag("p", counted, class_="note")
    if told["kept"]:
        where = "Which channels stay, by number, is in report.json and in the report's field kept."
        yield tag("p", where, class_="note")
    yield from _stayed(told["left"])


def _stayed(left: Mapping[str, str]) -> Iterator[Markup]:
    """What was to be changed and could not be, by reasons."""
    reasons: dict[str, list[str]] = {}
    for name, reason in left.items():
        reasons.setdefault(reason, []).append(name)
    if reasons:
        yield tag("h3", "Channels that stayed, and why", id="stayed")
        items = [
            tag("li", tag("code", ", ".join(names)), f": {reason}")
            for reason, names in reasons.items()
        ]
        yield tag("ul", *items)


def _how(told: Mapping[str, Any]) -> Iterator[Markup]:
    yield tag("h2", "How it was done")
    run = {name: told[name] for name in ("seed", "device", "dtype", "learning_rates")}
    if not run["learning_rates"]:
        del run["learning_rates"]
    given = {**told["hyper_parameters"], **run}
    yield page_tables.settings("Hyper-parameters, seed and device", given)
    if told["rewritten"]:
        yield tag("p", "Rewritten in layers of torch.nn before:")
        yield tag("ul", *(tag("li", *_rewriting(each)) for each in told["rewritten"]))
    yield page_tables.settings("Versions", told["versions"])


def _rewriting(each: Mapping[str, Any]) -> Iterator[object]:
    yield tag("code", each["name"] or "the network")
    became = f" became {each['became']}" if each["became"] else " stays as it is"
    remark = f": {each['remark']}" if each["remark"] else ""
    yield joined([f", {each['was']},{became}{remark}"])
