"""Small networks out of a file, cut at one half by four methods, and how many answers are wrong.

    python bench/cases.py networks.py

The file is run. It has `CASES`, an iterable of keys, and `build(key)`, which gives a network and a
tuple of what it takes. Beside it may lie `neutral.py` with `zero(network, key, inputs)`, which
makes every second channel zero, and the weights that read it, and returns the network, so that a
cut at one half loses nothing; and `NOT_NEUTRAL`, the keys of those that a cut changes all the same,
such as a GroupNorm over what goes.

Every network is compressed by `fsc.compress(network, images, pruning_ratio=0.5)` with the L1 norm,
cross distillation in closed form (estimation), FSKD, and MiR of two steps at a rate that is halved
until it converges. Prints two tables in Markdown. In the first, distances are relative to what of
the output differs from image to image, in float64: of the cut network from the masked one, the
largest of the four methods, and of the student from a network whose second channels are zero. A
wrong answer is either of them above 1e-4, an output that is not finite or has another size, a
student that is another one when it is saved and loaded into a fresh network, or a teacher that has
changed; a warning does not excuse it. In the second stands what is not cut, and why.
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from case_files import Cases, Unfit
from torch import Tensor, nn

import fsc
from fsc.channels.cutting import Kept, cut_channels, mask_channels
from fsc.channels.groups import ChannelGroup
from fsc.channels.proof import TOLERANCE, channel_groups
from fsc.channels.propagation import AT_OUTPUT
from fsc.methods.base import Method
from fsc.networks.entry import Entry, enter
from fsc.networks.modes import evaluation_mode
from fsc.networks.operations import CONVOLUTION
from fsc.networks.outputs import tensors_of
from fsc.result import Result

METHODS: dict[str, Method] = {
    "L1": fsc.L1Norm(),
    "CD": fsc.CrossDistillation(fsc.Estimation()),
    "FSKD": fsc.FSKD(),
    "MiR": fsc.MiR(steps=2, learning_rate=1e-3, max_retries=80),
}
# Two steps of MiR move weights of which a neutral cut has nothing to say.
NEUTRAL = ("L1", "CD", "FSKD")
# Relative, in float64, of what was saved and loaded.
ROUNDING = 1e-10


@dataclass
class Row:
    """What was found of one network.

    Attributes:
        hidden: names of its convolutions but for those that make the output.
        cut: those of them that lost channels by the L1 norm.
        left: name of each that lost none -> why.
        refused: name of each method that gave no student -> its sentence.
        masked: name of each method -> how far the cut network is from the masked one, relative.
        neutral: name of each method -> how far a neutral cut moves the output, relative.
        wrong: what is wrong with students that were given, whether a warning was or not.
    """

    hidden: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    masked: dict[str, float] = field(default_factory=dict)
    neutral: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def outputs(network: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    """All that a network puts out in evaluation mode, in one row an image, [N, values]."""
    with evaluation_mode(network), torch.no_grad():
        return torch.cat([each.flatten(1) for each in tensors_of(network(*inputs))], 1)


def in_double(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Inputs for a network in float64."""
    return tuple(each.double() if each.is_floating_point() else each for each in inputs)


def apart(found: Tensor, expected: Tensor) -> float:
    """How far two outputs [N, values] are from each other, relative to what differs over images.

    Infinite where their sizes differ, or a value is not finite.
    """
    if found.shape != expected.shape:
        return math.inf
    # What is the same for every image, such as a bias, would make any difference look small.
    depends = expected - expected.mean(0) if len(expected) > 1 else expected
    far = float((found - expected).norm() / depends.norm().clamp(min=1e-30))
    return far if math.isfinite(far) else math.inf


def attempt(
    network: nn.Module, inputs: tuple[Tensor, ...], method: Method
) -> tuple[Result | None, str]:
    """A student cut at one half, or the sentence that says why there is none."""
    images = inputs[0] if len(inputs) == 1 else inputs
    try:
        return fsc.compress(network, images, method=method, pruning_ratio=0.5, progress=False), ""
    except Exception as error:  # whatever goes wrong is what is to be measured
        return None, told(error)


def told(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def kept_of(groups: Sequence[ChannelGroup], rows: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """The channels that stay of each group, from the rows that stay of each layer."""
    kept = {}
    for group in groups:
        stays = torch.zeros(group.size, dtype=torch.bool)
        for slot in group.slots:
            if slot.role == "writer":
                own = slot.channels[rows[slot.name]] if slot.name in rows else slot.channels
                stays[own[own >= 0]] = True
        if not bool(stays.all()):
            kept[group.name] = stays.nonzero().flatten()
    return kept


def from_masked(
    entry: Entry, groups: Sequence[ChannelGroup], kept: Kept, student: nn.Module | None
) -> float:
    """How far a cut network is from the masked one; the student where that has the same weights."""
    masked, cut = (copy.deepcopy(entry.teacher).double() for _ in range(2))
    mask_channels(masked, groups, kept)
    cut_channels(cut, groups, kept)
    if student is not None:
        cut = copy.deepcopy(student).double()
    given = in_double([entry.images])
    return apart(outputs(cut, given), outputs(masked, given))


def comes_back(cases: Cases, key: object, student: nn.Module) -> bool:
    """Whether a student is saved, and loaded into a fresh network, as it is."""
    network, inputs = cases.build(key)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "student.safetensors"
        fsc.save(student, path)
        loaded = fsc.load(path, model=network)
    pair = (copy.deepcopy(each).double() for each in (loaded, student))
    return apart(*(outputs(each, in_double(inputs)) for each in pair)) <= ROUNDING


def by_method(cases: Cases, key: object, label: str, row: Row) -> None:
    """Compress a network, look at the student, and write into the row what was found."""
    network, inputs = cases.build(key)
    before = copy.deepcopy(network.state_dict())
    result, sentence = attempt(network, inputs, METHODS[label])
    state = network.state_dict()
    if state.keys() != before.keys() or any(not torch.equal(state[k], before[k]) for k in before):
        row.wrong.append(f"{label}: the teacher is not what it was")
    if result is None:
        row.refused[label] = sentence
        return
    student = result.student
    entry = enter("cases", network, inputs[0] if len(inputs) == 1 else inputs)
    groups = channel_groups(entry.teacher, entry.images[:1])
    kept = kept_of(groups, result.report.kept)
    row.masked[label] = from_masked(entry, groups, kept, student if label == "L1" else None)
    if label == "L1":
        count(network, inputs, result, row)
    if not row.masked[label] <= TOLERANCE:
        row.wrong.append(f"{label}: cut and masked differ by {row.masked[label]:.0e}")
    found, expected = (outputs(each, inputs) for each in (student, network))
    if found.shape != expected.shape or not bool(found.isfinite().all()):
        row.wrong.append(f"{label}: outputs are not finite, or of another size")
    try:
        same = comes_back(cases, key, student)
    except Exception as error:  # that it cannot be saved is no wrong answer
        row.refused[f"{label}, saved"] = told(error)
    else:
        row.wrong += [] if same else [f"{label}: does not come back from its file"]


def count(network: nn.Module, inputs: tuple[Tensor, ...], result: Result, row: Row) -> None:
    """Which convolutions do not make the output, which were cut, and why the others were not."""
    left = fsc.inspect(network, inputs[0] if len(inputs) == 1 else inputs).left
    for change in result.report.changes:
        layer = result.student.get_submodule(change.name)
        if not isinstance(layer, CONVOLUTION) or left.get(change.name) == AT_OUTPUT:
            continue
        row.hidden.append(change.name)
        if change.channels < change.channels_teacher:
            row.cut.append(change.name)
        else:
            row.left[change.name] = left.get(change.name, "no reason is given")


def by_neutral_cut(cases: Cases, key: object, label: str, row: Row) -> None:
    """Cut what is zero already, in float64, and write into the row how far the output moves."""
    neutral = cases.neutral(key)
    if neutral is None:
        return
    network, inputs = neutral[0].double(), in_double(neutral[1])
    result, sentence = attempt(network, inputs, METHODS[label])
    if result is None:
        row.refused.setdefault(label, f"neutral: {sentence}")
        return
    row.neutral[label] = apart(*(outputs(each, inputs) for each in (result.student, network)))
    if not row.neutral[label] <= TOLERANCE:
        row.wrong.append(f"{label}: a neutral cut moves the output by {row.neutral[label]:.0e}")


def measure(cases: Cases, key: object) -> Row:
    """Everything about one network."""
    row = Row()
    for label in METHODS:
        by_method(cases, key, label, row)
    for label in NEUTRAL:
        by_neutral_cut(cases, key, label, row)
    return row


def tables(rows: Mapping[Any, Row]) -> str:
    """What was found in Markdown: a line a network, all together, then what stays whole."""
    titles = ["network", "hidden convolutions", "cut", "students", "cut − masked"]
    titles += [f"neutral: {label}" for label in NEUTRAL]
    lines = [f"| {' | '.join([*titles, 'wrong'])} |", "|---" * (len(titles) + 1) + "|"]
    for key, row in rows.items():
        missing = [label for label in METHODS if label in row.refused]
        cells = [str(key), str(len(row.hidden)), str(len(row.cut))]
        cells.append(f"not {', '.join(missing)}" if missing else "all")
        cells.append(f"{max(row.masked.values()):.0e}" if row.masked else "")
        cells += [f"{row.neutral[n]:.0e}" if n in row.neutral else "" for n in NEUTRAL]
        lines.append(f"| {' | '.join([*cells, '; '.join(row.wrong) or '0'])} |")
    every = rows.values()
    hidden, cut = (sum(len(getattr(row, name)) for row in every) for name in ("hidden", "cut"))
    refused, wrong = (
        sum(len(getattr(row, name)) for row in every) for name in ("refused", "wrong")
    )
    share = 100 * cut / max(hidden, 1)
    lines += ["", f"{cut} of {hidden} hidden convolutions cut, {share:.0f} %; {refused} refusals, "]
    lines[-1] += f"{wrong} wrong answers."
    stays = [(key, name, why) for key, row in rows.items() for name, why in row.left.items()]
    stays += [(key, name, why) for key, row in rows.items() for name, why in row.refused.items()]
    if stays:
        lines += ["", "| network | stays whole, or is refused | why |", "|---|---|---|"]
        lines += [f"| {key} | {name} | {why} |" for key, name, why in stays]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every network of a file and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", metavar="PATH", type=Path, help="a Python file; it is run")
    parser.add_argument("keys", metavar="KEY", nargs="*", help="these networks alone")
    given = parser.parse_args(arguments)
    try:
        cases = Cases(given.path)
        known = {str(key): key for key in cases}
        unknown = [key for key in given.keys if key not in known]
        if unknown:
            raise Unfit(f"KEY must be one of {', '.join(known)}, got {unknown[0]}")
    except Unfit as error:
        parser.error(str(error))
    print(tables({key: measure(cases, known[key]) for key in given.keys or known}))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    main()
