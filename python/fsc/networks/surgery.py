"""Changing networks in place: folding batch normalization, masking and removing channels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

import fsc_ext
from fsc.networks.modes import evaluation_mode
from fsc.networks.prunable import readers_if_prunable
from fsc.networks.tracing import batch_norm_after, layer_names, trace


def fold_batch_norm(model: nn.Module) -> None:
    """Fold each BatchNorm2d that alone reads a Conv2d into that convolution, in place.

    In evaluation mode the outputs stay the same. An Identity takes the place of the folded
    module, so names and graph stay as they were.

    Raises:
        ValueError: the network cannot be traced, or such a batch normalization keeps no running
            statistics or is called more than once. The network is unchanged then.
    """
    graph = trace(model)
    pairs = []
    for name in layer_names(model, graph):
        follower = batch_norm_after(model, graph, name)
        if follower is not None and isinstance(model.get_submodule(name), nn.Conv2d):
            _check_foldable(model, graph, follower)
            pairs.append((name, follower))
    together: dict[Any, list[tuple[Any, Any]]] = {}  # the operator takes one device and one dtype
    for name, norm in pairs:
        convolution: Any = model.get_submodule(name)
        kind = convolution.weight.device, convolution.weight.dtype
        together.setdefault(kind, []).append((convolution, model.get_submodule(norm)))
    for layers in together.values():
        _fold(layers)
    for _, norm in pairs:
        model.set_submodule(norm, nn.Identity())


def mask_channels(model: nn.Module, kept: Mapping[str, Tensor]) -> None:
    """Zero the output channels of convolutions that are not kept, and what reads them, in place.

    Zeroed are the filters with their bias, the affine parameters and running means of a
    BatchNorm2d that follows, and the input columns of the layers that consume the channels. The
    result computes what `remove_channels` computes, at the old size: it is the form that
    a sliced network is checked against.

    Args:
        model: any network that `trace` accepts.
        kept: indices of the kept output channels, int64 [count], for each Conv2d to be masked.

    Raises:
        ValueError: a name is no Conv2d of the model, its indices are not strictly increasing, in
            range and at least one, it or a consumer is grouped, or its channels reach an
            addition, a concatenation or the output. The network is unchanged then.
    """
    graph = trace(model)
    readers = {name: _check_prunable(model, graph, name, kept[name]) for name in kept}
    with torch.no_grad():
        for name, indices in kept.items():
            convolution = _convolution(model, "kept", name)
            gone = _gone(convolution, indices)  # [C_out - count]
            _zero_rows(convolution, ("weight", "bias"), gone)
            follower = batch_norm_after(model, graph, name)
            if follower is not None:
                norm = model.get_submodule(follower)
                _zero_rows(norm, ("weight", "bias", "running_mean"), gone)
            for reader in readers[name]:
                weight = model.get_submodule(reader).get_parameter("weight")
                # A Linear behind a flattening reads several values of each channel.
                columns = weight.view(weight.shape[0], convolution.out_channels, -1)
                columns[:, gone] = 0.0  # [C_next, C_out, kH * kW or H * W]


def remove_channels(model: nn.Module, kept: Mapping[str, Tensor], example_inputs: Tensor) -> None:
    """Remove the output channels of convolutions that are not kept, in place.

    Filters, batch normalization and the input columns of the consumers are sliced through the
    dependency groups of torch-pruning.

    Args:
        model: any network that `trace` accepts.
        kept: indices of the kept output channels, int64 [count], for each Conv2d to be sliced.
        example_inputs: images that the network accepts, [N, C, H, W]; one is enough.

    Raises:
        ValueError: as `mask_channels`, or torch-pruning finds no group for a layer or one that
            reaches beyond its consumers. The network is unchanged then.
    """
    import torch_pruning  # here: it takes as long to import as all of fsc

    graph = trace(model)
    readers = {name: _check_prunable(model, graph, name, kept[name]) for name in kept}
    with evaluation_mode(model), _all_require_grad(model), torch.enable_grad():
        dependencies = torch_pruning.DependencyGraph()
        try:
            dependencies.build_dependency(model, example_inputs, verbose=False)
        except Exception as error:
            raise ValueError(
                f"remove_channels: model and example_inputs of {list(example_inputs.shape)} must "
                f"run together, failed with: {error}"
            ) from error
        groups = [
            _group(dependencies, model, name, indices, readers[name])
            for name, indices in kept.items()
        ]
        for group in groups:
            group.prune()


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
    model.set_submodule(name, nn.Sequential(convolution, pointwise))


def _check_foldable(model: nn.Module, graph: fx.Graph, name: str) -> None:
    if model.get_submodule(name).running_mean is None:
        raise ValueError(f"fold_batch_norm: module {name!r} must keep running statistics, got none")
    calls = sum(node.op == "call_module" and node.target == name for node in graph.nodes)
    if calls != 1:
        raise ValueError(f"fold_batch_norm: module {name!r} must be called once, got {calls} calls")


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
    module = dict(model.named_modules()).get(name)
    if not isinstance(module, nn.Conv2d):
        found = "nothing" if module is None else type(module).__name__
        raise ValueError(f"{where}: name must be that of a Conv2d, got {name!r} ({found})")
    return module


def _check_prunable(model: nn.Module, graph: fx.Graph, name: str, indices: Tensor) -> list[str]:
    convolution = _convolution(model, "kept", name)
    _check_indices(name, indices, convolution.out_channels)
    try:
        return readers_if_prunable(model, graph, name)
    except ValueError as error:
        raise ValueError(f"kept: {error}") from error


def _check_indices(name: str, indices: Tensor, out_channels: int) -> None:
    if indices.ndim != 1 or indices.is_floating_point() or len(indices) == 0:
        raise ValueError(
            f"kept: indices of layer {name!r} must be integers [count] with count at least 1, "
            f"got {indices.dtype} {list(indices.shape)}"
        )
    inside = int(indices[0]) >= 0 and int(indices[-1]) < out_channels
    if not inside or not bool((indices.diff() > 0).all()):
        raise ValueError(
            f"kept: indices of layer {name!r} must be strictly increasing from 0 to "
            f"{out_channels - 1}, got {indices.tolist()}"
        )


def _gone(convolution: nn.Conv2d, indices: Tensor) -> Tensor:
    gone = convolution.weight.new_ones(convolution.out_channels, dtype=torch.bool)
    gone[indices.to(gone.device)] = False
    return gone.nonzero().flatten()


def _zero_rows(module: nn.Module, names: tuple[str, ...], rows: Tensor) -> None:
    for name in names:
        tensor = getattr(module, name)
        if tensor is not None:
            tensor[rows] = 0.0


@contextmanager
def _all_require_grad(model: nn.Module) -> Iterator[None]:
    # torch-pruning reads the autograd graph, and replaces parameters while it prunes.
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    model.requires_grad_(True)
    try:
        yield
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(flags[name])


def _group(
    dependencies: Any, model: nn.Module, name: str, indices: Tensor, readers: list[str]
) -> Any:
    import torch_pruning

    convolution = _convolution(model, "kept", name)
    gone = _gone(convolution, indices).tolist()
    try:
        group = dependencies.get_pruning_group(
            convolution, torch_pruning.prune_conv_out_channels, gone
        )
    except ValueError as error:
        raise ValueError(
            f"remove_channels: layer {name!r} must be part of the dependency graph, {error}"
        ) from error
    layers = {id(model.get_submodule(reader)) for reader in (name, *readers)}
    for dependency, _ in group:
        module = dependency.target.module
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Parameter) and id(module) not in layers:
            raise ValueError(
                f"remove_channels: layer {name!r} must share its channels with its consumers "
                f"only, got {dependency.target.name!r} in its group"
            )
    return group
