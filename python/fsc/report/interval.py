"""How far an accuracy on a few test images can be from that on all images there could be."""

from __future__ import annotations

import math

# Fewer test images than this leave an accuracy of 90 % uncertain by almost a point.
SMALL_TEST_SET = 5000
_DEVIATIONS = 1.959964  # of a normal variable; 95 % of it lie within


def wilson(top1: float, num_images: int) -> tuple[float, float]:
    r"""Return the 95 % interval of an accuracy, after Wilson (1927).

    .. math:: \frac{p + z^2 / 2n \pm z \sqrt{p (1 - p) / n + z^2 / 4n^2}}{1 + z^2 / n}

    Unlike p plus or minus a multiple of its deviation it stays between 0 and 100 % and does not
    shrink to nothing where every answer is right.

    Args:
        top1: p, the share of right answers, in percent; also the mean over several networks, whose
            answers to the same images are far from independent.
        num_images: n, the test images.

    Returns:
        (lower end, upper end), in percent.

    Raises:
        ValueError: top1 is no percentage, or there are no images.

    Example:
        >>> ["%.1f" % end for end in wilson(99.0, 500)]
        ['97.7', '99.6']
    """
    if not 0 <= top1 <= 100:
        raise ValueError(f"wilson: top1 must be between 0 and 100 percent, got {top1}")
    if num_images < 1:
        raise ValueError(f"wilson: num_images must be at least 1, got {num_images}")
    share, squared = top1 / 100, _DEVIATIONS**2
    middle = share + squared / (2 * num_images)
    variance = share * (1 - share) / num_images + squared / (4 * num_images**2)
    half = _DEVIATIONS * math.sqrt(variance)
    ends = ((middle + sign * half) / (1 + squared / num_images) for sign in (-1, 1))
    low, high = (100 * min(1.0, max(0.0, end)) for end in ends)
    return low, high


def correct(top1: float, num_images: int) -> int:
    """Return how many of the images an accuracy in percent stands for."""
    return round(top1 * num_images / 100)
