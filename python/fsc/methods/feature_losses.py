r"""How far features are from a teacher's: the losses of MiR's Table 7, alone and added up.

With a student's features :math:`s` and a teacher's :math:`t`, of N images, C channels, P pixels:

.. math::
    \text{mse} &= \tfrac{1}{NCP} \|s - t\|_F^2, \qquad \text{sum} = \tfrac{1}{N} \|s - t\|_F^2 \\
    \text{l1} &= \tfrac{1}{NCP} \|s - t\|_1 \\
    \text{cosine} &= 1 - \tfrac{1}{NP} \sum_{n,p}
        \frac{\langle s_{np}, t_{np} \rangle}{\|s_{np}\| \|t_{np}\|} \\
    \text{lsh} &= -\tfrac{1}{NPB} \sum_{n,p,b} h_b \log \sigma(z_b)
        + (1 - h_b) \log(1 - \sigma(z_b)) \\
    z_b &= \langle w_b, s_{np} \rangle + c_b, \quad h_b = [\langle w_b, t_{np} \rangle + c_b > 0]

lsh is the locality-sensitive hashing of Wang, Ge and Wu (TPAMI 2021), which MiR compares with: the
student's projections on B random directions are to have the signs of the teacher's, whatever their
size. Directions are drawn from a normal distribution; :math:`c_b` makes half of the teacher's bits
one. How many there are, four a channel, is a choice of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fsc.methods.lesson import Loss
from fsc.wording import shown

_BITS_A_CHANNEL = 4
_MOST_ROWS = 100_000  # that medians are taken of

# A student's features and a teacher's, [N, C, ...] -> a number.
_Distance = Callable[[Tensor, Tensor], Tensor]


class _Hashing:
    """lsh, with directions and thresholds for the features of one teacher."""

    def __init__(self, targets: Tensor, seed: int) -> None:
        rows = _rows(targets.flatten(0, 1))  # [V N P, C]
        generator = torch.Generator().manual_seed(seed)
        channels = rows.shape[1]
        shape = (channels, _BITS_A_CHANNEL * channels)
        drawn = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
        self.directions = drawn.to(rows)  # [C, B]
        few = rows[:: -(-len(rows) // _MOST_ROWS)]
        self.thresholds = -(few @ self.directions).median(0).values  # [B]

    def __call__(self, found: Tensor, wanted: Tensor) -> Tensor:
        projected = _rows(found) @ self.directions + self.thresholds  # [N P, B]
        bits = (_rows(wanted) @ self.directions + self.thresholds > 0).to(projected)
        return F.binary_cross_entropy_with_logits(projected, bits)


def _rows(features: Tensor) -> Tensor:
    """The channels of every pixel: [N, C, ...] to [N P, C]."""
    return features.movedim(1, -1).flatten(0, -2)


def _sum(found: Tensor, wanted: Tensor) -> Tensor:
    return (found - wanted).square().sum() / len(found)


def _cosine(found: Tensor, wanted: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(found, wanted, dim=1).mean()


_PLAIN: dict[str, _Distance] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "cosine": _cosine,
    "sum": _sum,
}
NAMES = (*_PLAIN, "lsh")


def check_name(name: str) -> None:
    """Make sure that a name is that of a loss, or of several that are added up.

    Raises:
        ValueError: it is not.
    """
    parts = name.split("+") if isinstance(name, str) else []
    if not parts or not set(parts) <= set(NAMES) or len(set(parts)) < len(parts):
        raise ValueError(
            f"loss must be {', '.join(NAMES[:-1])} or {NAMES[-1]}, or some of them joined by +, "
            f"got {shown(name)}"
        )


def feature_loss(name: str, targets: Sequence[Tensor], seed: int) -> Loss:
    """The loss of a name, averaged over the heads that features stand before.

    Args:
        name: "mse", "l1", "cosine", "lsh" or "sum", or several, "mse+l1", which are added up.
        targets: all of the teacher's features, [V, N, C, ...] before each head.
        seed: of lsh's directions.
    """
    distances: list[list[_Distance]] = [
        [_Hashing(each, seed) if part == "lsh" else _PLAIN[part] for part in name.split("+")]
        for each in targets
    ]

    def loss(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        errors = [
            torch.stack([distance(*pair) for distance in own]).sum()
            for own, *pair in zip(distances, found, wanted, strict=True)
        ]
        return torch.stack(errors).mean()

    return loss
