"""A compression in about ten lines, as text and as a table for notebooks."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from fsc import models, scheme_tables
from fsc.report.markup import tag
from fsc.schemes.reasons import kind_of

# Names of layers that a line has room for, or reasons that the whole has.
_MOST_NAMES = 3
# Characters of a line.
_WIDTH = 100
_ASKED = (
    (r"flops-([\d.e-]+)", 100.0, "{} % of the multiply-accumulates were to stay"),
    (r"parameters-([\d.e-]+)", 100.0, "{} % of the parameters were to stay"),
    (r"structured-([\d.e-]+)", 1.0, "{} % of the channels of every set were to go"),
    (
        r"slimming-([\d.e-]+)",
        1.0,
        "{} % of the sets of channels were to go",
    ),
    (r"blocks-(1)", 1.0, "{} residual block was to go"),
    (r"blocks-(\d+)", 1.0, "{} residual blocks were to go"),
    (r"latency-([\d.e-]+)", 1.0, "blocks were to go until {} % of the latency stay"),
)


def asked(scheme: str, model: str | None = None) -> str:
    """What a scheme was to do, in words; "" where its name says nothing.

    Args:
        scheme: its name.
        model: the network's, of `fsc.models` or any other.

    Example:
        >>> asked("flops-0.5")
        '50 % of the multiply-accumulates were to stay'
    """
    for pattern, factor, words in _ASKED:
        if found := re.fullmatch(pattern, scheme):
            return words.format(f"{factor * float(found[1]):g}")
    if scheme not in scheme_tables.names():
        return ""
    words = scheme_tables.in_words(scheme, model if model in models.names() else None)
    return f"the scheme {words}" if words else ""


def is_sparse(report: Mapping[str, Any]) -> bool:
    """Whether single weights of a student are zero, and more of them than by chance."""
    return bool(report["nonzero"] < 0.99 * report["parameters"])


def share(after: float, before: float) -> str:
    """How much is left, in percent; "" where there was nothing."""
    return f"{100 * after / before:.0f} %" if before else ""


def millions(count: int) -> str:
    """Multiply-accumulates in millions."""
    return f"{count / 1e6:,.2f} M"


def few(names: Sequence[str]) -> str:
    """Some names, and how many others there are."""
    rest = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def lines(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a report says first: (what, how much), about ten of them.

    Args:
        report: as `fsc.Report.to_dict` gives it.
    """
    images = "1 image" if report["num_images"] == 1 else f"{report['num_images']:,} images"
    method = report.get("method_name") or report["method"]
    goal = asked(report["scheme"]) or f"scheme {report['scheme']}"
    found = [
        ("method", f"{method}, from {images}, in {report['seconds']:.1f} s"),
        ("asked for", goal),
        ("parameters", _change(report, "parameters", "{:,}".format)),
    ]
    if is_sparse(report):
        zero = share(report["nonzero"], report["parameters"])
        found.append(("not zero", f"{report['nonzero']:,} ({zero} of the student's)"))
    found.append(("multiply-accumulates", _change(report, "flops", millions)))
    found += _layers(report)
    distance = f"{report['distance']:.3g} of the {report['distance_of']} of the teacher's"
    if report["distance_start"] is not None:
        distance += f"; {report['distance_start']:.3g} before anything was recovered"
    found.append(("outputs differ by", distance))
    found += _worst(report["layers"])
    found += [("stays", reason) for reason in _reasons(report["left"])]
    found += [("warning", warning) for warning in report["warnings"]]
    return found


def as_text(report: Mapping[str, Any]) -> str:
    """The lines as text, in two columns."""
    found = lines(report)
    width = max(len(what) for what, _ in found)
    return "\n".join(
        textwrap.fill(
            # Reasons and warnings are sentences of their own, which may hold lines.
            " ".join(said.split()),
            _WIDTH,
            initial_indent=f"{what:<{width}}  ",
            subsequent_indent=" " * (width + 2),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for what, said in found
    )


def as_table(report: Mapping[str, Any]) -> str:
    """The lines as a table in HTML."""
    left = "text-align: left; vertical-align: top"
    body = [
        tag("tr", tag("th", what, scope="row", style=left), tag("td", said, style=left))
        for what, said in lines(report)
    ]
    return str(tag("table", tag("tbody", *body)))


def _change(report: Mapping[str, Any], name: str, form: Any) -> str:
    before, after = report[f"{name}_teacher"], report[name]
    return f"{form(before)} -> {form(after)} ({share(after, before)})"


def _layers(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How many layers became smaller, and how."""
    changes, found = report["changes"], []
    changed = [each for each in changes if each["channels"] < each["channels_teacher"]]
    gone = sum(each["channels_teacher"] - each["channels"] for each in changed)
    total = sum(each["channels_teacher"] for each in changes)
    if changed:
        lose = "loses" if len(changed) == 1 else "lose"
        said = f"{len(changed)} of {len(changes)} {lose} channels, {gone:,} of {total:,} go"
        found.append(("layers", said))
    if report["dropped"]:
        found.append(("blocks gone", few(report["dropped"])))
    if report["decoupled"]:
        names = list(report["decoupled"])
        found.append(("two layers each", f"{len(names)}: {few(names)}"))
    return found


def _worst(layers: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    if not layers:
        return []
    worst = max(layers, key=lambda layer: layer["relative_error"])
    said = f"{worst['relative_error']:.3g} of {worst['name']}'s outputs"
    return [("largest layer error", said)]


def _reasons(left: Mapping[str, str]) -> list[str]:
    """Why layers stay: the commonest kinds of reasons, with layers of each."""
    kinds: dict[str, list[str]] = {}
    for name, reason in left.items():
        kinds.setdefault(kind_of(reason), []).append(name)
    ordered = sorted(kinds.values(), key=len, reverse=True)
    said = [_reason(names, left) for names in ordered[:_MOST_NAMES]]
    rest = sum(map(len, ordered[_MOST_NAMES:]))
    return said + ([f"and {rest} more, in report.left"] if rest else [])


def _reason(names: Sequence[str], left: Mapping[str, str]) -> str:
    """Why some layers stay, for reasons of one kind: in full of the first where they differ."""
    reason, rest = left[names[0]], len(names) - 1
    if rest and all(left[name] == reason for name in names):
        return f"{few(names)}: {reason}"
    # Most reasons begin with the name of their layer.
    said = reason if repr(names[0]) in reason else f"{names[0]}: {reason}"
    return said + (f"; and {rest} more likewise, in report.left" if rest else "")
