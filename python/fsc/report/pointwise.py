"""The pointwise matrices of layers, as pictures (FSKD, Fig. 8)."""

from __future__ import annotations

import copy
import math
import os
import textwrap
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fsc.networks import surgery
from fsc.networks.decoupling import decoupled, decoupled_of
from fsc.networks.wrappers import unwrap
from fsc.report import figure

_TITLE = 60  # letters in a line above a figure of two pictures; others have more or fewer by width


def pointwise_matrix(model: nn.Module, name: str) -> Tensor:
    r"""The pointwise convolution of a layer's first term, BatchNorm folded.

    A layer that is decoupled, and any that can be, is :math:`W_{:, i} = \sum_t p_{i, t}
    d_{i, t}^\top`; the columns of the matrix are :math:`p_{i, 1}`, of the largest singular value. A
    1x1 convolution is its own. A term leaves the sign open: here the taps of each :math:`d_{i, 1}`
    add up to at least 0.

    Args:
        model: the network.
        name: of a convolution without groups, or of one that is decoupled.

    Returns:
        [C_out, C_in] on the CPU.

    Raises:
        ValueError: the network has no such layer.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        >>> pointwise_matrix(net, "0").shape
        torch.Size([8, 3])
    """
    given = dict(unwrap(model).named_modules()).get(name)
    terms = decoupled_of(unwrap(model)).get(name)
    if terms is None and (type(given) is not nn.Conv2d or given.groups != 1):
        told = "none" if given is None else type(given).__name__
        raise ValueError(
            f"name must be that of a Conv2d of one group, or of a decoupled one, got {told} at "
            f"{name!r}"
        )
    folded = copy.deepcopy(unwrap(model)).eval()
    surgery.fold_batch_norm(folded)
    layer: Any = folded.get_submodule(name)
    if terms is None:
        layer, terms = decoupled(layer, 1), 1
    every = layer.pointwise.weight.detach().flatten(1)  # [C_out, C_in T]
    filters = layer.depthwise.weight.detach().flatten(1)  # [C_in T, kH kW]
    signs = torch.where(filters.sum(1) < 0, -1.0, 1.0).to(every.dtype)
    return (every * signs)[:, ::terms].cpu()


def scaled(matrix: Tensor) -> Tensor:
    """The values of a matrix between 0, its smallest, and 1, its largest."""
    low, high = matrix.min(), matrix.max()
    return (matrix - low) / (high - low) if high > low else torch.full_like(matrix, 0.5)


def draw(
    matrices: Mapping[str, Tensor], path: str | os.PathLike[str], *, title: str, name: str
) -> None:
    """Draw matrices side by side, each scaled to the range from 0 to 1.

    Args:
        matrices: what stands above each -> [C_out, C_in].
        path: the file; its suffix, one of `figure.SUFFIXES`, says which kind.
        title: above all of them.
        name: of the layer.

    Raises:
        ValueError: there is nothing to draw, or the suffix is unknown.
        OSError: the file cannot be written.
    """
    figure.check_name(path)
    if not matrices:
        raise ValueError("draw: matrices must not be empty")
    count = len(matrices)
    tallest = max(min(2.0, len(m) / m.shape[1]) for m in matrices.values())
    drawn = figure.blank(1.2 + 2.7 * count, 1.4 + 2.15 * max(0.6, tallest))
    width = math.floor(_TITLE * (1.2 + 2.7 * count) / 6.6)
    text = textwrap.fill(f"{title}: pointwise matrix of {name}", width, break_on_hyphens=False)
    drawn.suptitle(text, fontsize=11)
    for axes, (above, matrix) in zip(
        drawn.subplots(1, count, squeeze=False)[0], matrices.items(), strict=True
    ):
        image = axes.imshow(
            scaled(matrix.double()).numpy(), cmap="viridis", vmin=0, vmax=1, interpolation="nearest"
        )
        axes.set_title(above, fontsize=10)
        axes.set_xlabel("input channel")
    first, *_ = drawn.axes
    first.set_ylabel("output channel")
    drawn.colorbar(image, ax=drawn.axes, label="value, smallest 0 and largest 1", shrink=0.75)
    figure.write(drawn, path)
