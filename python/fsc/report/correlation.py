"""How alike teacher and student are where blocks end (FSKD, Fig. 3a)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fsc.layers.pointwise_layer import as_image, mixes
from fsc.networks.decoupling import ends_of
from fsc.networks.observed import Observed, channels_given
from fsc.walking.meeting import Meeting, walk_to_meetings
from fsc.walking.visitor import Layer, Visitor

# A variance that is so small a share of the mean square is rounding.
_CONSTANT = 1e-10


@dataclass(frozen=True)
class BlockCorrelation:
    """What teacher and student have in common where one block ends.

    Attributes:
        name: of the layer of the student that ends the block.
        channels: how many are compared.
        correlation: the mean of their coefficients, from -1 to 1; None where no channel of the
            teacher varies.
    """

    name: str
    channels: int
    correlation: float | None


def correlations(
    teacher: nn.Module,
    student: nn.Module,
    images: Tensor,
    *,
    kept: Mapping[str, Tensor | Sequence[int]] | None = None,
    batch_size: int = 64,
) -> list[BlockCorrelation]:
    r"""Correlates the outputs of teacher and student at the end of every block, before activations.

    .. math:: r_l = \frac{1}{C_l} \sum_c
              \frac{\mathrm{cov}(x^T_{l, c}, x^S_{l, c})}{\sigma(x^T_{l, c}) \sigma(x^S_{l, c})}

    with :math:`x_{l, c}` what channel c is at all pixels of all images. The paper's Fig. 3a shows
    "layer-level output correlation" and does not say of what; this is Pearson's coefficient of each
    channel, averaged. A block ends with every layer that mixes channels, as for `FSKD.align`, and
    with the head. The student's channels are compared with those of the teacher that they were. A
    channel that is constant in the student alone counts as 0; one that is constant in the teacher
    has no coefficient and is left out.

    Args:
        teacher: the pretrained network.
        student: a network whose layers have the names of the teacher's, cut, masked or decoupled;
            layers that only one of them has are passed over.
        images: normalised images [N, C, H, W], best others than those compressed with.
        kept: name of each layer that lost channels -> the teacher's that it still has, as
            `Report.kept` has them: different integers, one for each channel of the layer.
        batch_size: images in one pass; the result does not depend on it but for rounding.

    Returns:
        One entry for each block, in order of execution. BatchNorm is folded into the layers before.

    Raises:
        ValueError: no layer is in both, `kept` names what is no layer of the student or does not
            say which channels one has, or a layer gives maps of another size.
    """
    own, other = (Observed.folded(network, images[:1]) for network in (teacher, student))
    measure = _Measure()
    walk_to_meetings(
        (own.model, own.graph),
        (other.model, other.graph),
        images,
        _meetings(own, other, kept or {}),
        measure,
        batch_size=batch_size,
    )
    return measure.found


def _meetings(
    teacher: Observed, student: Observed, kept: Mapping[str, Tensor | Sequence[int]]
) -> list[Meeting]:
    """Where both networks have a layer that mixes channels."""
    unknown = [name for name in kept if name not in student.nodes]
    if unknown:
        raise ValueError(f"kept must name layers of the student, got {unknown[0]!r}")
    originals = {end: name for name, end in ends_of(student.model).items()}
    found = []
    for name, node in student.nodes.items():
        original = originals.get(name, name)
        if original not in teacher.nodes or not mixes(student.module(name)):
            continue
        channels = _channels(name, student.channels(name), teacher.channels(original), kept)
        sizes, wanted = student.pixels(name), teacher.pixels(original)
        if sizes != wanted:
            raise ValueError(
                f"student must give maps as large as the teacher's {wanted[1]} at {name!r}, got "
                f"{sizes[1]}"
            )
        found.append(Meeting(teacher.nodes[original], node, node, (original, name), channels))
    if not found:
        raise ValueError("student must have layers of the names that the teacher's have, got none")
    return found


def _channels(
    name: str, size: int, most: int, kept: Mapping[str, Tensor | Sequence[int]]
) -> Tensor | None:
    """The teacher's channels of a layer of the student, int64 [C]; None: all of them."""
    if name in kept:
        return channels_given("kept", name, kept[name], size, most)
    if size == most:
        return None
    raise ValueError(
        f"kept must say which of the teacher's {most} channels the {size} of {name!r} are, got "
        "nothing of it"
    )


class _Measure(Visitor):
    """Adds moments up over the batches of each layer."""

    def __init__(self) -> None:
        self.found: list[BlockCorrelation] = []
        self._sums: Tensor | None = None  # of t, s, t^2, s^2, t s, [5, C]
        self._count = 0

    def on_outputs(self, layer: Layer, output_teacher: Tensor, output_student: Tensor) -> None:
        teacher, student = (
            as_image(layer.student, output).double() for output in (output_teacher, output_student)
        )
        products = (teacher, student, teacher**2, student**2, teacher * student)
        sums = torch.stack([each.sum((0, 2, 3)) for each in products])
        self._sums = sums if self._sums is None else self._sums + sums
        self._count += teacher[:, 0].numel()

    def after_run(self, layer: Layer) -> None:
        assert self._sums is not None
        name, size = layer.name, self._sums.shape[1]
        self.found.append(BlockCorrelation(name, size, _mean_of(self._sums / self._count)))
        self._sums, self._count = None, 0


def _mean_of(moments: Tensor) -> float | None:
    """The mean coefficient of channels, from the means of t, s, t^2, s^2 and t s, [5, C]."""
    means, squares = moments[:2], moments[2:4]
    variances = squares - means**2  # [2, C]
    varies = variances > _CONSTANT * squares
    covariance = moments[4] - means[0] * means[1]
    deviations = variances.clamp(min=0).prod(0).sqrt()
    each = torch.where(varies.all(0), covariance / deviations, torch.zeros_like(deviations))
    # Rounding takes a coefficient of two equal channels past 1.
    chosen = each[varies[0]].clamp(-1, 1)
    return float(chosen.mean()) if len(chosen) else None
