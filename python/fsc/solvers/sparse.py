"""Unstructured pruning of a layer: which single weights stay, and their values.

Output channels are independent quadratics that share one Hessian. Each gives up its weights one by
one, the cheapest first (optimal brain surgery, Hassibi and Stork 1993); what every removal cost
then decides across channels which weights the layer keeps. The damping is that of `closed_form`.
"""

import torch
from torch import Tensor

import fsc_ext
from fsc.solvers.closed_form import Selection, damping_strength, solve_on_rows
from fsc.solvers.quadratic import Quadratic

# Inverses up to this size stay in a core's cache, and their elimination takes seconds a layer.
# Channels with more weights than this give up those of least w^2 / H^-1_ii at once before.
MAX_CANDIDATES = 640
# Rows whose inverses are held at once: some 100 MB.
_CHUNK = 32


def choose_weights(
    quadratic: Quadratic,
    weight_teacher: Tensor,
    prunable: int,
    count: int,
    selection: Selection,
    damping: float,
) -> Tensor:
    """Chooses the weights that a layer keeps.

    Args:
        quadratic: the layer objective.
        weight_teacher: where the damping pulls to, [C_out, dim] float64.
        prunable: only the first so many columns of the weight may go; a bias after them stays.
        count: how many of them stay in the whole layer, at least 1.
        selection: "obs", by what a removal costs, or "norm", the teacher's largest magnitudes.
        damping: strength of the pull, in images.

    Returns:
        The mask, bool [C_out, dim].

    Raises:
        ValueError: count or damping is out of its range.
    """
    check_count(weight_teacher, prunable, count)
    if selection == "norm":
        return largest_weights(weight_teacher, prunable, count)
    num_rows, dim = weight_teacher.shape
    mask = torch.ones_like(weight_teacher, dtype=torch.bool)
    delta = damping_strength(quadratic, damping)
    everything = torch.arange(dim, device=weight_teacher.device)
    weight = solve_on_rows(quadratic, weight_teacher, everything, damping)
    inverse = _inverse(quadratic, everything, delta)  # [dim, dim]
    if prunable <= MAX_CANDIDATES:
        order, rises = fsc_ext.elimination_order(weight, inverse[None], prunable)
        return drop_cheapest(mask, order, rises, num_rows * prunable - count)
    scores = weight[:, :prunable].square() / inverse.diagonal()[:prunable]  # [C_out, prunable]
    if 2 * count > num_rows * MAX_CANDIDATES:
        return keep_largest(mask, scores, count)
    del inverse
    candidates = scores.topk(MAX_CANDIDATES, 1).indices.sort(1).values  # [C_out, m]
    mask[:, :prunable] = False
    mask.scatter_(1, candidates, True)
    order, rises = _eliminate_candidates(quadratic, weight_teacher, candidates, prunable, damping)
    return drop_cheapest(mask, order, rises, num_rows * MAX_CANDIDATES - count)


def solve_on_mask(
    quadratic: Quadratic, weight_teacher: Tensor, mask: Tensor, damping: float
) -> Tensor:
    """The damped minimiser among the weights that are zero outside a mask.

    Args:
        quadratic: the layer objective.
        weight_teacher: where the damping pulls to, [C_out, dim] float64.
        mask: bool [C_out, dim].
        damping: strength of the pull, in images.

    Returns:
        The weight, [C_out, dim].
    """
    delta = damping_strength(quadratic, damping)
    weight = torch.zeros_like(weight_teacher)
    for channel, kept in enumerate(mask):
        rows = kept.nonzero().flatten()
        if len(rows):
            one = quadratic.of_channels(slice(channel, channel + 1))
            anchor = weight_teacher[channel : channel + 1]
            weight[channel, rows] = one.minimum_near(anchor, rows, delta)[0]
    return weight


def _inverse(quadratic: Quadratic, rows: Tensor, delta: float) -> Tensor:
    """(H + delta I)^-1 on some rows, [rows, rows]."""
    damped = quadratic.hessian_on(rows)
    damped.diagonal().add_(delta)
    return torch.cholesky_inverse(torch.linalg.cholesky(damped))


def _eliminate_candidates(
    quadratic: Quadratic, weight_teacher: Tensor, candidates: Tensor, prunable: int, damping: float
) -> tuple[Tensor, Tensor]:
    """Order and rises of every channel's own candidates, [C_out, m] each."""
    delta = damping_strength(quadratic, damping)
    always = torch.arange(prunable, weight_teacher.shape[1], device=weight_teacher.device)
    orders, rises = [], []
    for chunk in torch.arange(len(candidates), device=candidates.device).split(_CHUNK):
        weights, inverses = [], []
        for channel in chunk.tolist():
            rows = torch.cat([candidates[channel], always])
            one = quadratic.of_channels(slice(channel, channel + 1))
            anchor = weight_teacher[channel : channel + 1]
            weights.append(one.minimum_near(anchor, rows, delta)[0])
            inverses.append(_inverse(quadratic, rows, delta))
        order, rise = fsc_ext.elimination_order(
            torch.stack(weights), torch.stack(inverses), candidates.shape[1]
        )
        orders.append(candidates[chunk].gather(1, order))
        rises.append(rise)
    return torch.cat(orders), torch.cat(rises)


def drop_cheapest(mask: Tensor, order: Tensor, rises: Tensor, count: int) -> Tensor:
    """Takes `count` weights out of the mask, the cheapest first, in the order of every row."""
    # A removal can only follow those before it in its row: it costs at least as much as they did.
    costs = rises.cummax(1).values.flatten()
    gone = torch.zeros_like(costs, dtype=torch.bool)
    gone[costs.argsort(stable=True)[:count]] = True
    removed = torch.zeros_like(mask).scatter_(1, order, gone.view(order.shape))
    return mask & ~removed


def check_count(weight: Tensor, prunable: int, count: int) -> None:
    """Refuses to keep none of the weights [..., dim], or more of them than may go."""
    total = weight[..., :prunable].numel()
    if not 1 <= count <= total:
        raise ValueError(f"count must be in [1, {total}], got {count}")


def largest_weights(weight: Tensor, prunable: int, count: int) -> Tensor:
    """The mask of the `count` largest magnitudes of a weight [..., dim], and of what may not go."""
    everything = torch.ones_like(weight, dtype=torch.bool)
    return keep_largest(everything, weight[..., :prunable].abs(), count)


def keep_largest(mask: Tensor, scores: Tensor, count: int) -> Tensor:
    """Keeps of a mask [..., dim] the `count` largest scores [..., prunable]."""
    order = scores.flatten().argsort(descending=True, stable=True)
    kept = scores.new_zeros(scores.numel(), dtype=torch.bool)
    kept[order[:count]] = True
    mask = mask.clone()
    mask[..., : scores.shape[-1]] = kept.view(scores.shape)
    return mask
