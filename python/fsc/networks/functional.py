"""Layers of torch.nn in place of the functions that compute them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fsc.networks.concrete import Recording
from fsc.networks.operations import MEAN

# fmt: off
_CONVOLUTIONS: dict[Any, type[nn.Module]] = {
    F.conv1d: nn.Conv1d, F.conv2d: nn.Conv2d, F.conv3d: nn.Conv3d,
}
_TRANSPOSED: dict[Any, type[nn.Module]] = {
    F.conv_transpose1d: nn.ConvTranspose1d, F.conv_transpose2d: nn.ConvTranspose2d,
    F.conv_transpose3d: nn.ConvTranspose3d,
}
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU,
    "celu": nn.CELU, "selu": nn.SELU, "gelu": nn.GELU, "silu": nn.SiLU, "mish": nn.Mish,
    "hardswish": nn.Hardswish, "hardsigmoid": nn.Hardsigmoid, "hardtanh": nn.Hardtanh,
    "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "softplus": nn.Softplus,
}
_DIMENSIONS: dict[Any, int] = {F.conv1d: 1, F.conv2d: 2, F.conv3d: 3}
# Builtin functions tell no signature; Python's tell theirs.
_SIGNATURES: dict[Any, tuple[str, ...]] = {
    F.linear: ("input", "weight", "bias"),
    F.prelu: ("input", "weight"),
    **dict.fromkeys(
        _CONVOLUTIONS, ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    ),
    **dict.fromkeys(
        _TRANSPOSED,
        ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
    ),
}
_BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_PADDINGS = {2: (nn.ZeroPad1d, nn.ConstantPad1d), 4: (nn.ZeroPad2d, nn.ConstantPad2d),
             6: (nn.ZeroPad3d, nn.ConstantPad3d)}
# fmt: on


def layer_of(node: fx.Node, recording: Recording) -> tuple[nn.Module, fx.Node] | None:
    """Return the layer that computes what a function call computes, and the node that it reads.

    Padding with as many zeros on either side goes into the convolution that reads it.

    Args:
        node: a node of the recorded graph.
        recording: of the module that calls the function.

    Returns:
        None where torch.nn has no such layer, or its weight depends on the inputs.
    """
    name = _activation(node)
    if name is not None:
        return _activation_layer(_ACTIVATIONS[name], node)
    target: Any = node.target
    if target in MEAN.targets:
        return _mean(node, recording)
    if node.op != "call_function":
        return None
    build = {F.linear: _linear, F.prelu: _prelu, F.batch_norm: _batch_norm, F.pad: _padding,
             F.layer_norm: _layer_norm, F.group_norm: _group_norm}.get(target)  # fmt: skip
    if target in _CONVOLUTIONS or target in _TRANSPOSED:
        build = _convolution
    if build is None:
        return None
    arguments = _arguments(node)
    layer = build(node, arguments, recording)
    return None if layer is None else (layer, arguments["input"])


def batch_norm(dimensions: int, tensors: Mapping[str, Tensor | None], eps: float) -> nn.Module:
    """A BatchNorm in evaluation mode with given statistics.

    Args:
        dimensions: of its input, with images and channels.
        tensors: running_mean and running_var, [C], weight and bias, [C] or None.
        eps: what is added to the variance.
    """
    mean = tensors["running_mean"]
    assert mean is not None
    affine = tensors["weight"] is not None
    norm = _BATCH_NORMS[dimensions](len(mean), eps, affine=affine, device=mean.device)
    norm.to(mean.dtype)
    _fill(norm, tensors)
    return norm


def _fill(layer: nn.Module, tensors: Mapping[str, Tensor | None]) -> None:
    """Gives a layer tensors of its own: parameters where it has parameters, else buffers."""
    for name, value in tensors.items():
        if value is None:
            continue
        value = value.detach().clone()
        if name in layer._parameters:
            layer.register_parameter(name, nn.Parameter(value))
        else:
            layer.register_buffer(name, value)


def _arguments(node: fx.Node) -> dict[str, Any]:
    target: Any = node.target
    names = _SIGNATURES.get(target) or tuple(inspect.signature(target).parameters)
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def _constants(
    arguments: Mapping[str, Any], recording: Recording, names: tuple[str, ...]
) -> dict[str, Tensor | None] | None:
    """The tensors of these arguments; None where one depends on the inputs."""
    found: dict[str, Tensor | None] = {}
    for name in names:
        argument = arguments.get(name)
        if argument in recording.varying:
            return None
        found[name] = None if argument is None else recording.values[argument]
    return found


def _plain(value: Any) -> Any:
    """Lists of the graph as tuples; None where something is computed in the graph."""
    if isinstance(value, tuple | list):
        value = tuple(value)
        return None if any(isinstance(part, fx.Node) for part in value) else value
    return None if isinstance(value, fx.Node) else value


def _convolution(
    node: fx.Node, arguments: dict[str, Any], recording: Recording
) -> nn.Module | None:
    tensors = _constants(arguments, recording, ("weight", "bias"))
    weight = None if tensors is None else tensors["weight"]
    names = ("stride", "padding", "output_padding", "dilation", "groups")
    geometry = {name: _plain(arguments[name]) for name in names if name in arguments}
    if tensors is None or weight is None or None in geometry.values():
        return None
    kind = (_CONVOLUTIONS | _TRANSPOSED)[node.target]
    first, second = weight.shape[0], weight.shape[1] * geometry.get("groups", 1)
    channels = (first, second) if node.target in _TRANSPOSED else (second, first)
    if node.target in _CONVOLUTIONS:
        _take_padding_in(node, arguments, geometry)
    options: dict[str, Any] = {**geometry, "bias": tensors["bias"] is not None, "device": "meta"}
    layer = kind(*channels, tuple(weight.shape[2:]), **options)
    _fill(layer, tensors)
    return layer


def _take_padding_in(node: fx.Node, arguments: dict[str, Any], geometry: dict[str, Any]) -> None:
    """Lets a convolution pad what a function pads before it, where it can."""
    source = arguments["input"]
    own = geometry.get("padding", 0)
    if source.op != "call_function" or source.target is not F.pad or isinstance(own, str):
        return
    padding = _arguments(source)
    amounts = _plain(padding["pad"])
    dimensions = _DIMENSIONS[node.target]
    zero = padding.get("mode", "constant") == "constant" and not padding.get("value")
    if not zero or amounts is None or len(amounts) > 2 * dimensions:
        return
    if amounts[::2] != amounts[1::2] or min(amounts) < 0:
        return
    sides = [0] * (dimensions - len(amounts) // 2) + list(amounts[::-2])  # last dimension last
    own = own if isinstance(own, tuple) else (own,) * dimensions
    geometry["padding"] = tuple(a + b for a, b in zip(own, sides, strict=True))
    arguments["input"] = padding["input"]


def _linear(node: fx.Node, arguments: dict[str, Any], recording: Recording) -> nn.Module | None:
    tensors = _constants(arguments, recording, ("weight", "bias"))
    if tensors is None or tensors["weight"] is None or tensors["weight"].ndim != 2:
        return None
    outputs, inputs = tensors["weight"].shape
    layer = nn.Linear(inputs, outputs, tensors["bias"] is not None, device="meta")
    _fill(layer, tensors)
    return layer


def _prelu(node: fx.Node, arguments: dict[str, Any], recording: Recording) -> nn.Module | None:
    tensors = _constants(arguments, recording, ("weight",))
    if tensors is None or tensors["weight"] is None:
        return None
    layer = nn.PReLU(tensors["weight"].numel(), device="meta")
    _fill(layer, tensors)
    return layer


def _batch_norm(node: fx.Node, arguments: dict[str, Any], recording: Recording) -> nn.Module | None:
    tensors = _constants(arguments, recording, ("running_mean", "running_var", "weight", "bias"))
    if tensors is None or arguments.get("training", False):
        return None
    whole = (tensors["weight"] is None) == (tensors["bias"] is None)
    if tensors["running_mean"] is None or tensors["running_var"] is None or not whole:
        return None
    dimensions = recording.values[arguments["input"]].ndim
    return batch_norm(dimensions, tensors, arguments.get("eps", 1e-5))


def _layer_norm(node: fx.Node, arguments: dict[str, Any], recording: Recording) -> nn.Module | None:
    tensors = _constants(arguments, recording, ("weight", "bias"))
    shape = _plain(arguments["normalized_shape"])
    if tensors is None or shape is None or (tensors["weight"] is None) > (tensors["bias"] is None):
        return None
    affine, bias = (tensors[name] is not None for name in ("weight", "bias"))
    layer = nn.LayerNorm(shape, arguments.get("eps", 1e-5), affine, bias, device="meta")
    _fill(layer, tensors)
    return layer


def _group_norm(node: fx.Node, arguments: dict[str, Any], recording: Recording) -> nn.Module | None:
    tensors = _constants(arguments, recording, ("weight", "bias"))
    if tensors is None or (tensors["weight"] is None) > (tensors["bias"] is None):
        return None
    channels = recording.values[arguments["input"]].shape[1]
    affine = tensors["weight"] is not None
    eps = arguments.get("eps", 1e-5)
    layer = nn.GroupNorm(arguments["num_groups"], channels, eps, affine, device="meta")
    _fill(layer, tensors)
    if tensors["bias"] is None:
        layer.register_parameter("bias", None)
    return layer


def _mean(node: fx.Node, recording: Recording) -> tuple[nn.Module, fx.Node] | None:
    """A mean over channels as the layer with weights 1/C, whose inputs can go like any other's."""
    names = ("input", "dim", "keepdim")
    arguments: dict[str, Any] = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    source, axis = arguments["input"], _plain(arguments.get("dim"))
    value = recording.values[source]
    axis = axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis
    if type(axis) is not int or not arguments.get("keepdim") or value.ndim != 4:
        return None
    count = value.shape[axis]
    like: dict[str, Any] = {"bias": False, "dtype": value.dtype, "device": value.device}
    layer: nn.Module
    if axis % 4 == 1:
        layer = nn.Conv2d(count, 1, 1, **like)
    elif axis % 4 == 3 and value.shape[1:3] == (1, 1):  # channels last, and of no pixels a mean
        layer = nn.Linear(count, 1, **like)
    else:
        return None
    nn.init.constant_(layer.get_parameter("weight"), 1 / count)
    return layer, source


def _padding(node: fx.Node, arguments: dict[str, Any], recording: Recording) -> nn.Module | None:
    amounts, mode = _plain(arguments["pad"]), arguments.get("mode", "constant")
    if amounts is None or mode != "constant" or len(amounts) not in _PADDINGS:
        return None
    if recording.values[arguments["input"]].ndim != len(amounts) // 2 + 2:
        return None
    zero, constant = _PADDINGS[len(amounts)]
    value = arguments.get("value") or 0.0
    return zero(amounts) if value == 0 else constant(amounts, value)


def _activation(node: fx.Node) -> str | None:
    """The name of the activation function or method that a node calls."""
    if node.op == "call_method":
        return str(node.target) if node.target in ("relu", "sigmoid", "tanh") else None
    name: str = getattr(node.target, "__name__", "")
    known = name in _ACTIVATIONS and node.op == "call_function"
    if known and node.target in (getattr(F, name, None), getattr(torch, name, None)):
        return name
    return None


def _activation_layer(kind: type[nn.Module], node: fx.Node) -> tuple[nn.Module, fx.Node] | None:
    names = ("input", *inspect.signature(kind).parameters)
    options: dict[str, Any] = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    source: fx.Node = options.pop("input")
    if not options.keys() <= set(names) or any(isinstance(v, fx.Node) for v in options.values()):
        return None
    return kind(**options), source
