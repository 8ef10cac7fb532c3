"""What a compression is asked before and after: images, scheme and student that make sense."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

import fsc_ext
from fsc.images.scale import emptiness
from fsc.methods.base import LayerReport, Outcome, Task
from fsc.methods.l1_norm import L1Norm
from fsc.methods.soundness import Yardstick, is_sound, not_finite
from fsc.networks import cost, surgery
from fsc.networks.expected_scale import doubt_about_scale
from fsc.networks.operations import CONVOLUTION
from fsc.networks.quantized_inputs import quantize_inputs
from fsc.schemes import QuantizedScheme, Scheme
from fsc.schemes.quantized import FULL_PRECISION
from fsc.schemes.reasons import commonest, in_sentences
from fsc.schemes.staying import unexpected
from fsc.walking.input_limits import input_limits

# Channels halved on both sides leave a quarter of a layer, on one side a half.
_LEAST_SHARE = 0.5
# The distance of the best answer that is the same for all images.
_CONSTANT = 1.0


def starting_point(task: Task) -> nn.Module:
    """The student that nothing has been recovered of: the teacher's weights, pruned or rounded.

    Filters and weights are chosen by magnitude, as `L1Norm` does; where activations have few bits,
    they are clipped where cross distillation clips them.
    """
    if not isinstance(task.scheme, QuantizedScheme):
        return L1Norm().compress(task).student
    student = copy.deepcopy(task.teacher).eval()
    surgery.fold_batch_norm(student)
    bits = task.scheme.activation_bits
    if bits < FULL_PRECISION:
        limits = input_limits(student, task.images, task.scheme.bits, bits, task.batch_size)
        quantize_inputs(student, limits, bits)
    for name, weight_bits in task.scheme.bits.items():
        weight = student.get_submodule(name).get_parameter("weight")
        weight.data.copy_(fsc_ext.quantize_weight(weight.detach(), weight_bits))
    return student


@dataclass(frozen=True)
class Verdict:
    """What an examination found.

    Attributes:
        distance: of the student from the teacher; see `Yardstick`.
        distance_of: what of the teacher's outputs it is a share of, "variance" or "energy".
        distance_start: of the starting point; None where its outputs are not finite.
        warnings: doubts about the student.
    """

    distance: float
    distance_of: str
    distance_start: float | None
    warnings: list[str]


class Examination:
    """Looks for what is no error and still makes no sense, before and after a compression.

    Args:
        task: what is to be done; its teacher is in evaluation mode, gradients are off.

    Raises:
        ValueError: the teacher's outputs are not finite.
    """

    def __init__(self, task: Task) -> None:
        """Makes the starting point and measures it."""
        self.task = task
        self._yardstick = Yardstick(task.teacher, task.images, task.batch_size)
        start = starting_point(task)
        self._start = self._yardstick.distance(start)
        self._flops_start = cost.flops(start, task.images[:1])

    def before(self) -> list[str]:
        """Doubts about images and scheme."""
        task = self.task
        doubts = [
            emptiness(task.images),
            doubt_about_scale(task.teacher, task.images, task.batch_size),
            self._doubt_about_share(),
            *task.doubts,
        ]
        return [doubt for doubt in doubts if doubt is not None]

    def after(self, outcome: Outcome) -> Verdict:
        """How far the student is from the teacher, and doubts about it.

        Raises:
            ValueError: the student's weights or outputs are not finite.
        """
        broken = not_finite(outcome.student)
        distance = self._yardstick.distance(outcome.student)
        if broken is not None or not math.isfinite(distance):
            where = "its outputs" if broken is None else broken
            raise ValueError(
                "method must give a student of finite weights and outputs, got NaN or Inf in "
                f"{where}{_worst_layer(outcome.layers)}"
            )
        doubts = list(outcome.warnings)
        scale = self._yardstick.scale
        share = f"{distance:.3g} of the {scale} of the teacher's"
        if not is_sound(distance, self._start):
            doubts.append(
                "student is farther from the teacher than the pruned or rounded network that it "
                f"started from: its outputs differ by {share}, "
                f"those of the start by {self._start:.3g}{_worst_layer(outcome.layers)}"
            )
        elif scale == "variance" and distance >= _CONSTANT:
            doubts.append(
                "student answers no better than a constant on these images: its outputs differ by "
                f"{share}; let more stay, or give more images"
            )
        start = self._start if math.isfinite(self._start) else None
        return Verdict(distance, scale, start, doubts)

    def _doubt_about_share(self) -> str | None:
        scheme = self.task.scheme
        if not isinstance(scheme, Scheme) or scheme.pruning_ratio is None:
            return None
        reached = 1 - self._flops_start / cost.flops(self.task.teacher, self.task.images[:1])
        if reached >= _LEAST_SHARE * scheme.pruning_ratio:
            return None
        sentence = (
            f"scheme removes {100 * reached:.2g} % of the multiply-accumulates, where "
            f"{100 * scheme.pruning_ratio:g} % of the channels were asked for"
        )
        stay = unexpected(scheme.held_back)
        if not stay:
            return sentence
        # A scheme names one layer of each set; what stays has all of its layers.
        modules = self.task.teacher.named_modules()
        layers = {name for name, each in modules if isinstance(each, CONVOLUTION | nn.Linear)}
        total = len(layers - (scheme.held_back.keys() - stay.keys()))
        return (
            f"{sentence}: {len(stay)} of {total} layers keep all of them; "
            f"{commonest(in_sentences(stay))}"
        )


def _worst_layer(layers: Sequence[LayerReport]) -> str:
    """Names the layer whose own error grew most, where one grew."""
    grown = {
        layer.name: layer.error / layer.error_before
        for layer in layers
        if layer.error_before > 0 and not layer.error <= layer.error_before
    }
    if not grown:
        return ""
    worst = max(grown, key=lambda name: grown[name] if math.isfinite(grown[name]) else math.inf)
    return f"; worst is layer {worst}, {grown[worst]:.3g} times its error before"
