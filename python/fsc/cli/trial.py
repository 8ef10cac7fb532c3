"""What `fsc analyse` and `fsc grid` share: students of one goal, looked at on test images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import Tensor

from fsc.cli.drawing import Draw
from fsc.cli.given import Inputs
from fsc.cli.inputs import Source
from fsc.goal import Goal
from fsc.images.sampling import FewShotSample


@dataclass(frozen=True)
class Trial:
    """All that the students of one goal have in common.

    Attributes:
        inputs: teacher and images.
        goal: what is to be left of it.
        draw: how the few images were drawn.
        sample: the few images.
        images: of the test, normalised, float32 [N, C, H, W].
        labels: their classes, int64 [N].
    """

    inputs: Inputs
    goal: Goal
    draw: Draw
    sample: FewShotSample
    images: Tensor
    labels: Tensor

    @property
    def title(self) -> str:
        """What figures and tables are called."""
        network = f"{self.inputs.model_title} on {self.inputs.data_title}"
        return f"{network}, {self.goal.in_words}, {self.draw}"


@dataclass(frozen=True)
class Findings:
    """What an analysis gives.

    Attributes:
        students: what a file holds of each.
        tables: that are shown.
        draw: draws the figure into a file.
    """

    students: list[dict[str, Any]]
    tables: Sequence[Table]
    draw: Callable[[Path], None]


def begun(
    verb: str,
    source: Source,
    goal_of: Callable[[Inputs], Goal],
    draw: Draw,
    num_test: int,
    seed: int,
) -> Trial:
    """Read everything, once it is known that accuracies can be measured.

    Args:
        verb: who asks, for the sentence.
        source: of teacher and images.
        goal_of: finds what is to be left of the teacher.
        draw: of the few images.
        num_test: how many test images at most.
        seed: of the draw.

    Raises:
        ValueError: there are no test images with labels, or the goal does not fit.
        OSError, ImportError: what `Source.load` raises.
    """
    inputs = source.load()
    inputs.check_evaluable(f"fsc {verb}")
    inputs.check_scores()
    goal = goal_of(inputs)
    sample = draw.sample(inputs, seed)
    return Trial(inputs, goal, draw, sample, *inputs.some_test(num_test))
