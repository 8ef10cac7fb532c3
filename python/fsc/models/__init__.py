"""The networks that fsc can build by name, and the input statistics they were trained with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from fsc.wording import shown

if TYPE_CHECKING:
    from torch import Tensor, nn

# Name -> family, and number of layers with weights.
_NETWORKS = {
    **{f"resnet{depth}": ("resnet", depth) for depth in (14, 20, 32, 44, 56, 110)},
    **{f"vgg{depth}": ("vgg", depth) for depth in (13, 16, 19)},
    "resnet164": ("preactivation-resnet", 164),
    "densenet40": ("densenet", 40),
    "resnet34": ("imagenet-resnet", 34),
    "mobilenetv2": ("mobilenetv2", 53),
}
_LARGE_IMAGES = ("imagenet-resnet", "mobilenetv2")
_NORMALIZATION = {
    "resnet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "vgg": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "preactivation-resnet": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "densenet": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "imagenet-resnet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mobilenetv2": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def names() -> list[str]:
    """Return the names that `build` knows."""
    return list(_NETWORKS)


def family(name: str) -> str:
    """Return the family of a network.

    "resnet", "vgg", "preactivation-resnet", which only ResNet-164 is, "densenet",
    "imagenet-resnet", which only ResNet-34 is, or "mobilenetv2".

    Raises:
        ValueError: the name is unknown.
    """
    return _parse(name)[0]


def build(name: str, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build a network with random weights.

    Args:
        name: one of `names()`, for example "resnet56".
        num_classes: number of class scores.
        in_channels: channels of the images.

    Returns:
        A torch.fx-traceable network from [N, in_channels, H, W] to [N, num_classes].

    Raises:
        ValueError: the name is unknown, or a count is below one.

    Example:
        >>> sum(p.numel() for p in build("resnet20").parameters())
        269722
    """
    family_name, depth = _parse(name)
    for argument, count in (("num_classes", num_classes), ("in_channels", in_channels)):
        if count < 1:
            raise ValueError(f"build: {argument} must be at least 1, got {count}")
    # Here, so that the names are there without torch.
    from fsc.models.densenet import densenet
    from fsc.models.imagenet_resnet import imagenet_resnet
    from fsc.models.mobilenetv2 import mobilenetv2
    from fsc.models.preactivation_resnet import preactivation_resnet
    from fsc.models.resnet import resnet
    from fsc.models.vgg import vgg

    builders: dict[str, Callable[[int, int], nn.Module]] = {
        "resnet": partial(resnet, depth),
        "vgg": partial(vgg, depth),
        "preactivation-resnet": partial(preactivation_resnet, depth),
        "densenet": partial(densenet, depth),
        "imagenet-resnet": partial(imagenet_resnet, depth),
        "mobilenetv2": mobilenetv2,
    }
    return builders[family_name](num_classes, in_channels)


def skeleton(
    name: str, num_classes: int = 10, in_channels: int = 3, device: str = "meta"
) -> nn.Module:
    """Build a network of shapes without values; the other arguments are those of `build`.

    On the meta device it takes no memory. On another it can run, on whatever its memory holds.

    Example:
        >>> sum(p.numel() for p in skeleton("resnet20").parameters())
        269722
    """
    import torch

    from fsc.models.undrawn import Undrawn

    with torch.device(device), Undrawn():
        return build(name, num_classes, in_channels)


def normalization(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation of RGB / 255 that a network expects.

    Args:
        name: one of `names()`.

    Returns:
        (mean, std), one number a channel, for values between 0 and 1. The VGG networks,
        ResNet-164 and DenseNet-40 take the statistics of CIFAR-10, all others those of ImageNet.

    Raises:
        ValueError: the name is unknown.
    """
    return _NORMALIZATION[_parse(name)[0]]


def image_side(name: str) -> int:
    """Return the height and width in pixels of the images that a network is made for.

    Raises:
        ValueError: the name is unknown.
    """
    return 224 if family(name) in _LARGE_IMAGES else 32


def example_inputs(name: str, in_channels: int = 3) -> Tensor:
    """Return one black image of the size that a network is made for, [1, in_channels, side, side].

    Raises:
        ValueError: the name is unknown.
    """
    import torch

    side = image_side(name)
    return torch.zeros(1, in_channels, side, side)


def _parse(name: str) -> tuple[str, int]:
    if name not in _NETWORKS:
        raise ValueError(f"name must be one of {', '.join(names())}, got {shown(name)}")
    return _NETWORKS[name]
