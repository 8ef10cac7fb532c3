"""Changing networks in place: folding batch normalization, inserting 1x1 convolutions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import fsc_ext
from fsc.arguments import check_module
from fsc.networks.operations import ORDINARY
from fsc.networks.placing import put
from fsc.networks.tracing import batch_norm_after, layer_names, trace
from fsc.wording import shown


def fold_batch_norm(model: nn.Module) -> None:
    """Fold each BatchNorm that alone reads a convolution into it, in place.

    Transposed convolutions keep theirs, and one that is called more than once stays as it is: it
    is of other convolutions, too.

    In evaluation mode the outputs stay the same. An Identity takes the place of the folded
    module, so names and graph stay as they were.

    Raises:
        ValueError: the network cannot be traced, or such a batch normalization keeps no running
            statistics. The network is unchanged then.
        TypeError: model is no network.
    """
    check_module("fold_batch_norm: model", model)
    graph = trace(model)
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    pairs = []
    for name in layer_names(model, graph):
        follower = batch_norm_after(model, graph, name)
        if follower is None or calls[follower] > 1:
            continue
        if isinstance(model.get_submodule(name), ORDINARY):
            _check_statistics(model, follower)
            pairs.append((name, follower))
    together: dict[Any, list[tuple[Any, Any]]] = {}  # the operator takes one device and one dtype
    for name, norm in pairs:
        convolution: Any = model.get_submodule(name)
        kind = convolution.weight.device, convolution.weight.dtype
        together.setdefault(kind, []).append((convolution, model.get_submodule(norm)))
    for layers in together.values():
        _fold(layers)
    for _, norm in pairs:
        put(model, norm, nn.Identity())


def insert_pointwise(
    model: nn.Module, name: str, weight: Tensor, bias: Tensor | None = None
) -> None:
    """Put a 1x1 convolution behind a convolution, in place.

    The layer `name` becomes a Sequential of itself and the new convolution. This is the explicit
    form of FSKD's Theorem 1, with the 1x1 convolution still in the network; its outputs must equal
    those of the layer that `fsc_ext.absorb_conv1x1` gives.

    Args:
        model: the network.
        name: a Conv2d of it with C_out' output channels.
        weight: [C_out, C_out'].
        bias: [C_out], or None.

    Raises:
        ValueError: the name is no Conv2d of the model, or weight or bias does not fit it.
    """
    convolution = _convolution(model, "insert_pointwise", name)
    if weight.ndim != 2 or weight.shape[1] != convolution.out_channels:
        raise ValueError(
            f"insert_pointwise: weight must be [C_out, {convolution.out_channels}] for layer "
            f"{name!r}, got {list(weight.shape)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"insert_pointwise: bias must be [{weight.shape[0]}], got {list(bias.shape)}"
        )
    out_channels, in_channels = weight.shape
    pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=bias is not None)
    pointwise.to(convolution.weight)
    with torch.no_grad():
        pointwise.weight.copy_(weight[:, :, None, None])  # [C_out, C_out', 1, 1]
        if bias is not None and pointwise.bias is not None:
            pointwise.bias.copy_(bias)  # [C_out]
    pointwise.train(convolution.training)
    put(model, name, nn.Sequential(convolution, pointwise))


def _check_statistics(model: nn.Module, name: str) -> None:
    if model.get_submodule(name).running_mean is None:
        raise ValueError(f"fold_batch_norm: module {name!r} must keep running statistics, got none")


def _fold(pairs: Sequence[tuple[Any, Any]]) -> None:
    """Folds every batch normalization into the convolution before it, all of them at once."""
    with torch.no_grad():
        weights, biases = fsc_ext.foreach_fuse_conv_bn(
            [convolution.weight for convolution, _ in pairs],
            [convolution.bias for convolution, _ in pairs],
            [norm.running_mean for _, norm in pairs],
            [norm.running_var for _, norm in pairs],
            [norm.weight for _, norm in pairs],
            [norm.bias for _, norm in pairs],
            [norm.eps for _, norm in pairs],
        )  # of [C_out, C_in, kH, kW], of [C_out]
    for (convolution, _), weight, bias in zip(pairs, weights, biases, strict=True):
        requires_grad = convolution.weight.requires_grad
        convolution.weight = nn.Parameter(weight, requires_grad)
        convolution.bias = nn.Parameter(bias, requires_grad)


def _convolution(model: nn.Module, where: str, name: str) -> nn.Conv2d:
    check_module(f"{where}: model", model)
    module = dict(model.named_modules()).get(name)
    if not isinstance(module, nn.Conv2d):
        found = "nothing" if module is None else type(module).__name__
        raise ValueError(f"{where}: name must be that of a Conv2d, got {shown(name)} ({found})")
    return module
