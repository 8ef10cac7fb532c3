"""Small pictures of images as networks read them, inside a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fsc.images.scale import spread
from fsc.report.markup import Markup, tag

MOST = 20
# Pixels of the longer side; smaller images stay as they are.
_LONGEST = 96


def thumbnails(
    images: Tensor, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> list[Markup]:
    """At most `MOST` images as elements of a page, evenly spaced among all.

    Args:
        images: [N, C, H, W] floating point; of three channels they are in colour, of any other
            number the first is shown.
        mean: what was subtracted from each channel of values between 0 and 1; None: every image is
            stretched from its darkest to its brightest pixel.
        std: what divided it.
    """
    chosen = spread(images.detach(), MOST)
    shown = chosen.to("cpu", torch.float32)  # [n, C, H, W]
    if mean is not None and std is not None:
        own = [torch.tensor(values, device="cpu").reshape(1, -1, 1, 1) for values in (mean, std)]
        shown = shown * own[1] + own[0]
    else:
        low, high = shown.amin((1, 2, 3), keepdim=True), shown.amax((1, 2, 3), keepdim=True)
        shown = (shown - low) / (high - low).clamp(min=1e-12)
    if shown.shape[1] != 3:
        shown = shown[:, :1]
    height, width = shown.shape[2:]
    shrunk = _LONGEST / max(height, width)
    if shrunk < 1:
        size = [max(1, round(shrunk * side)) for side in (height, width)]
        shown = F.interpolate(shown, size, mode="bilinear", antialias=True)
    pixels = (255 * shown.clamp(0, 1)).round().to(torch.uint8).permute(0, 2, 3, 1)
    return [
        tag(
            "img",
            src=f"data:image/png;base64,{_png(image)}",
            alt=f"one of the images, {width} x {height} pixels",
            width=image.shape[1],
            height=image.shape[0],
            class_="small" if shrunk >= 1 else None,
        )
        for image in pixels
    ]


def _png(pixels: Tensor) -> str:
    """A file in PNG, as text, of uint8 [H, W, C]: grey for one channel, RGB for three."""
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(2).numpy()).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
