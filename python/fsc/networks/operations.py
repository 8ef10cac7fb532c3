"""The operations of a graph, told apart by what they do to channels."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn


@dataclass(frozen=True)
class Kind:
    """The forms in which one sort of operation stands in a graph."""

    modules: tuple[type[nn.Module], ...]
    targets: frozenset[Any]

    def matches(self, model: nn.Module, node: fx.Node) -> bool:
        """Whether a node of the graph of `model` is such an operation."""
        if node.op == "call_module":
            return isinstance(model.get_submodule(str(node.target)), self.modules)
        return node.op in ("call_function", "call_method") and node.target in self.targets


CONVOLUTION = nn.modules.conv._ConvNd
ORDINARY = (nn.Conv1d, nn.Conv2d, nn.Conv3d)  # not transposed
BATCH_NORM = nn.modules.batchnorm._BatchNorm
LAYER = Kind((CONVOLUTION, nn.Linear), frozenset())
LAYER_OR_NORM = Kind((CONVOLUTION, nn.Linear, BATCH_NORM), frozenset())
IDENTITY = Kind((nn.Identity,), frozenset())
RELU = Kind((nn.ReLU,), frozenset({F.relu, torch.relu, "relu"}))
# fmt: off
ACTIVATION = Kind(
    (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
     nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus),
    frozenset({F.relu, F.relu6, F.leaky_relu, F.elu, F.celu, F.selu, F.gelu, F.silu, F.mish,
               F.hardswish, F.hardsigmoid, F.hardtanh, F.sigmoid, F.tanh, F.softplus, torch.relu,
               torch.sigmoid, torch.tanh, "relu", "sigmoid", "tanh"}),
)
POOLING = Kind(
    (nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d, nn.AvgPool1d, nn.MaxPool1d,
     nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d, nn.MaxPool2d,
     nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d, nn.AvgPool3d, nn.MaxPool3d),
    frozenset({F.adaptive_avg_pool1d, F.adaptive_max_pool1d, F.avg_pool1d, F.max_pool1d,
               F.adaptive_avg_pool2d, F.adaptive_max_pool2d, F.avg_pool2d, F.max_pool2d,
               F.adaptive_avg_pool3d, F.adaptive_max_pool3d, F.avg_pool3d, F.max_pool3d}),
)
DROPOUT = Kind(
    (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout),
    frozenset({F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout}),
)
# fmt: on
ADDITION = Kind((), frozenset({operator.add, torch.add, "add"}))
MEAN = Kind((), frozenset({torch.mean, "mean"}))
_SHAPE_METHODS = ("size", "dim", "numel")


def only_user(node: fx.Node) -> fx.Node | None:
    """The one node that reads a node's values, not only its shape; None for any other number."""
    users = [user for user in node.users if not reads_shape(user)]
    return users[0] if len(users) == 1 else None


def is_linear(model: nn.Module, node: fx.Node) -> bool:
    """Whether a node calls a Linear module."""
    return LAYER.matches(model, node) and isinstance(
        model.get_submodule(str(node.target)), nn.Linear
    )


def is_pooling(model: nn.Module, node: fx.Node) -> bool:
    """Whether a node pools over pixels, as a module, a function or a mean over all their axes."""
    if not MEAN.matches(model, node):
        return POOLING.matches(model, node)
    dims: Any = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    dims = [dims] if isinstance(dims, int) else dims
    if not isinstance(dims, tuple | list):
        return False
    # How many axes pixels have is what the network's convolutions say.
    kernels = {len(m.kernel_size) for m in model.modules() if isinstance(m, CONVOLUTION)}
    return any({int(dim) % (2 + k) for dim in dims} == set(range(2, 2 + k)) for k in kernels)


def reads_shape(node: fx.Node) -> bool:
    """Whether a node asks for the shape, dtype or device of a tensor and not for its values."""
    if node.op == "call_method":
        return node.target in _SHAPE_METHODS
    return node.target is getattr and node.args[1] in ("shape", "ndim", "dtype", "device")
