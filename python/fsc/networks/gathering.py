"""Images in whatever form users have them, as the tensors that a network takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.data import DataLoader, Dataset

from fsc.images.checks import AXES, device_of, rank_of
from fsc.images.forward import Forward, by_name, by_place, check_one
from fsc.images.joint import Inputs, check_numbers, shapes_in_words
from fsc.images.labels import LABEL_NAMES, labels_in
from fsc.networks.calls import call_of, output_of
from fsc.networks.computed_weights import copy_of
from fsc.networks.wrappers import dtype_of
from fsc.wording import shown

# One tensor [N, C, ...]; a tuple or dict of them for several inputs; or a DataLoader, Dataset,
# list, ... of images or batches.
Images: TypeAlias = (
    Tensor | tuple[Tensor, ...] | Mapping[str, Tensor] | Dataset[Any] | Iterable[Any]
)


def gathered(
    function: str, images: Images, model: nn.Module, num_images: int | None = None
) -> tuple[Inputs, Tensor | None]:
    """Put images together into one tensor for each input, and the labels that come with them.

    Args:
        function: the function that was given the images, for the sentence.
        images: a tensor [N, C, ...], which is given back as it is, or of integers [N, ...]. Where
            the network takes several: a tuple of tensors, its arguments, or a dict of tensors, its
            arguments by name or the one dict that it takes. Or a DataLoader, a Dataset, or anything
            that gives images [C, ...] or batches [N, C, ...], alone or first of a tuple, or tuples
            and dicts of them for several inputs, with integer labels behind them or by name; dicts
            with images under any one name where the network takes one tensor. It is read to its
            end, or until there are enough, and put where the model is. Whether it gives images or
            batches is what the network, run on the first, says.
        model: the network that they are for.
        num_images: how many are enough; the last batch may bring more. None: all are wanted.

    Returns:
        (a floating-point tensor, or what the network is called with, a tuple of arguments or a dict
        of named ones; labels, int64 [N] on the CPU, or None where not every image has one).

    Raises:
        TypeError: it gives something else than tensors.
        ValueError: it gives nothing, images of different sizes or dtypes, as many as are not in
            every input, or not what the network takes.
    """
    forward = Forward.of(model)
    if isinstance(images, tuple) and len(images) == 1 and _are_integers(images):
        images = images[0]
    if isinstance(images, Tensor):
        check_one(function, forward)
        return _of_one(function, images, model), None
    several: Inputs | None = None
    if isinstance(images, Mapping):
        several = by_name(function, images, forward, drops=False)
    elif isinstance(images, tuple) and forward.most > 1:
        several = by_place(function, images, forward)
    if several is not None:
        check_numbers(function, several)
        return several, None
    batches: list[Inputs] = []
    labels: list[Tensor | None] = []
    count = rank = 0
    name: str | None = None
    for item in _items(function, images):
        found = _item(function, item, forward) if name is None else _named(function, item, name)
        if not batches:
            name = _name_of_images(found, model)
            found = found if name is None else _named(function, item, name)
            is_loader = isinstance(images, DataLoader) and images.batch_sampler is not None
            rank = _rank(function, found, model, is_loader)
        batches.append(_batch(function, found, rank))
        number = len(tree_flatten(batches[-1])[0][0])
        labels.append(labels_in(item, max(_num_inputs(forward), 1), number))
        count += number
        if num_images is not None and count >= num_images:
            break
    if not batches:
        raise ValueError(f"{function}: images must hold at least one, got none")
    together = _together(function, batches)
    together = tree_map(lambda leaf: leaf.to(device_of(model, leaf)), together)
    if isinstance(together, Tensor):
        together = _of_one(function, together, model)
    known = [each for each in labels if each is not None]
    return together, torch.cat(known) if len(known) == len(labels) else None


def _of_one(function: str, images: Tensor, model: nn.Module) -> Inputs:
    """What a network is called with that takes one tensor.

    Integers, such as indices of words, are no images but an argument like any other, except where
    the network wants the same in floating point.
    """
    is_index = _are_integers(images)
    if not is_index or (not _runs(model, images) and _runs(model, images.to(dtype_of(model)))):
        return images
    check_numbers(function, (images,))
    return (images,)


def _are_integers(inputs: Any) -> bool:
    return all(
        isinstance(leaf, Tensor) and not leaf.is_floating_point() and not leaf.is_complex()
        for leaf in tree_flatten(inputs)[0]
    )


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
            "Dataset, such as fsc.images.folder.ImageFolder(path), or an iterable of images, got "
            f"{type(images).__name__}"
        )
    return iter(images)


def _num_inputs(forward: Forward) -> int:
    """How many arguments a forward needs by place."""
    return len([name for name in forward.required if name in forward.by_place])


def _item(function: str, item: Any, forward: Forward) -> Inputs:
    """The inputs in one item of an iterable, without labels: of one image or of a batch."""
    count = _num_inputs(forward)
    if isinstance(item, Mapping):
        inputs = by_name(function, item, forward, drops=True)
        if not tree_flatten(inputs)[0]:  # no tensor: images as files give them, or nothing
            rest = (value for name, value in item.items() if name not in LABEL_NAMES)
            return _alone(function, next(rest, item))
        return inputs
    if isinstance(item, tuple | list) and forward.most > max(count, 1):
        _check_labels(function, item, max(count, 1), forward)
    if isinstance(item, tuple | list) and count > 1:
        return by_place(function, tuple(item)[:count], forward)
    check_one(function, forward)
    return _alone(function, item)


def _name_of_images(first: Inputs, model: nn.Module) -> str | None:
    """What a dict calls its only images, where the network takes these alone and no dict.

    Datasets of Hugging Face give such dicts: "image" or "img", and "label".
    """
    if not (isinstance(first, tuple) and isinstance(first[0], Mapping)):
        return None
    leaves = {name: leaf for name, leaf in first[0].items() if name not in LABEL_NAMES}
    names = [name for name, leaf in leaves.items() if leaf.is_floating_point()] or [*leaves]
    if len(names) != 1 or _takes(model, first) or not _takes(model, first[0][names[0]]):
        return None
    return names[0]


def _takes(model: nn.Module, item: Inputs) -> bool:
    """Whether a network runs on an item, of one image or of a batch."""
    return _runs(model, item) or _runs(model, tree_map(lambda leaf: leaf[None], item))


def _named(function: str, item: Any, name: str) -> Tensor:
    """The images of a dict by their name.

    Raises:
        TypeError: they are no tensor.
        ValueError: there are none of that name.
    """
    if not isinstance(item, Mapping) or name not in item:
        raise ValueError(
            f"{function}: images must come as {shown(name)} in every dict, got one without"
        )
    return _alone(function, item[name])


def _check_labels(function: str, item: Sequence[Any], count: int, forward: Forward) -> None:
    """Makes sure that what would be dropped behind the required arguments is no argument."""
    if any(_is_image(other, item[0]) for other in item[count:]):
        raise ValueError(
            f"{function}: images must come as dicts of arguments, or as one tuple of all tensors, "
            f"where {forward} can do without some, got a {type(item).__name__} of {len(item)}"
        )


def _rank(function: str, first: Inputs, model: nn.Module, is_loader: bool) -> int:
    """How many axes a batch has, where the first item is one or a single image.

    The first convolution knows how many it reads itself, but need not be what reads the images, so
    that the network is run on one image. No convolution reads integers.
    """
    usual, most, is_read = rank_of(model), _most_axes(first), not _are_integers(first)
    ranks = {most: first, most + 1: tree_map(lambda leaf: leaf[None], first)}
    if is_read and usual in ranks and _runs(model, ranks[usual]):
        return usual
    asked = [rank for rank in ranks if rank > usual or not is_read]
    fitting = [rank for rank in asked if _runs(model, ranks[rank])]
    if len(fitting) == 1 or (fitting and is_loader):
        return fitting[0]
    if fitting:
        raise ValueError(
            f"{function}: images must come as one tensor where {Forward.of(model)} takes an item "
            f"as an image and as a batch, got {shapes_in_words(first)}; stack them"
        )
    if usual in ranks:
        return usual  # what does not fit in it is said by whoever looks at all images
    one, many = AXES[usual][1:], AXES[usual]
    raise ValueError(
        f"{function}: images must come as [{', '.join(one)}] or [{', '.join(many)}], or as "
        f"{Forward.of(model)} takes them, got {shapes_in_words(first)}"
    )


def _most_axes(inputs: Inputs) -> int:
    return max(leaf.ndim for leaf in tree_flatten(inputs)[0])


def _runs(model: nn.Module, inputs: Inputs) -> bool:
    """Whether a network runs on the first image of a batch; a copy, which may count its runs."""

    def fitting(leaf: Tensor) -> Tensor:
        kind = dtype_of(model) if leaf.is_floating_point() else leaf.dtype
        return leaf[:1].detach().to(device_of(model, leaf), kind)

    try:
        output_of(copy_of(model), call_of(tree_map(fitting, inputs)))
    except Exception:  # whatever a forward of somebody else raises
        return False
    return True


def _batch(function: str, found: Inputs, rank: int) -> Inputs:
    """One item as a batch of so many axes, [N, C, ...] for every input."""
    most = _most_axes(found)
    if most not in (rank - 1, rank):
        hint = "; labels of all images are given as labels=" if _are_integers(found) else ""
        raise ValueError(
            f"{function}: images must have {rank - 1} axes, or {rank} in batches, as the first do, "
            f"got {shapes_in_words(found)}{hint}"
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
        hint = "; torch.from_numpy makes them such" if isinstance(found, np.ndarray) else hint
        raise TypeError(
            f"{function}: images must come as tensors, alone or before their labels, got "
            f"{type(found).__name__}{hint}"
        )
    return found


def _is_image(value: Any, first: Any) -> bool:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return False
    return value.ndim >= 3 or (isinstance(first, Tensor) and value.shape == first.shape)
