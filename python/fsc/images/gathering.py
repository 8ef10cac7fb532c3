"""Images in whatever form users have them, as one tensor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from fsc.images.checks import device_of

# One tensor [N, C, H, W]; or a DataLoader, Dataset, list, ... of images or batches.
Images: TypeAlias = Tensor | Dataset[Any] | Iterable[Any]


def gathered(
    function: str, images: Images, model: nn.Module, num_images: int | None = None
) -> Tensor:
    """Put images together into one tensor; labels that come with them are dropped.

    Args:
        function: the function that was given the images, for the sentence.
        images: a tensor [N, C, H, W], which is given back as it is; or a DataLoader, a Dataset, or
            anything that gives images [C, H, W] or batches [N, C, H, W], alone or first of a tuple.
            It is read to its end, or until there are enough, and put where the model is.
        model: the network that they are for.
        num_images: how many are enough; the last batch may bring more. None: all are wanted.

    Raises:
        TypeError: it gives something else than tensors.
        ValueError: it gives nothing, or images of different sizes or dtypes.
    """
    if isinstance(images, Tensor):
        return images
    batches: list[Tensor] = []
    for item in _items(function, images):
        batches.append(_batch(function, item))
        if num_images is not None and sum(map(len, batches)) >= num_images:
            break
    if not batches:
        raise ValueError(f"{function}: images must hold at least one, got none")
    kinds = {(tuple(batch.shape[1:]), batch.dtype, batch.device): None for batch in batches}
    if len(kinds) > 1:
        (shape, dtype, _), (other, other_dtype, _) = list(kinds)[:2]
        raise ValueError(
            f"{function}: images must all have one size, dtype and device, got {dtype} "
            f"{list(shape)} and {other_dtype} {list(other)}"
        )
    together = torch.cat(batches)
    return together.to(device_of(model, together))


def _items(function: str, images: Any) -> Iterator[Any]:
    if isinstance(images, Dataset) and not hasattr(images, "__iter__"):
        count: int = len(images)  # type: ignore[arg-type]
        return (images[index] for index in range(count))
    if isinstance(images, str | bytes | dict) or not isinstance(images, Iterable):
        raise TypeError(
            f"{function}: images must be a torch.Tensor, a DataLoader, a Dataset or an iterable of "
            f"images, got {type(images).__name__}"
        )
    return iter(images)


def _batch(function: str, item: Any) -> Tensor:
    """One item of an iterable as a batch [N, C, H, W]."""
    found = item[0] if isinstance(item, tuple | list) and item else item
    if isinstance(item, tuple | list) and any(_is_image(other) for other in item[1:]):
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
    if found.ndim not in (3, 4):
        raise ValueError(
            f"{function}: images must come as [C, H, W] or [N, C, H, W], got {list(found.shape)}"
        )
    return found if found.ndim == 4 else found[None]


def _is_image(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim >= 3
