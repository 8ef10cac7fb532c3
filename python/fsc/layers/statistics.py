"""What a layer that is compared before its activation gathers: its inputs, and what is added."""

from typing import Any

from torch import Tensor

from fsc.layers.drift import DriftColumns, DriftMoments
from fsc.layers.layer_problem import Pose, Shortcuts
from fsc.layers.moments import Moments, layer_statistics
from fsc.solvers.patch import Patch
from fsc.solvers.quadratic import Quadratic


class Statistics:
    """Gram matrices or columns, whichever is cheaper, and the drift where there are shortcuts.

    Args:
        pose: the layer, of one group, and its objective.
    """

    def __init__(self, pose: Pose) -> None:
        """Starts from zero images."""
        self.pose = pose
        layer, terms = pose.layer, len(pose.objective.terms)
        self.inputs = layer_statistics(
            Patch.of(layer), pose.num_columns, terms, layer.weight.device
        )
        self.drift: DriftMoments | DriftColumns | None = None
        if pose.has_shortcuts:
            by_gram = isinstance(self.inputs, Moments)
            self.drift = DriftMoments(layer) if by_gram else DriftColumns()

    def accumulate(
        self, input_teacher: Tensor, input_student: Tensor, shortcuts: Shortcuts | None
    ) -> None:
        """Takes up one batch: inputs [N, C_in, H, W], shortcuts [N, C_out, H_out, W_out] each."""
        self.inputs.accumulate(input_teacher, input_student)
        if self.drift is not None:
            assert shortcuts is not None
            self.drift.accumulate(input_teacher, input_student, shortcuts[0] - shortcuts[1])

    def join_ranks(self) -> None:
        """Takes up what the other ranks have."""
        self.inputs.join_ranks()
        if self.drift is not None:
            self.drift.join_ranks()

    def quadratic(self, weight_teacher: Tensor) -> Quadratic:
        """The objective in the student's weight; the teacher's [C_out, dim] float64."""
        quadratic: Any = self.inputs.quadratic(self.pose.objective, weight_teacher)
        if self.drift is None:
            return quadratic
        return self.drift.added(quadratic, self.pose.objective, weight_teacher)
