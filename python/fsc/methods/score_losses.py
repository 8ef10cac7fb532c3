"""How far class scores are from labels and from a teacher's scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Cross entropy of scores [N, classes] with labels [N]."""
    return F.cross_entropy(found[0], wanted[0])


@dataclass(frozen=True)
class Distillation:
    r"""Hinton, Vinyals and Dean (2015): soft targets, and hard ones where there are labels.

    .. math:: w \tau^2 \mathrm{KL}(\sigma(t / \tau) \,\|\, \sigma(s / \tau))
              + (1 - w) \mathrm{CE}(s, y)

    Without labels :math:`\tau^2 \mathrm{KL}` alone.

    Args:
        temperature: tau.
        weight: w, of the soft targets.
    """

    temperature: float
    weight: float

    def __call__(self, found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        """The loss of scores [N, classes]; wanted: the teacher's, and labels [N] or nothing."""
        soft = self.temperature**2 * F.kl_div(
            F.log_softmax(found[0] / self.temperature, 1),
            F.log_softmax(wanted[0] / self.temperature, 1),
            reduction="batchmean",
            log_target=True,
        )
        if len(wanted) == 1:
            return soft
        return self.weight * soft + (1 - self.weight) * cross_entropy(found, wanted[1:])
