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

    0 is the same, 1 no better than the best constant answer. Where outputs do not vary, or are not
    those of single images, their energy stands in for the variance.

    Args:
        teacher: the network that others are compared with.
        images: [N, C, ...]; at most 32 of them are used, evenly spaced.
        batch_size: images in one pass.

    Raises:
        ValueError: the teacher's own outputs are not finite.

    Attributes:
        scale: what of the teacher's outputs distances are over, "variance" or "energy".
    """

    def __init__(self, teacher: nn.Module, images: Tensor, batch_size: int) -> None:
        """Runs the teacher."""
        self._batches = spread(images, MOST_IMAGES).split(batch_size)
        self._expected = self._outputs(teacher)
        energy = sum(float(each.square().sum()) for batch in self._expected for each in batch)
        if not math.isfinite(energy):
            raise ValueError(
                "images and teacher must give finite outputs, got NaN or Inf from the teacher"
            )
        varying = _varying(self._expected, [len(batch) for batch in self._batches])
        varies = varying > _LEAST_VARIANCE * energy
        self.scale = "variance" if varies else "energy"
        self._unit = (varying if varies else energy) or 1.0

    def distance(self, network: nn.Module) -> float:
        """d, or infinity where the outputs are not finite; the same on every rank."""
        return ranks.first(lambda: self._distance(network))

    def _distance(self, network: nn.Module) -> float:
        error = sum(
            float((output - expected).square().sum())
            for pair in zip(self._outputs(network), self._expected, strict=True)
            for output, expected in zip(*pair, strict=True)
        )
        return error / self._unit if math.isfinite(error) else math.inf

    def _outputs(self, network: nn.Module) -> list[list[Tensor]]:
        """All that it puts out, of each batch."""
        with evaluation_mode(network), torch.no_grad():
            found = [tensors_of(network(batch)) for batch in self._batches]
        return [[each.double() for each in batch if each.is_floating_point()] for batch in found]


def _varying(outputs: list[list[Tensor]], counts: list[int]) -> float:
    """What outputs vary by from image to image, those of which each image has one; else 0.

    Args:
        outputs: of each batch.
        counts: of the images in each batch.
    """
    if any(len(batch) != len(outputs[0]) for batch in outputs):
        return 0.0
    total = 0.0
    for each in zip(*outputs, strict=True):
        of_images = [o.ndim > 0 and len(o) == n for o, n in zip(each, counts, strict=True)]
        if not all(of_images) or any(o.shape[1:] != each[0].shape[1:] for o in each):
            return 0.0
        whole = torch.cat(each)  # [N, ...]
        total += float((whole - whole.mean(0)).square().sum())
    return total


def is_sound(distance: float, start: float) -> bool:
    """Whether a student at a distance has not gone away from where it started."""
    return distance <= max(start * (1 + _ROUNDING), NEAR)


def not_finite(network: nn.Module) -> str | None:
    """The name of a parameter or buffer that holds NaN or Inf."""
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            return name
    return None
