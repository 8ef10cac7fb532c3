"""What a network costs: its parameters and its multiply-accumulates."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fsc.images.checks import device_of
from fsc.networks.calls import call_of, output_of
from fsc.networks.modes import without_gradients
from fsc.networks.states import check_sizes_known


@dataclass(frozen=True)
class Size:
    """What a network costs.

    Attributes:
        parameters: number of parameters.
        nonzero: number of them that are not zero.
        flops: multiply-accumulates for one image.
    """

    parameters: int
    nonzero: int
    flops: int


def size(model: nn.Module, example_inputs: Tensor) -> Size:
    """Return all three; `example_inputs` is one image [1, C, H, W]."""
    return Size(parameters(model), nonzero(model), flops(model, example_inputs))


def parameters(model: nn.Module) -> int:
    """Return the number of parameters; one that several modules share counts once.

    Example:
        >>> parameters(nn.Linear(64, 10))
        650
    """
    return sum(parameter.numel() for parameter in model.parameters())


def nonzero(model: nn.Module) -> int:
    """Return the number of parameters that are not zero.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> nonzero(layer.requires_grad_(False).apply(lambda m: m.weight.zero_()))
        1
    """
    return sum(int(parameter.count_nonzero()) for parameter in model.parameters())


def flops(model: nn.Module, example_inputs: Tensor) -> int:
    """Return the multiply-accumulates of the convolutions and linear layers of one forward pass.

    The papers call one multiplication with its addition one FLOP (CD Table 10 and 11: 0.127 G for
    ResNet-56): a convolution counts C_out·H_out·W_out·(C_in/groups)·kH·kW an image. Normalization,
    activations, pooling, additions and biases do not count. torch.utils.flop_counter counts two
    for a multiply-accumulate; the result is half of it.

    Args:
        model: the network; it runs once in evaluation mode and its modes are restored.
        example_inputs: [N, C, H, W], moved to the device of the network; take N = 1 for the cost
            of one image.

    Raises:
        ValueError: a layer does not know its sizes yet.

    Example:
        >>> import torch
        >>> flops(nn.Conv2d(3, 16, 3, padding=1), torch.zeros(1, 3, 32, 32))
        442368
    """
    check_sizes_known("flops: model", model)
    counter = FlopCounterMode(display=False)
    # It looks for the history of what layers read, and fails on a view of a parameter.
    with without_gradients(model), counter:
        output_of(model, call_of(example_inputs.to(device_of(model, example_inputs))))
    return counter.get_total_flops() // 2
