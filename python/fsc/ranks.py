"""Several processes of one group: what each has to do, and how their shares come together.

Every process runs the same call on the same images. Each takes its share of the images where sums
over images are made, sums are added up over all of them, and what follows from a sum is computed by
the first alone and handed on, lest two machines that round differently part company. Without a
process group there is one rank, and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

Value = TypeVar("Value")

# What torch's engines say where a connection ends.
_BROKEN = ("gloo", "pair closure", "NCCL")
# What errors of the first are to the others.
_KINDS = (ValueError, TypeError, OSError, MemoryError)
# No collective of torch uses it: it is asked only whether anybody listens.
_TAG = 0x66736300

_works_alone = False


class RankLost(RuntimeError):
    """Another process of the group has ended, so that this one cannot go on.

    Args:
        lost: the ranks of those that are known to be gone.
        addition: to the sentence.
    """

    def __init__(self, lost: Sequence[int], addition: str = "") -> None:
        """Puts it in words."""
        self.lost, self.addition = list(lost), addition
        names = " and ".join(map(str, self.lost))
        who = f"rank{'s' * (len(self.lost) > 1)} {names}" if self.lost else "another one"
        verb = "answer" if len(self.lost) > 1 else "answers"
        super().__init__(
            f"all processes of the group must run to the end, {who} no longer {verb}{addition}"
        )

    def __reduce__(self) -> tuple[type[RankLost], tuple[list[int], str]]:
        """For pickle, which would make it of its sentence."""
        return type(self), (self.lost, self.addition)


def count() -> int:
    """How many processes share the work; one without a process group."""
    if _works_alone or not dist.is_available() or not dist.is_initialized():
        return 1
    return dist.get_world_size()


def number() -> int:
    """The rank of this process, from 0."""
    return dist.get_rank() if count() > 1 else 0


def is_first() -> bool:
    """Whether this process is the one that tells and writes."""
    return number() == 0


def own(total: int) -> slice:
    """Which of so many things are for this rank: neighbours, their numbers differ by one at most.

    Example:
        >>> own(5)
        slice(0, 5, None)
    """
    return slice(number() * total // count(), (number() + 1) * total // count())


def share(values: Tensor) -> Tensor:
    """The part [n, ...] of values [N, ...] that is for this rank."""
    return values if count() == 1 else values[own(len(values))]


def add_up(*tensors: Tensor) -> None:
    """Make the tensors of every rank the sums over all ranks, in place; all get the same bits.

    Raises:
        RankLost: a rank has ended.
    """
    if count() > 1:
        with listening():
            for tensor in tensors:
                dist.all_reduce(tensor)


def total(value: int) -> int:
    """The sum of a number over all ranks."""
    return value if count() == 1 else sum(everyone(value))


def side_by_side(tensor: Tensor, axis: int) -> Tensor:
    """The tensors of all ranks along an axis of which each may have as much as it likes, in order.

    Raises:
        RankLost: a rank has ended.
    """
    if count() == 1:
        return tensor
    moved = tensor.movedim(axis, 0)
    sizes = everyone(len(moved))
    padded = moved.new_zeros(max(sizes), *moved.shape[1:])
    padded[: len(moved)] = moved
    found = [torch.empty_like(padded) for _ in sizes]
    with listening():
        dist.all_gather(found, padded)
    parts = [part[:size] for part, size in zip(found, sizes, strict=True)]
    return torch.cat(parts).movedim(0, axis)


def everyone(value: Value) -> list[Value]:
    """What every rank has, in order; of small objects, none on a GPU.

    Raises:
        RankLost: a rank has ended.
    """
    if count() == 1:
        return [value]
    found: list[Value | None] = [None] * count()
    with listening():
        dist.all_gather_object(found, value)
    return found  # type: ignore[return-value]


def first(compute: Callable[[], Value]) -> Value:
    """Compute something on the first rank and hand it to the others; its errors are theirs, too.

    To what is computed there is no other rank.

    Args:
        compute: gives what can be pickled, with tensors of the CPU alone.

    Raises:
        RankLost: a rank has ended.
    """
    if count() == 1:
        return compute()
    error = None
    answer: list[Any] = [None, None, None]
    if is_first():
        try:
            with alone():
                answer[0] = compute()
        except Exception as caught:
            error = caught
            kind = next((each for each in _KINDS if isinstance(caught, each)), RuntimeError)
            answer[1:] = kind, str(caught)
    with listening():
        dist.broadcast_object_list(answer, src=0)
    if error is not None:
        raise error
    if answer[1] is not None:
        raise answer[1](answer[2])
    return answer[0]


def parallel(body: nn.Module) -> nn.Module:
    """A network whose gradients are means over all ranks, on the same parameters.

    It must do the same in every step; parameters that it does not use stay without gradients.
    """
    if count() == 1:
        return body
    with listening():
        return nn.parallel.DistributedDataParallel(body, static_graph=True)


def make_alike(module: nn.Module) -> None:
    """Give every rank the buffers of the first, such as statistics of BatchNorm.

    Raises:
        RankLost: a rank has ended.
    """
    if count() > 1:
        with listening():
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)


@contextmanager
def listening() -> Iterator[None]:
    """Turns what torch says of broken connections into one sentence.

    Raises:
        RankLost: a rank has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, RankLost) or count() == 1 or not _is_broken(error):
            raise
        raise RankLost(lost()) from error


def _is_broken(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(part in str(error) for part in _BROKEN)


# Messages on their way to others, which must not be let go of; one for each that is asked for.
_ASKED: list[object] = []


def lost() -> list[int]:
    """The ranks whose connections are closed, as far as this process can see."""
    if not dist.is_available() or not dist.is_initialized():
        return []
    gone = []
    others = set(range(dist.get_world_size())) - {dist.get_rank()}
    for rank in sorted(others):
        try:
            # Never waited for: where nobody is left it fails at once.
            _ASKED.append(dist.isend(torch.zeros(1, device="cpu"), rank, tag=_TAG))
        except RuntimeError:
            gone.append(rank)
    # Where an engine knows no tensors of the CPU, all fail.
    return gone if len(gone) < len(others) or len(others) == 1 else []


# What was sent must live as long as the process.


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this process works as if there were no group, whatever the others do."""
    global _works_alone
    before, _works_alone = _works_alone, True
    try:
        yield
    finally:
        _works_alone = before
