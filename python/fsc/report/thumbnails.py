"""Small pictures of images as networks read them, inside a page."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

import torch
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
            src=f"data:image/png;base64,{base64.b64encode(png(image)).decode()}",
            alt=f"one of the images, {width} x {height} pixels",
            width=image.shape[1],
            height=image.shape[0],
            class_="small" if shrunk >= 1 else None,
        )
        for image in pixels
    ]


def png(pixels: Tensor) -> bytes:
    """A file in PNG of uint8 [H, W, C], grey for one channel and RGB for three.

    Example:
        >>> png(torch.zeros(2, 2, 1, dtype=torch.uint8))[1:4]
        b'PNG'
    """
    height, width, channels = pixels.shape
    rows = pixels.reshape(height, -1)  # [H, W C]
    # Each row begins with its filter: none.
    filtered = F.pad(rows, (1, 0)).contiguous()
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    content = zlib.compress(bytes(filtered.flatten().tolist()), 9)
    parts = (_chunk(b"IHDR", header), _chunk(b"IDAT", content), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check
