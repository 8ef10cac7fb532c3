"""Whether a student is finite, and no farther from its teacher than where it started."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fsc import ranks
from fsc.images.scale import spread
from fsc.networks.modes import evaluation_mode
from fsc.networks.outputs import tensors_of

# Near, whatever the start was: it may have been nothing at all, where next to nothing is pruned.
NEAR = 1e-4
MOST_IMAGES = 32
# What float32 may differ by where nothing could be recovered.
_ROUNDING = 1e-3
# Of the energy: what outputs vary by at least. A single image, or one many times, has no variance.
_LEAST_VARIANCE = 1e-6


class Yardstick:
    r"""Measures how far a network is from a teacher, on what both put out.

    .. math::
        d = \frac{\sum_n \| f_S(x_n) - f_T(x_n) \|^2}{\sum_n \| f_T(x_n) - \bar f_T \|^2}, \quad
        \bar f_T = \tfrac{1}{N} \sum_n f_T(x_n)

    0 is the same, 1 no better than the best constant answer. Where all images are one, the energy
    of the outputs stands in for their variance.

    Args:
        teacher: the network that others are compared with.
        images: [N, C, ...]; at most 32 of them are used, evenly spaced.
        batch_size: images in one pass.

    Raises:
        ValueError: the teacher's own outputs are not finite.
    """

    def __init__(self, teacher: nn.Module, images: Tensor, batch_size: int) -> None:
        """Runs the teacher."""
        self._batches = spread(images, MOST_IMAGES).split(batch_size)
        self._expected = self._outputs(teacher)
        energy = sum(float(output.square().sum()) for output in self._expected)
        if not math.isfinite(energy):
            raise ValueError(
                "images and teacher must give finite outputs, got NaN or Inf from the teacher"
            )
        varying = sum(float((each - each.mean(0)).square().sum()) for each in self._expected)
        self._scale = (varying if varying > _LEAST_VARIANCE * energy else energy) or 1.0

    def distance(self, network: nn.Module) -> float:
        """d, or infinity where the outputs are not finite; the same on every rank."""
        return ranks.first(lambda: self._distance(network))

    def _distance(self, network: nn.Module) -> float:
        pairs = zip(self._outputs(network), self._expected, strict=True)
        error = sum(float((output - expected).square().sum()) for output, expected in pairs)
        return error / self._scale if math.isfinite(error) else math.inf

    def _outputs(self, network: nn.Module) -> list[Tensor]:
        """Each of its outputs for all images, [N, ...]; numbers for each batch."""
        with evaluation_mode(network), torch.no_grad():
            batches = [tensors_of(network(batch)) for batch in self._batches]
        return [
            torch.cat([torch.atleast_1d(output) for output in each]).double()
            for each in zip(*batches, strict=True)
            if each[0].is_floating_point()
        ]


def is_sound(distance: float, start: float) -> bool:
    """Whether a student at a distance has not gone away from where it started."""
    return distance <= max(start * (1 + _ROUNDING), NEAR)


def of_variance(distance: float) -> str:
    """A distance in a sentence on the outputs of a student and its teacher."""
    return f"{distance:.3g} of the variance of the teacher's"


def not_finite(network: nn.Module) -> str | None:
    """The name of a parameter or buffer that holds NaN or Inf."""
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            return name
    return None
