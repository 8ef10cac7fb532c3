"""Whether a student that is smaller is faster, too, and whether a batch can be timed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from fsc.cli.evaluation import Measured
from fsc.cli.given import Inputs
from fsc.images.checks import device_of
from fsc.networks.latency import BATCH, largest_layer
from fsc.networks.operations import BATCH_NORM
from fsc.report.known import TIMES
from fsc.result import Report

# Of the teacher's cost or time: differences below one are within what measurements vary.
_SMALLER, _FASTER = 0.99, 0.97
# Beside what a layer reads and writes, what it computes in.
_ROOM = 2
_MEMORY = Path("/proc/meminfo")


def crowded(inputs: Inputs) -> str | None:
    """Why a batch is not timed where memory has no room for one; None where it has.

    An estimate from one image; limits of a container are not seen.
    """
    needed = _ROOM * BATCH * largest_layer(inputs.teacher, inputs.example)
    free = _free(device_of(inputs.teacher, inputs.example))
    if free is None or needed <= free:
        return None
    return (
        f"not timed for {BATCH} images: they need about {needed / 1e9:.1f} GB, "
        f"{free / 1e9:.1f} GB are free"
    )


def doubt(measured: Measured, report: Report, round_to: int) -> str | None:
    """A sentence where a student costs less and takes as long, and what may help.

    Args:
        measured: its times, beside the teacher's.
        report: what it costs.
        round_to: what its numbers of channels are multiples of.
    """
    cuts = report.flops < _SMALLER * report.flops_teacher
    if not cuts and report.nonzero >= _SMALLER * report.parameters_teacher:
        return None
    slow = list(_not_faster(measured))
    if not slow:
        return None
    advice = "--drop-blocks leaves whole blocks out, --flops with a lower share more channels"
    if not cuts:
        advice = "--flops 0.5 removes channels, zeros are multiplied like other numbers"
    elif round_to % 8:
        advice = f"--round-to 8 leaves numbers of channels that processors are quick at, {advice}"
    return f"student is smaller and not faster: {', '.join(slow)}; what may help: {advice}"


def folded(teacher: nn.Module, student: nn.Module) -> str | None:
    """What must be known of times where the student alone is without BatchNorm; else None."""
    own, teachers = (
        any(isinstance(module, BATCH_NORM) for module in network.modules())
        for network in (student, teacher)
    )
    if own or not teachers:
        return None
    return "the student's BatchNorm is part of its convolutions, the teacher is timed as it is"


def _not_faster(measured: Measured) -> Iterator[str]:
    for name, (own, teachers) in measured.times.items():
        if own >= _FASTER * teachers:
            yield f"{own:.2f} ms for {TIMES[name]} where the teacher takes {teachers:.2f}"


def _free(device: torch.device) -> int | None:
    """Bytes that can be had on a device; None where nothing says how many."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu" or not _MEMORY.is_file():
        return None
    for line in _MEMORY.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return None
