"""Which scale of images a network was trained on, as far as the network itself tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fsc.images.scale import ImageStatistics, spread, statistics
from fsc.networks.calls import call_of, output_of
from fsc.networks.operations import BATCH_NORM

# Measured on CIFAR-10 with five pretrained networks, 200 draws each of 1 to 10 images, 40 of 50:
# distances reach 1.2 for one image, 0.41 for ten, 0.25 for fifty, and the ratios of the variances
# lie between 0.044 and 1.9, 0.39 and 1.2, 0.56 and 0.88.
_MOST_DEVIATIONS = 0.25  # for very many images
_MOST_DEVIATIONS_OF_ONE = 1.2  # on top of that for one image; falls as 1 / sqrt(N)
_LEAST_RATIO = 1 / 3
_ENOUGH_IMAGES = 10  # fewer may all have little contrast
_MOST_RATIO = 4.0
# Pixels that a data configuration maps to [0, 1] may overshoot where they were interpolated.
_OVERSHOOT = 0.2
_LEAST_COVERAGE = 0.3
# Normalised images stay within about 5; 0...255 and a deviation of 1 are an order of magnitude off.
_MOST_MAGNITUDE = 20.0
_MOST_IMAGES = 64


def doubt_about_scale(model: nn.Module, images: Tensor, batch_size: int) -> str | None:
    r"""A sentence where images are on another scale than the network was trained on, else None.

    Asked is the first of these that the network has:

    1. the running statistics (mu, v) of the BatchNorm that is called first. With the mean m and
       the variance s of what it reads of the images, over C channels,

       .. math:: d = \sqrt{\frac1C \sum_c \frac{(m_c - \mu_c)^2}{v_c + \epsilon}}, \qquad
                 r = \exp \frac1C \sum_c \log \frac{s_c + \epsilon}{v_c + \epsilon}

       must not be larger, and r not smaller, than a few images differ from many;
    2. timm's data configuration, `pretrained_cfg` or `default_cfg` with mean and std: images must
       lie in the range that it maps 0...1 to, and fill some of it;
    3. nothing: then no value may be larger than 20.

    Colours in another order, or inverted, keep these statistics and pass. Rows of numbers without
    pixels are no images, and not asked.

    Args:
        model: the network; it runs up to its first BatchNorm on at most 64 of the images.
        images: [N, C, ...], on the device of the network.
        batch_size: images in one pass.
    """
    if images.ndim < 3:
        return None
    images = spread(images, _MOST_IMAGES)
    found = statistics(images)
    reading = _first_batch_norm(model, images, batch_size)
    if reading is not None:
        return _doubt_of_batch_norm(reading, found, len(images))
    for attribute in ("pretrained_cfg", "default_cfg"):
        expected = _mean_and_deviation(getattr(model, attribute, None), images.shape[1])
        if expected is not None:
            return _doubt_of_configuration(*expected, found, attribute)
    return _doubt_of_magnitude(found)


@dataclass(frozen=True)
class _Reading:
    """How what a BatchNorm reads differs from what it has learnt."""

    name: str
    deviations: float
    ratio: float


class _Reached(Exception):
    """Ends a forward pass at the first BatchNorm."""

    def __init__(self, name: str, features: Tensor) -> None:
        self.name, self.features = name, features


def _first_batch_norm(model: nn.Module, images: Tensor, batch_size: int) -> _Reading | None:
    norms = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, BATCH_NORM) and _has_learnt(module)
    }
    handles = [
        norm.register_forward_pre_hook(_stop_at(name), with_kwargs=True)
        for name, norm in norms.items()
    ]
    sums: list[Tensor] = []  # of one, value and square, [C] or [] float64 a batch
    try:
        for batch in images.split(batch_size) if norms else ():
            try:
                output_of(model, call_of(batch))
            except _Reached as reached:
                name = reached.name
                sums.append(_sums(reached.features))
    finally:
        for handle in handles:
            handle.remove()
    return _compare(name, norms[name], torch.stack(sums).sum(0)) if sums else None


def _has_learnt(norm: nn.modules.batchnorm._BatchNorm) -> bool:
    """Whether there are statistics, and not those that every BatchNorm starts with."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        return False
    return bool(mean.any()) or bool((variance != 1).any())


def _stop_at(name: str) -> Any:
    def stop(norm: nn.Module, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        raise _Reached(name, arguments[0] if arguments else keywords["input"])

    return stop


def _sums(features: Tensor) -> Tensor:
    """Number, sum and sum of squares of every channel, [3, C], of features [N, C, ...]."""
    wide = features.double()
    axes = (0, *range(2, features.ndim))
    total = wide.sum(axes)
    return torch.stack([torch.full_like(total, wide[:, 0].numel()), total, wide.square().sum(axes)])


def _compare(name: str, norm: nn.modules.batchnorm._BatchNorm, sums: Tensor) -> _Reading:
    assert norm.running_mean is not None and norm.running_var is not None
    count, total, squares = sums  # [C] each
    mean = total / count
    variance = (squares / count - mean.square()).clamp_min(0)
    scale = norm.running_var.double() + norm.eps  # [C]
    deviations = ((mean - norm.running_mean).square() / scale).mean().sqrt()
    ratio = ((variance + norm.eps) / scale).log().mean().exp()
    return _Reading(name, float(deviations), float(ratio))


def _doubt_of_batch_norm(reading: _Reading, found: ImageStatistics, count: int) -> str | None:
    most = _MOST_DEVIATIONS + _MOST_DEVIATIONS_OF_ONE / count**0.5
    least = _LEAST_RATIO * min(1.0, count / _ENOUGH_IMAGES)
    if reading.deviations <= most and least <= reading.ratio <= _MOST_RATIO:
        return None
    return (
        "images seem to be on another scale than those the teacher was trained on: its first "
        f"BatchNorm, {reading.name}, reads values {reading.deviations:.3g} deviations away from "
        f"its running means, with {reading.ratio:.3g} times its running variances, where up to "
        f"{most:.2g} deviations and {least:.2g} to {_MOST_RATIO:.2g} times are usual; got images "
        f"of {_in_words(found)}"
    )


def _mean_and_deviation(
    configuration: Any, channels: int
) -> tuple[list[float], list[float]] | None:
    """What a data configuration, a mapping or an object, says of every channel."""
    if configuration is None:
        return None
    values = []
    for key in ("mean", "std"):
        is_mapping = isinstance(configuration, Mapping)
        value = configuration.get(key) if is_mapping else getattr(configuration, key, None)
        if not isinstance(value, tuple | list) or len(value) != channels:
            return None
        values.append([float(number) for number in value])
    return (values[0], values[1]) if min(values[1]) > 0 else None


def _doubt_of_configuration(
    mean: list[float], deviation: list[float], found: ImageStatistics, attribute: str
) -> str | None:
    # The pixels that the images would have been made from, to be between 0 and 1.
    channels = zip(found.minimum, found.maximum, mean, deviation, strict=True)
    pixels = [(low * d + m, high * d + m) for low, high, m, d in channels]
    inside = all(-_OVERSHOOT <= low and high <= 1 + _OVERSHOOT for low, high in pixels)
    if inside and max(high - low for low, high in pixels) >= _LEAST_COVERAGE:
        return None
    low = min(-m / d for m, d in zip(mean, deviation, strict=True))
    high = max((1 - m) / d for m, d in zip(mean, deviation, strict=True))
    return (
        "images seem to be on another scale than those the teacher was trained on: its "
        f"{attribute} asks for mean {_numbers(mean)} and std {_numbers(deviation)}, which gives "
        f"values from {_number(low)} to {_number(high)}, got images of {_in_words(found)}"
    )


def _doubt_of_magnitude(found: ImageStatistics) -> str | None:
    if max(-min(found.minimum), max(found.maximum)) <= _MOST_MAGNITUDE:
        return None
    return (
        "images seem not to be normalised: networks are mostly trained on values within 5, and "
        "the teacher has neither BatchNorm statistics nor a data configuration that says "
        f"otherwise, got images of {_in_words(found)}"
    )


def _in_words(found: ImageStatistics) -> str:
    return (
        f"mean {_numbers(found.mean)} and deviation {_numbers(found.deviation)} from "
        f"{_number(min(found.minimum))} to {_number(max(found.maximum))}"
    )


def _numbers(values: list[float]) -> str:
    shown = ", ".join(_number(value) for value in values[:3])
    return f"{shown}, ..." if len(values) > 3 else shown


def _number(value: float) -> str:
    return f"{value + 0.0:.3g}"  # no minus before a zero
