"""Whether images can go through a network, asked before any work is done."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from fsc.arguments import check_tensor
from fsc.images.joint import reads_images, unpacked
from fsc.images.scale import TOGETHER

# What the axes of images are called, by their number.
AXES = {2: "NC", 3: "NCL", 4: "NCHW", 5: "NCDHW"}
_CASTS = {torch.float32: "images.float()", torch.float64: "images.double()"}
_CONVOLUTION = nn.modules.conv._ConvNd


def check_images(
    function: str,
    images: Tensor,
    model: nn.Module | None = None,
    graph: fx.Graph | None = None,
    *,
    moved: bool = True,
    min_images: int = 1,
) -> None:
    """Make sure that images are what a function takes and what a network reads.

    Args:
        function: the function that was given the images, for the sentence.
        images: floating point [N, C, H, W]; for a model that begins with another convolution than
            of two dimensions [N, C, L] or [N, C, D, H, W].
        model: the network, to compare the dtype and the device with.
        graph: its graph, to compare the channels with; they are compared only where a convolution
            reads the images themselves, because what stands before it may change their number.
            There may be more axes then, too.
        moved: whether the function moves images to the device of the network itself.
        min_images: the smallest N.

    Raises:
        TypeError: images are no tensor.
        ValueError: the layout, the rank, the dtype, the device or the number of channels is wrong,
            there are too few images, or one holds NaN or Inf.
    """
    check_tensor(f"{function}: images", images)
    rank, exact = _rank(model, graph)
    fits = images.ndim == rank if exact else images.ndim >= rank
    if not (fits and images.is_floating_point()) or images.numel() == 0 or len(images) < min_images:
        axes = ", ".join(AXES[rank])
        raise ValueError(
            f"{function}: images must be floating point [{axes}] with N at least {min_images} "
            f"and {axes[3:]} at least 1, got {images.dtype} {list(images.shape)}"
            f"{_remedy(images, rank)}"
        )
    if images.is_meta:
        raise ValueError(f"{function}: images must hold values, got a tensor on the meta device")
    if model is not None:
        _check_kind(function, images, model, moved)
        _check_channels(function, images, model, graph)
    first = first_not_finite(images)
    if first is not None:
        raise ValueError(f"{function}: images must be finite, got NaN or Inf in image {first}")


def _remedy(images: Tensor, rank: int) -> str:
    """What makes images of another kind such, in words; "" where nothing is known to."""
    if images.numel() == 0 or images.is_complex() or images.dtype == torch.bool:
        return ""
    if not images.is_floating_point():
        such = ", such as (images / 255 - mean) / std" if images.dtype == torch.uint8 else ""
        return f"; prepare them as those that the network was trained on{such}"
    return "; images[None] makes one image such" if images.ndim == rank - 1 else ""


def first_not_finite(images: Tensor) -> int | None:
    """The number of the first image, [N, ...], that holds NaN or Inf."""
    # Some at a time: it takes as much again as it reads.
    finite = torch.cat(
        [part.isfinite().flatten(1).all(1) for part in images.split(TOGETHER)]
    )  # [N]
    return None if finite.all() else int((~finite).nonzero()[0])


def device_of(model: nn.Module, images: Tensor) -> torch.device:
    """The device of a network's parameters; without any, that of the images."""
    parameter = next(model.parameters(), None)
    return images.device if parameter is None else parameter.device


def _check_kind(function: str, images: Tensor, model: nn.Module, moved: bool) -> None:
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    if weight is None:
        return
    if images.dtype != weight.dtype:
        raise ValueError(
            f"{function}: images must have the dtype of the network, {weight.dtype}, "
            f"got {images.dtype}; {_CASTS.get(weight.dtype, f'images.to({weight.dtype})')} has it"
        )
    if not moved and images.device != weight.device:
        raise ValueError(
            f"{function}: images must be on the device of the network, {weight.device}, "
            f"got {images.device}"
        )


def _check_channels(
    function: str, images: Tensor, model: nn.Module, graph: fx.Graph | None
) -> None:
    entry = None if graph is None else _entry(model, graph)
    if entry is not None and images.ndim > 2 and images.shape[1] != entry.in_channels:
        raise ValueError(
            f"{function}: images must have the {entry.in_channels} input channels of the network, "
            f"got {images.shape[1]}"
        )


def rank_of(model: nn.Module) -> int:
    """How many axes images have that the first convolution of a network could read itself."""
    return 2 + next((len(m.kernel_size) for m in model.modules() if isinstance(m, _CONVOLUTION)), 0)


def _rank(model: nn.Module | None, graph: fx.Graph | None) -> tuple[int, bool]:
    """How many axes images have, and whether they may have no more."""
    if model is None:
        return 4, True
    if graph is None:
        return rank_of(model), False
    if any(node.target is unpacked for node in graph.nodes):
        return 2, True
    entry = _entry(model, graph)
    if entry is not None:
        return 2 + len(entry.kernel_size), True
    modules = [model.get_submodule(str(n.target)) for n in graph.nodes if n.op == "call_module"]
    return rank_of(nn.ModuleList(modules)), False


def _entry(model: nn.Module, graph: fx.Graph) -> Any:
    """The first convolution, in execution order, that reads the images themselves."""
    for node in graph.nodes:
        if node.op == "call_module" and reads_images(node):
            module = model.get_submodule(str(node.target))
            if isinstance(module, _CONVOLUTION):
                return module
    return None
