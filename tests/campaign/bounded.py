"""What came out against a value in float64 and how far rounding may lead away from it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fsc_ext.testing import EMULATED

_PLACE = 2.0**-136  # the last place that a denormal keeps


class WrongError(Exception):
    """A result that is not the reference's; the sentence says where and by how much."""


def epsilon(dtype: torch.dtype) -> float:
    """The unit in the last place of 1."""
    return torch.finfo(dtype).eps


def cut_off(*factors: Tensor) -> float:
    """What tensor cores leave out of a product of denormals, which keep ten places in float32."""
    if not EMULATED or factors[0].dtype == torch.float64:
        return 0.0
    sizes = (each.double().abs().nan_to_num(0, 0) for each in factors if each.numel())
    return _PLACE * max((size.max().item() for size in sizes), default=0.0)


def is_extreme(*tensors: Tensor | None) -> bool:
    """Whether a product of two or three of these values may leave the range of their dtype."""
    for tensor in tensors:
        if tensor is None or not tensor.is_floating_point():
            continue
        most = {torch.float64: 1e90, torch.float16: 1e2}.get(tensor.dtype, 1e10)
        size = tensor.double().abs()
        inside = (size == 0) | ((size < most) & (size > 1 / most))
        if not inside.all():
            return True
    return False


def require(what: str, found: Tensor, value: Tensor, error: Tensor | float, lax: bool = False):
    """Compares a tensor with its value in float64.

    Where value and error together pass the range of the dtype, infinity and NaN are right as well.

    Args:
        what: a name, for the sentence.
        found: of any floating-point dtype.
        value: float64, of the same shape.
        error: how far `found` may be from it.
        lax: inf and NaN are taken wherever they are: what is wrong must not look like a number. And
            a number where the value is NaN: nothing times infinity may be left out of a sum.

    Raises:
        WrongError: an element is further away, or the shapes differ.
    """
    if found.shape != value.shape:
        raise WrongError(f"{what} has the shape {list(found.shape)} for {list(value.shape)}")
    limit = torch.finfo(found.dtype)
    wide, value = found.detach().double(), value.detach().double()
    # No error is known where it has become NaN.
    error = torch.as_tensor(error, dtype=torch.float64).detach().nan_to_num(math.inf, math.inf)
    right = (wide == value) | (wide.isnan() & value.isnan())
    right |= (wide - value).abs() <= error + limit.tiny
    right |= lax & value.isnan()
    # Errors are shares of what was added up, which may pass the range on the way.
    right |= ~wide.isfinite() & (lax | ~(value.abs() + error / limit.eps < limit.max / 2))
    if right.all():
        return
    where = (~right).nonzero()[0].tolist()
    at = tuple(where)
    raise WrongError(
        f"{what}{where} is {wide[at].item():.9g} for {value[at].item():.9g} "
        f"within {error.expand_as(value)[at].item():.2g}, as are {int((~right).sum())} of "
        f"{right.numel()}"
    )


def require_equal(what: str, found: Tensor, value: Tensor) -> None:
    """The same values to the bit, but for the sign of zero and which NaN."""
    if found.shape != value.shape or found.dtype != value.dtype:
        raise WrongError(
            f"{what} is {found.dtype} {list(found.shape)} for {value.dtype} {list(value.shape)}"
        )
    same = found == value
    if found.is_floating_point():
        same |= found.isnan() & value.isnan()
    if not same.all():
        at = tuple((~same).nonzero()[0].tolist())
        raise WrongError(f"{what}{list(at)} is {found[at].item()} for {value[at].item()}")
