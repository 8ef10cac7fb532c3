"""The visitor of FSKD: a 1x1 convolution for every layer that mixes channels, absorbed at once."""

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from fsc.layers.pointwise_layer import PointwiseProblem, mixes
from fsc.methods.base import LayerReport
from fsc.methods.recalibration import ChannelStatistics, is_flat, renormalise, running_norms
from fsc.networks.operations import LAYER_OR_NORM
from fsc.walking.visitor import Layer, Visitor


class Aligner(Visitor):
    """Aligns what every mixing layer of the student gives to channels of the teacher.

    A Linear that sees one column an image has too few of them for a Q. BatchNorms that stand before
    their convolution are taken anew.

    Args:
        student: the network, which is changed.
        rows: name of a layer -> its output channels that are aligned, [R]; others align all.
        damping: pull of Q towards the identity, see `fsc.solvers.pointwise`.
        num_images: of all ranks.
        intercept: whether Q has a bias where the layer has one.
    """

    kind = LAYER_OR_NORM
    chooses = True

    def __init__(
        self,
        student: nn.Module,
        rows: Mapping[str, Tensor],
        damping: float,
        num_images: int,
        intercept: bool = False,
    ) -> None:
        """Starts before the first layer."""
        self._names = {name for name, module in student.named_modules() if mixes(module)}
        self._norms = running_norms(student)
        self.rows = rows
        self.damping, self.intercept = damping, intercept
        self.num_images = num_images
        self.reports: list[LayerReport] = []
        self._problem: PointwiseProblem | None = None
        self._statistics: ChannelStatistics | None = None

    def wants(self, name: str) -> bool:
        """Layers that mix, and BatchNorms."""
        return name in self._names or name in self._norms

    def on_inputs(self, layer: Layer, input_teacher: Tensor, input_student: Tensor) -> None:
        """Gathers the statistics of what a BatchNorm reads."""
        if layer.name in self._norms:
            if self._statistics is None:
                self._statistics = ChannelStatistics(input_student.device)
            self._statistics.accumulate(input_teacher, input_student)

    def before_run(self, layer: Layer) -> None:
        """Takes a BatchNorm anew."""
        if self._statistics is not None:
            renormalise(layer.student, self._statistics)
            self._statistics = None

    def on_outputs(self, layer: Layer, output_teacher: Tensor, output_student: Tensor) -> None:
        """Gathers the moments of what a layer gives."""
        if layer.name in self._norms or is_flat(layer, output_student):
            return
        if self._problem is None:
            self._problem = self._posed(layer)
        self._problem.accumulate(output_teacher, output_student, layer.channels)

    def after_run(self, layer: Layer) -> Callable[[Tensor], Tensor] | None:
        """Finds Q and lets the layer absorb it."""
        problem, self._problem = self._problem, None
        if problem is None:
            return None
        start = time.perf_counter()
        problem.join_ranks()
        factors = problem.solve(self.damping, layer.name)
        self._remember(layer.name, problem, factors, start)
        absorbed = problem.absorbed(factors)
        absorbed.write()
        return absorbed.applied

    def _posed(self, layer: Layer) -> PointwiseProblem:
        weight = layer.student.weight
        assert isinstance(weight, Tensor)
        size = getattr(layer.student, "out_channels", len(weight))
        every = torch.arange(size, device=weight.device)
        rows = self.rows.get(layer.name, every).to(weight.device)
        groups = getattr(layer.student, "groups", 1)
        assert isinstance(groups, int)
        return PointwiseProblem(layer.student, rows.view(groups, -1), self.intercept)

    def _remember(
        self, name: str, problem: PointwiseProblem, factors: list[Tensor], start: float
    ) -> None:
        before, after = problem.error(problem.identity()), problem.error(factors)
        scale, images = problem.energy(), self.num_images
        self.reports.append(
            LayerReport(
                name,
                problem.columns,
                before / images,
                after / images,
                after / scale if scale else 0.0,
                time.perf_counter() - start,
            )
        )
