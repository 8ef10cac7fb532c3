"""Many small quadratics at once: the groups of a grouped convolution, the channels of a depthwise.

Groups read different channels, so that the Hessian of the whole layer is block-diagonal: each group
is a problem of its own, a depthwise channel one of kH kW unknowns. All of them are solved together,
W [groups, rows, dim] with the bias as last column, in float64.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import fsc_ext
from fsc.solvers.closed_form import Selection, check_damping
from fsc.solvers.sparse import (
    MAX_CANDIDATES,
    check_count,
    drop_cheapest,
    keep_largest,
    largest_weights,
)

# Values of the systems that are factorised at once, 64 MB in float64.
_CHUNK = 1 << 23


@dataclass
class BlockQuadratic:
    """N L(W) = sum_g tr(W_g H_g W_g^T) - 2 tr(W_g C_g^T) + const."""

    hessian: Tensor  # H_g, [groups, dim, dim]
    target: Tensor  # C_g, [groups, rows, dim]
    constant: Tensor  # [groups, rows], the objective of each output channel at weight zero
    num_images: int

    def loss(self, weight: Tensor) -> float:
        """The objective's value at a weight [groups, rows, dim]."""
        rows = ((weight @ self.hessian - 2 * self.target) * weight).sum(-1) + self.constant
        return float(rows.sum()) / self.num_images

    def damping_strength(self, damping: float) -> Tensor:
        """What a pull of so many images adds to the curvature of each group, [groups].

        Raises:
            ValueError: damping is not positive and finite.
        """
        check_damping(damping)
        curvature = self.hessian.diagonal(dim1=1, dim2=2).mean(1)
        # A group that sees nothing has no curvature to measure by; any pull will do then.
        return torch.where(curvature > 0, curvature, 1) * (damping / max(self.num_images, 1))

    def damped(self, damping: float) -> Tensor:
        """H_g + delta_g I, [groups, dim, dim]."""
        damped = self.hessian.clone()
        damped.diagonal(dim1=1, dim2=2).add_(self.damping_strength(damping)[:, None])
        return damped

    def minimum_near(self, anchor: Tensor, kept: Tensor, damping: float) -> Tensor:
        """The damped minimiser among the weights that are zero outside a mask.

        W = argmin N L(W) + sum_g delta_g || W_g - W_T,g ||_F^2

        Args:
            anchor: the teacher's weight, [groups, rows, dim].
            kept: what may be used, bool [groups, rows, dim]; [groups, 1, dim] where all rows of a
                group share it.
            damping: strength of the pull, in images.

        Returns:
            The weight, [groups, rows, dim].
        """
        delta = self.damping_strength(damping)
        system, right = self.damped(damping), self.target + delta[:, None, None] * anchor
        if kept.shape[1] == 1:
            return _solved(system, kept[:, 0], right)
        rows = right.shape[1]
        found = torch.empty_like(right).flatten(0, 1)  # [groups rows, dim]
        masks, right = kept.flatten(0, 1), right.flatten(0, 1)[:, None]
        for piece in _pieces(len(found), system[0].numel(), found.device):
            own = _solved(system[piece // rows], masks[piece], right[piece])
            found[piece] = own[:, 0]
        return found.view_as(anchor)


def _pieces(count: int, size: int, device: torch.device) -> Iterator[Tensor]:
    yield from torch.arange(count, device=device).split(max(1, _CHUNK // size))


def _solved(system: Tensor, kept: Tensor, right: Tensor) -> Tensor:
    """Solutions [B, rows, dim] of systems [B, dim, dim] on what is kept, bool [B, dim]."""
    found = torch.empty_like(right)
    for piece in _pieces(len(system), system[0].numel(), system.device):
        mask = kept[piece].to(system.dtype)  # [b, dim]
        # What is left out stands by itself there, and its solution is zero.
        own = system[piece] * mask[:, :, None] * mask[:, None, :] + torch.diag_embed(1 - mask)
        given = (right[piece] * mask[:, None]).mT
        found[piece] = torch.cholesky_solve(given, torch.linalg.cholesky(own)).mT
    return found


def choose_weights(
    quadratic: BlockQuadratic,
    weight_teacher: Tensor,
    prunable: int,
    count: int,
    selection: Selection,
    damping: float,
) -> Tensor:
    """Chooses the weights that a layer keeps, over all its groups.

    Args:
        quadratic: the layer objective.
        weight_teacher: where the damping pulls to, [groups, rows, dim].
        prunable: only the first so many columns of the weight may go; a bias after them stays.
        count: how many of them stay in the whole layer, at least 1.
        selection: "obs", by what a removal costs, or "norm", the teacher's largest magnitudes.
        damping: strength of the pull, in images.

    Returns:
        The mask, bool [groups, rows, dim].

    Raises:
        ValueError: count or damping is out of its range.
    """
    check_count(weight_teacher, prunable, count)
    if selection == "norm":
        return largest_weights(weight_teacher, prunable, count)
    groups, rows, dim = weight_teacher.shape
    mask = torch.ones_like(weight_teacher, dtype=torch.bool)
    weight = quadratic.minimum_near(weight_teacher, mask[:, :1], damping)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(quadratic.damped(damping)))
    if prunable > MAX_CANDIDATES:
        scale = inverse.diagonal(dim1=1, dim2=2)[:, None, :prunable]
        return keep_largest(mask, weight[..., :prunable].square() / scale, count)
    weight = weight.flatten(0, 1)
    found = [
        fsc_ext.elimination_order(weight[piece], inverse[piece // rows], prunable)
        for piece in _pieces(groups * rows, dim * dim, weight.device)
    ]
    order, rises = (torch.cat(part) for part in zip(*found, strict=True))
    gone = groups * rows * prunable - count
    return drop_cheapest(mask.flatten(0, 1), order, rises, gone).view_as(mask)
