"""Lists of weights and biases, as operators on lists give them."""

from collections.abc import Sequence

import torch
from torch import Tensor


def assert_same(found: Sequence[Sequence[Tensor]], expected: Sequence[Sequence[Tensor]]) -> None:
    """Each list has the same tensors: values to the bit, dtypes and strides."""
    for tensors, others in zip(found, expected, strict=True):
        for tensor, other in zip(tensors, others, strict=True):
            assert tensor.dtype == other.dtype and tensor.stride() == other.stride()
            assert torch.equal(tensor, other)
