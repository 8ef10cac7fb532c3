"""Networks as people hand them over: wrapped, compiled, in half precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils._pytree import tree_map

from fsc.images.joint import Inputs
from fsc.networks.computed_weights import copy_of
from fsc.networks.operations import LAYER
from fsc.networks.states import check_sizes_known, is_lazy

_HALF = (torch.float16, torch.bfloat16)
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the network inside torch.compile, (Distributed)DataParallel and AveragedModel.

    What it computes is the same; the names of its layers are its own, without those of wrappers.

    Args:
        model: a network, wrapped any number of times or not at all.

    Example:
        >>> unwrap(nn.DataParallel(nn.Linear(2, 3)))
        Linear(in_features=2, out_features=3, bias=True)
    """
    while (inner := _inner(model)) is not None:
        model = inner
    return model


def outside_of_inference(model: nn.Module) -> nn.Module:
    """A network whose tensors can be learned: a copy of one built in `torch.inference_mode`."""
    # Those without a size yet cannot even be asked; they are refused by name.
    made_there = any(not is_lazy(each) and each.is_inference() for _, each in _tensors(model))
    return copy_of(model) if made_there else model


def check_teacher(teacher: nn.Module) -> None:
    """Make sure that a network can be read, changed and computed with, layer by layer.

    Args:
        teacher: the network, unwrapped.

    Raises:
        ValueError: it is a program instead of modules, has no layer, holds compiled or quantized
            modules, does not know all its sizes yet, lies on several devices or none, is in several
            dtypes, or holds NaN or Inf; the sentence says what to pass instead.
    """
    if isinstance(teacher, torch.jit.ScriptModule):
        raise ValueError(
            "teacher must be a network of Python modules, got a program of TorchScript "
            f"({type(teacher).__name__}); pass the network that it was made from, with the weights "
            "that teacher.state_dict() gives"
        )
    for name, module in teacher.named_modules():
        _check_module(name, module)
    if not any(isinstance(module, LAYER.modules) for module in teacher.modules()):
        found = "none"
        if isinstance(teacher, fx.GraphModule):
            found = "a graph of operators without modules; pass the network that it was made from"
        raise ValueError(
            "teacher must contain a layer that can lose channels, a convolution or Linear, got "
            f"{found}"
        )
    check_sizes_known("teacher", teacher)
    tensors = {**dict(teacher.named_parameters()), **dict(teacher.named_buffers())}
    devices = {tensor.device: name for name, tensor in tensors.items()}
    if len(devices) > 1 or torch.device("meta") in devices:
        found = ", ".join(f"{name} on {device}" for device, name in devices.items())
        raise ValueError(f"teacher must lie on one device and hold values, got {found}")
    dtypes = {p.dtype: name for name, p in teacher.named_parameters() if p.is_floating_point()}
    if len(dtypes) > 1:
        found = ", ".join(f"{name} in {dtype}" for dtype, name in dtypes.items())
        raise ValueError(
            f"teacher must hold its parameters in one dtype, got {found}; teacher.float() does"
        )
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"teacher must have finite weights, got NaN or Inf in {name}")


def check_layers(teacher: nn.Module) -> None:
    """Make sure that a network holds the weights of its layers as parameters.

    Args:
        teacher: the network, as `fsc.plain` has rewritten it.

    Raises:
        ValueError: a weight is computed from other parameters.
    """
    for name, module in teacher.named_modules():
        if isinstance(module, LAYER.modules) and "weight" not in module._parameters:
            raise ValueError(
                "teacher must hold its weights as plain parameters, got computed ones in "
                f"{name} ({type(module).__name__})"
            )


def dtype_of(model: nn.Module) -> torch.dtype:
    """The dtype of a network's parameters; float32 without any."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def in_single_precision(teacher: nn.Module, images: Inputs) -> tuple[nn.Module, Inputs]:
    """A network in half precision as a copy in float32, and images to go with it.

    Half precision is too coarse to solve layers in; networks of other dtypes are returned as they
    are.

    Args:
        teacher: the network; it is not changed.
        images: what it takes, of its dtype or in float32.
    """
    dtype = dtype_of(teacher)
    if dtype not in _HALF:
        return teacher, images

    # Images of any other kind are refused as they are, with a sentence that says so.
    def fitting(value: Any) -> Any:
        return value.float() if isinstance(value, Tensor) and value.dtype == dtype else value

    copied = copy_of(teacher)
    for _, tensor in _tensors(copied):
        if tensor.dtype in _HALF:
            tensor.data = tensor.data.float()
    return copied, tree_map(fitting, images)


def in_dtype_of(teacher: nn.Module, student: nn.Module) -> nn.Module:
    """Give each tensor of a student the dtype that it has in its teacher, in place.

    A network in half precision may hold others, such as the mean of its images in float32; what the
    teacher does not hold is in the dtype of its parameters then.

    Raises:
        ValueError: a weight is too large for that dtype.
    """
    dtype = dtype_of(teacher)
    if dtype not in _HALF:
        return student
    dtypes = {name: tensor.dtype for name, tensor in _tensors(teacher)}
    for name, tensor in _tensors(student):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(_dtype_in(dtypes, name, dtype))
    for name, tensor in student.state_dict().items():
        if not tensor.isfinite().all():
            raise ValueError(
                f"teacher must leave room for a student in {dtype}, got a weight above "
                f"{torch.finfo(dtype).max:g} in {name}; pass teacher.float()"
            )
    return student


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer by each of its names."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _dtype_in(dtypes: Mapping[str, torch.dtype], name: str, otherwise: torch.dtype) -> torch.dtype:
    """The dtype of a tensor: "stem.norm.weight" of a rewritten layer was "stem.weight"."""
    owner, _, own = name.rpartition(".")
    while name not in dtypes and owner:
        owner = owner.rpartition(".")[0]
        name = f"{owner}.{own}" if owner else own
    found = dtypes.get(name, otherwise)
    return found if found.is_floating_point else otherwise


def _inner(model: nn.Module) -> nn.Module | None:
    if isinstance(model, _WRAPPERS):
        return model.module
    # Its class stands in a part of torch that takes seconds to import.
    return model._modules.get("_orig_mod") if type(model).__name__ == "OptimizedModule" else None


def _check_module(name: str, module: nn.Module) -> None:
    kind = type(module)
    if isinstance(module, torch.jit.ScriptModule) or _inner(module) is not None:
        raise ValueError(
            f"teacher must be wrapped, compiled or scripted as a whole or not at all, got {name} "
            f"({kind.__name__}); put the module that it was made from there"
        )
    if kind.__module__.startswith("torch.ao.nn.") and "quantized" in kind.__module__:
        raise ValueError(
            f"teacher must compute in floating point, got the quantized layer {name} "
            f"({kind.__module__}.{kind.__name__}); pass the network before quantization"
        )
