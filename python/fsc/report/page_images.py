"""The images of a page: what they look like, how many they were and where they come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten

from fsc.images.checks import first_not_finite
from fsc.images.joint import Inputs, check_numbers, input_names, shapes_in_words
from fsc.report import page_tables
from fsc.report.markup import Markup, tag
from fsc.report.thumbnails import thumbnails


def section(
    told: Mapping[str, Any],
    images: Inputs | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Iterator[Markup]:
    """What the student was made from, in pictures and in numbers.

    Args:
        told: a report, with where the images come from where that is known.
        images: some of them; None: none are shown.
        mean: what was subtracted from each channel of values between 0 and 1; None: unknown.
        std: what divided it.

    Raises:
        ValueError: images are not finite, of other shapes or more than were compressed with, or
            mean and std do not fit them.
        TypeError: images are no tensors.
    """
    yield tag("h2", "The images")
    yield tag("p", _origin(told), class_="above")
    if images is not None:
        _check(images, told)
        yield from _shown(images, told["num_images"], mean, std)
    if told["images"]["mean"]:
        yield page_tables.statistics(told["images"])


def _check(images: Inputs, told: Mapping[str, Any]) -> None:
    """Make sure that images can be some of those that a report tells of.

    Raises:
        ValueError: they are not finite, of other shapes or more.
        TypeError: they are no tensors.
    """
    leaves = tree_flatten(images)[0]
    strange = [leaf for leaf in leaves if not isinstance(leaf, Tensor)]
    if strange or not leaves:
        kind = type(strange[0]).__name__ if strange else type(images).__name__
        raise TypeError(f"page: images must be a tensor, or a tuple or dict of some, got {kind}")
    empty = next((leaf for leaf in leaves if leaf.is_meta or not leaf.numel()), None)
    if empty is not None:
        raise ValueError(
            f"page: images must hold values, got {list(empty.shape)}"
            + (" on the meta device" if empty.is_meta else "")
        )
    check_numbers("page", images)
    arranged = sorted if isinstance(images, dict) else list  # names may come in another order
    if arranged(list(leaf.shape[1:]) for leaf in leaves) != arranged(map(list, told["inputs"])):
        rule = " and ".join(f"[{', '.join(map(str, ('N', *shape)))}]" for shape in told["inputs"])
        raise ValueError(
            f"page: images must be {rule}, as those of the report, got {shapes_in_words(images)}"
        )
    if len(leaves[0]) > told["num_images"]:
        raise ValueError(
            f"page: images must be at most the {told['num_images']:,} of the report, got "
            f"{len(leaves[0]):,}"
        )
    for name, leaf in zip(input_names(images), leaves, strict=True):
        first = first_not_finite(leaf)
        if first is not None:
            raise ValueError(
                f"page: images must be finite, got NaN or Inf in image {first} of {name}"
            )


def _shown(
    images: Inputs, total: int, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Iterator[Markup]:
    leaves = tree_flatten(images)[0]
    for name, leaf in zip(input_names(images), leaves, strict=True):
        called = "" if len(leaves) == 1 else f"{name}: "
        if leaf.ndim != 4 or not leaf.is_floating_point():
            shape = " x ".join(map(str, leaf.shape[1:])) or "one number"
            yield tag("p", f"{called}no pictures, {shape} each.", class_="note")
            continue
        if len(leaves) == 1 and (mean is not None or std is not None):
            _check_statistics(leaf.shape[1], mean, std)
            made, how = thumbnails(leaf, mean, std), ""
        else:
            made = thumbnails(leaf)
            how = ", each stretched from its darkest to its brightest pixel"
        channels = "" if leaf.shape[1] in (1, 3) else f", the first of {leaf.shape[1]} channels"
        whole = "all" if called else "All"
        shown = whole if len(made) == total else f"{len(made)}"
        yield tag("p", f"{called}{shown} of them{channels}{how}:", class_="note above")
        yield tag("ul", *(tag("li", each) for each in made), class_="images")


def _check_statistics(
    channels: int, mean: Sequence[float] | None, std: Sequence[float] | None
) -> None:
    counts = [None if values is None else len(values) for values in (mean, std)]
    if counts != [channels, channels]:
        got = " and ".join("none" if count is None else str(count) for count in counts)
        raise ValueError(
            f"page: mean and std must have one number for each of the {channels} channels of the "
            f"images, got {got}"
        )


def _origin(told: Mapping[str, Any]) -> str:
    """How many images there were, and where they came from."""
    count = "1 image" if told["num_images"] == 1 else f"{told['num_images']:,} images"
    if not told.get("data"):
        return f"{count}."
    drawn = f"drawn with seed {told['seed']}"
    shots, ways = told.get("shots"), told.get("ways")
    if shots is None:
        return f"{count} of {told['data']}, {drawn}."
    classes = "each class" if ways is None else f"each of {ways} classes"
    return f"{count} of {told['data']}, {shots} of {classes}, {drawn}."
