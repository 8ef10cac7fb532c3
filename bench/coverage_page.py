"""The page that `bench/coverage.py` writes."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from coverage_networks import NETWORKS

# Of what torch-pruning takes away, that counts as no less.
AS_MUCH = 0.95

_HEAD = """# Real networks, cut at one half

What stays of the classification CNNs of torchvision {torchvision} up to 100 M parameters and of
CNNs of timm {timm}, a family each, with random weights on {images} images of 64x64 (96x96 for the
Inceptions, 256x256 for BoTNet), where a half of the channels of every group goes by the L1 norm,
the squeezes of gates too; beside it the pruner of torch-pruning {pruning} (magnitude, one half, the
layers that make the output left alone) on the same network. torch {torch}, CPU, one thread;
{made}.

```sh
python bench/coverage.py --json coverage.json
```

{counts}

- **− %**: share of the parameters, then of the multiply-accumulates that went. **gates whole**: the
  same where the squeezes of gates stay, as they do in `schemes.structured` unless they are named.
- **methods**: which of L1, cross distillation in closed form (CD), FSKD and MiR (two steps, at a
  rate that is halved until it converges) end with finite outputs. The student of L1 and of CD is
  checked: cut, it computes what it computes masked (relative 1e-4 in float64); saved and loaded
  into a fresh network it is the same.
- Random weights say what can be cut, not what accuracy is left.
"""


def page(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The page in Markdown, of the rows that `measure` gave by the names of networks."""
    version = importlib.metadata.version
    head = _HEAD.format(
        torchvision=version("torchvision").split("+")[0],
        timm=version("timm"),
        pruning=version("torch-pruning"),
        images=2,
        made=_made(list(found.values())),
        torch=torch.__version__.split("+")[0],
        counts=_counts(found),
    )
    titles = (
        "network | M parameters | groups cut | fsc: − % | gates whole | torch-pruning | methods"
    )
    lines = [head, f"| {titles} |", "|---|---|---|---|---|---|---|"]
    lines += [_row(name, row) for name, row in sorted(found.items())]
    return "\n".join([*lines, "", *_misses(found), ""])


def _counts(found: Mapping[str, Mapping[str, Any]]) -> str:
    rows = list(found.values())
    cut = [row for row in rows if "shares" in row]
    beside = [row for row in cut if not isinstance(row["torch_pruning"], str)]
    ended = {
        label: sum(isinstance(row.get("methods", {}).get(label), dict) for row in rows)
        for label in ("L1", "CD", "FSKD", "MiR")
    }
    checked = sum(map(_is_checked, rows))
    back = sum(_comes_back(row.get("methods", {})) for row in rows)
    return "\n".join(
        [
            f"| of {len(rows)} networks{_so_far(len(rows))} | |",
            "|---|---|",
            f"| traced and cut, the cut network equal to the masked one | {checked} |",
            f"| torch-pruning works | {len(beside)} |",
            f"| ... of these, at least {AS_MUCH} of its shares | {sum(map(_as_much, beside))} |",
            f"| end with finite outputs | {', '.join(f'{k} {n}' for k, n in ended.items())} |",
            f"| students of L1 and CD come back from their files | {back} |",
        ]
    )


def _made(rows: Sequence[Mapping[str, Any]]) -> str:
    """When the rows were made, and of which code."""
    dates = sorted({row["date"] for row in rows if "date" in row})
    days = [f"{datetime.date.fromisoformat(day):%-d %B %Y}" for day in dates]
    codes = sorted({row["code"] for row in rows if "code" in row})
    known = f"measured {_span(days)} by the code of {' and '.join(codes)}" if days else ""
    unsaid = sum("date" not in row for row in rows)
    return "; ".join(filter(None, [known, f"{unsaid} rows do not say when" if unsaid else ""]))


def _span(days: Sequence[str]) -> str:
    return f"on {days[0]}" if len(days) == 1 else f"from {days[0]} to {days[-1]}"


def _is_checked(row: Mapping[str, Any]) -> bool:
    """Whether what L1 and CD cut computed what it computes masked, which they are asked."""
    methods = row.get("methods", {})
    return all(isinstance(methods.get(label), dict) for label in ("L1", "CD"))


def _so_far(count: int) -> str:
    left = len(NETWORKS) - count
    return f"; {left} more, most of them larger, are not measured yet" if left else ""


def _comes_back(methods: Mapping[str, Any]) -> bool:
    students = [methods.get(label) for label in ("L1", "CD")]
    return all(isinstance(each, dict) and each["comes_back"] is True for each in students)


def _as_much(row: Mapping[str, Any]) -> bool:
    pairs = zip(row["shares"], row["torch_pruning"], strict=True)
    return all(ours >= AS_MUCH * theirs for ours, theirs in pairs)


def _row(name: str, row: Mapping[str, Any]) -> str:
    cells = [name.partition("@")[0], f"{row['parameters'] / 1e6:.2f}"]
    cells.append(f"{row['free']} of {row['groups']}" if "groups" in row else "")
    cells += [_percent(row.get(key)) for key in ("shares", "without_gates")]
    cells.append(_percent(row["torch_pruning"]))
    methods = row.get("methods", {})
    missing = [label for label in ("L1", "CD", "FSKD", "MiR") if _fault(methods.get(label))]
    cells.append("all" if not missing else f"not {', '.join(missing)}")
    return f"| {' | '.join(cells)} |"


def _percent(shares: Any) -> str:
    if shares is None:
        return ""
    return "fails" if isinstance(shares, str) else "{:.1f}, {:.1f}".format(*shares)


def _fault(method: Any) -> str | None:
    """What is wrong with what a method made; None for nothing."""
    if method is None:
        return "not reached"
    if isinstance(method, str):
        return method
    came_back = method.get("comes_back", True)
    return None if came_back is True else f"does not come back: {came_back}"


def _misses(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Each network that misses something, and why."""
    lines = []
    for name, row in sorted(found.items()):
        faults = [row["fault"]] if row["fault"] else []
        for label, method in row.get("methods", {}).items():
            fault = _fault(method)
            faults += [f"{label}: {fault}"] if fault else []
        if "shares" in row and not isinstance(row["torch_pruning"], str) and not _as_much(row):
            faults.append("less goes than by torch-pruning")
        held = sorted(row.get("reasons", {}).items(), key=lambda pair: -pair[1])
        faults += [
            f"{share:.0f} % of the parameters stay: {why}" for why, share in held if share >= 1
        ]
        if faults:
            lines.append(f"- {name.partition('@')[0]}: {'; '.join(faults)}.")
    return ["Networks that miss something:", "", *lines] if lines else []
