"""Which channel each value of an operation's result comes from, found by running the operation.

NaN spreads to whatever is computed from it. Every label of the inputs has a binary code; for each
bit the operation is run twice, with NaN where the bit is one, and where it is zero. A value that
comes from one label alone is NaN in exactly one of the two runs of each bit, and these runs spell
the code. A value of several labels is NaN in both runs of a bit in which their codes differ. So
nothing has to be known about the operation: what moves, repeats, scales or pools channels apart
from each other is understood, what mixes them is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fsc.channels.labels import NONE, present

# What stands where no NaN does: finite under roots, logarithms and divisions.
_FILL = 0.5


@dataclass(frozen=True)
class Origin:
    """Where the values of one result come from.

    Attributes:
        labels: int64 of the result's shape, NONE where a value comes from no label.
        mixed: bool of the result's shape, where a value comes from several labels.
    """

    labels: Tensor
    mixed: Tensor


def origins(
    operation: Callable[[Sequence[Tensor]], Sequence[Tensor]],
    labels: Sequence[Tensor],
    dtype: torch.dtype = torch.float32,
) -> list[Origin] | None:
    """Run an operation until it is known where each of its values comes from.

    Args:
        operation: from float inputs of the shapes of `labels` to all tensors that it gives.
        labels: of every input, int64 of its shape, NONE where it has none.
        dtype: of the inputs.

    Returns:
        One origin a result; None where the operation cannot be told by NaN: a result is no float,
        or is not finite though the inputs are.
    """
    bases = [torch.full(label.shape, _FILL, dtype=dtype, device="cpu") for label in labels]
    results = operation(bases)
    if not all(result.is_floating_point() and bool(result.isfinite().all()) for result in results):
        return None
    known = present(torch.cat([label.flatten() for label in labels]))
    places = torch.zeros(int(known[-1]) + 2, dtype=torch.int64, device="cpu")
    places[known] = torch.arange(
        len(known), device="cpu"
    )  # the code of a label is its place among the known
    codes = [places[label] for label in labels]
    labelled = [label != NONE for label in labels]
    found = [torch.zeros_like(result, dtype=torch.int64) for result in results]
    touched = [torch.zeros_like(result, dtype=torch.bool) for result in results]
    mixed = [torch.zeros_like(result, dtype=torch.bool) for result in results]
    for bit in range(max(1, (len(known) - 1).bit_length())):
        ones = [(code & 1 << bit).bool() for code in codes]
        sides = []
        for chosen in ([~one for one in ones], ones):
            poisoned = [
                base.masked_fill(there & here, torch.nan)
                for base, there, here in zip(bases, labelled, chosen, strict=True)
            ]
            sides.append([result.isnan() for result in operation(poisoned)])
        for index, (zero, one) in enumerate(zip(*sides, strict=True)):
            found[index] += one.long() << bit
            touched[index] |= zero | one
            mixed[index] |= zero & one
    return [
        Origin(known[code.clamp(max=len(known) - 1)].masked_fill(~any_, NONE), several)
        for code, any_, several in zip(found, touched, mixed, strict=True)
    ]
