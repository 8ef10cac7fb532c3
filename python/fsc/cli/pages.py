"""The page of `fsc compress --report`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fsc import method_names
from fsc.cli import invocation
from fsc.cli.evaluation import Measured
from fsc.cli.given import Inputs
from fsc.cli.timing import BATCHES
from fsc.files import write_atomically
from fsc.images.sampling import FewShotSample
from fsc.networks.latency import BATCH
from fsc.report import page
from fsc.report.thumbnails import MOST


def write(
    path: Path,
    content: Mapping[str, Any],
    inputs: Inputs,
    sample: FewShotSample,
    measured: Measured,
) -> None:
    """Write what a compression did and gave for people.

    Args:
        path: of the page.
        content: of report.json.
        inputs: teacher and images.
        sample: the few images.
        measured: of the student, beside the teacher.

    Raises:
        OSError: it cannot be written.
    """
    every = -(-len(sample.indices) // MOST)
    # No more are decoded than are shown.
    shown = inputs.images_of(replace(sample, indices=sample.indices[::every]))
    known = {
        **content,
        "model": inputs.model_title,
        "data": inputs.data_title,
        "method_in_words": method_names.IN_WORDS[content["method"]],
        "notes": _notes(inputs, measured),
    }
    normalization = inputs.normalization
    made = page(
        known,
        shown,
        mean=normalization.mean,
        std=normalization.std,
        command=invocation.repeated(),
    )
    write_atomically(path, lambda temporary: temporary.write_text(made, encoding="utf-8"))


def _notes(inputs: Inputs, measured: Measured) -> list[str]:
    """How everything was measured, a sentence each."""
    batch = f", of {BATCHES} for {BATCH} at once" if "milliseconds_batch" in measured.times else ""
    compiled = "Nothing is compiled."
    if "milliseconds_compiled" in measured.times:
        compiled = (
            "Compiled times are of what torch.compile makes of each, for each number of images."
        )
    counted = f"Right answers on {inputs.test_name}; the interval is where the accuracy on many "
    counted += "more such images lies, 19 times in 20."
    return [
        *([] if measured.accuracy is None else [counted]),
        "Files are those that fsc writes; a kB is 1,000 bytes.",
        "Times are on one thread, both networks by turns after a few to warm up: medians of 50 "
        f"for one image{batch}. {compiled}",
        *(f"{each[0].upper()}{each[1:]}." for each in measured.said),
        "Multiply-accumulates are those of convolutions and linear layers for one image.",
    ]
