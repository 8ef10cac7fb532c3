"""Images in whatever form users have them, as the tensors that a network takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.data import Dataset

from fsc.images.checks import AXES, device_of, rank_of
from fsc.images.forward import Forward, by_name, by_place, check_one
from fsc.images.joint import Inputs, check_numbers
from fsc.images.labels import labels_in

# One tensor [N, C, ...]; a tuple or dict of them for several inputs; or a DataLoader, Dataset,
# list, ... of images or batches.
Images: TypeAlias = (
    Tensor | tuple[Tensor, ...] | Mapping[str, Tensor] | Dataset[Any] | Iterable[Any]
)


def gathered(
    function: str, images: Images, model: nn.Module, num_images: int | None = None
) -> Inputs:
    """Put images together into one tensor for each input; labels that come with them are dropped.

    Takes and raises what `gathered_with_labels` does.

    Returns:
        A tensor, or what the network is called with: a tuple of arguments or a dict of named ones.
    """
    return gathered_with_labels(function, images, model, num_images)[0]


def gathered_with_labels(
    function: str, images: Images, model: nn.Module, num_images: int | None = None
) -> tuple[Inputs, Tensor | None]:
    """Put images together into one tensor for each input, and the labels that come with them.

    Args:
        function: the function that was given the images, for the sentence.
        images: a tensor [N, C, ...], which is given back as it is. Where the network takes several:
            a tuple of tensors, its arguments, or a dict of tensors, its arguments by name or the
            one dict that it takes. Or a DataLoader, a Dataset, or anything that gives images
            [C, ...] or batches [N, C, ...], alone or first of a tuple, or tuples and dicts of them
            for several inputs, with integer labels behind them or by name. It is read to its end,
            or until there are enough, and put where the model is.
        model: the network that they are for.
        num_images: how many are enough; the last batch may bring more. None: all are wanted.

    Returns:
        (a tensor, or what the network is called with, a tuple of arguments or a dict of named ones;
        labels, int64 [N] on the CPU, or None where not every image has one).

    Raises:
        TypeError: it gives something else than tensors.
        ValueError: it gives nothing, images of different sizes or dtypes, as many as are not in
            every input, or not what the network takes.
    """
    forward = Forward.of(model)
    if isinstance(images, Tensor):
        check_one(function, forward)
        return images, None
    several: Inputs | None = None
    if isinstance(images, Mapping):
        several = by_name(function, images, forward, drops=False)
    elif isinstance(images, tuple) and forward.most > 1:
        several = by_place(function, images, forward)
    if several is not None:
        check_numbers(function, several)
        return several, None
    rank = rank_of(model)
    batches: list[Inputs] = []
    labels: list[Tensor | None] = []
    count = 0
    for item in _items(function, images):
        batches.append(_batch(function, item, forward, rank))
        number = len(tree_flatten(batches[-1])[0][0])
        labels.append(labels_in(item, max(_num_inputs(forward), 1), number))
        count += number
        if num_images is not None and count >= num_images:
            break
    if not batches:
        raise ValueError(f"{function}: images must hold at least one, got none")
    together = _together(function, batches)
    inputs = tree_map(lambda leaf: leaf.to(device_of(model, leaf)), together)
    known = [each for each in labels if each is not None]
    return inputs, torch.cat(known) if len(known) == len(labels) else None


def _together(function: str, batches: list[Inputs]) -> Inputs:
    """Batches one after the other."""
    flat, form = tree_flatten(batches[0])
    columns: list[list[Tensor]] = [[] for _ in flat]
    for batch in batches:
        leaves, own = tree_flatten(batch)
        if own != form:
            raise ValueError(
                f"{function}: images must come alike in every batch, got others in one"
            )
        for column, leaf in zip(columns, leaves, strict=True):
            column.append(leaf)
    for column in columns:
        kinds = {(tuple(leaf.shape[1:]), leaf.dtype, leaf.device): None for leaf in column}
        if len(kinds) > 1:
            (shape, dtype, _), (other, other_dtype, _) = list(kinds)[:2]
            raise ValueError(
                f"{function}: images must all have one size, dtype and device, got {dtype} "
                f"{list(shape)} and {other_dtype} {list(other)}"
            )
    return tree_unflatten([torch.cat(column) for column in columns], form)


def _items(function: str, images: Any) -> Iterator[Any]:
    if isinstance(images, Dataset) and not hasattr(images, "__iter__"):
        count: int = len(images)  # type: ignore[arg-type]
        return (images[index] for index in range(count))
    if isinstance(images, str | bytes) or not isinstance(images, Iterable):
        raise TypeError(
            f"{function}: images must be a torch.Tensor, a tuple or dict of them, a DataLoader, a "
            f"Dataset or an iterable of images, got {type(images).__name__}"
        )
    return iter(images)


def _num_inputs(forward: Forward) -> int:
    """How many arguments a forward needs by place."""
    return len([name for name in forward.required if name in forward.by_place])


def _batch(function: str, item: Any, forward: Forward, rank: int) -> Inputs:
    """One item of an iterable as a batch, [N, C, ...] for every input."""
    count = _num_inputs(forward)
    found: Inputs
    if isinstance(item, Mapping):
        found = by_name(function, item, forward, drops=True)
    elif isinstance(item, tuple | list) and count > 1:
        found = by_place(function, tuple(item)[:count], forward)
    else:
        check_one(function, forward)
        found = _alone(function, item)
    leaves = tree_flatten(found)[0]
    most = max(leaf.ndim for leaf in leaves)
    if most not in (rank - 1, rank):
        one, many = AXES[rank][1:], AXES[rank]
        raise ValueError(
            f"{function}: images must come as [{', '.join(one)}] or [{', '.join(many)}], got "
            f"{' and '.join(str(list(leaf.shape)) for leaf in leaves)}"
        )
    if most == rank - 1:
        found = tree_map(lambda leaf: leaf[None], found)
    check_numbers(function, found)
    return found


def _alone(function: str, item: Any) -> Tensor:
    """The image or images of an item that may hold labels behind them."""
    found = item[0] if isinstance(item, tuple | list) and item else item
    if isinstance(item, tuple | list) and any(_is_image(other, found) for other in item[1:]):
        raise ValueError(
            f"{function}: images must come one batch or image at a time, got a "
            f"{type(item).__name__} of {len(item)}; stack them"
        )
    if not isinstance(found, Tensor):
        hint = "; give the Dataset a transform to tensors" if hasattr(found, "convert") else ""
        raise TypeError(
            f"{function}: images must come as tensors, alone or before their labels, got "
            f"{type(found).__name__}{hint}"
        )
    return found


def _is_image(value: Any, first: Any) -> bool:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return False
    return value.ndim >= 3 or (isinstance(first, Tensor) and value.shape == first.shape)
