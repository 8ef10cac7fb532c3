"""BatchNorms that a method has folded, put back behind what their convolutions have become.

In evaluation mode nothing changes. In train mode a network without BatchNorm bears other learning
rates than one with it: a student that is to be trained as its teacher was needs the same layers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fsc import ranks
from fsc.channels.cutting import cut_channels
from fsc.methods.base import Outcome, Task
from fsc.methods.channel_sums import ChannelSums
from fsc.networks.modes import evaluation_mode
from fsc.networks.operations import BATCH_NORM, ORDINARY
from fsc.networks.placing import put
from fsc.networks.tracing import trace
from fsc.schemes.reasons import commonest

# Of a layer's largest factor: what a smaller one would make of a weight is out of proportion.
_LEAST_FACTOR = 1e-3
# Of the teacher's variance: a channel of a smaller one is constant on the images.
_LEAST_VARIANCE = 1e-6


@torch.no_grad()
def with_batch_norm(outcome: Outcome, task: Task) -> Outcome:
    r"""What a method made, its student with the convolutions and BatchNorms of the teacher.

    .. math:: W h + b = \gamma \frac{(W / s) h - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta, \quad
              \gamma = s \sqrt{\sigma^2 + \epsilon}, \quad \beta = b + s \mu

    with :math:`\mu` and :math:`\sigma^2` those of (W / s) h on the images and s the factor of the
    teacher's BatchNorm, :math:`\gamma_T / \sqrt{\sigma_T^2 + \epsilon}`, so that weights are as
    large as the teacher's. A bias that the teacher has in front of its BatchNorm is there and zero.

    Args:
        outcome: of any method; its student is changed in place. Where nothing was folded it stays
            as it is.
        task: what the method was given.

    Returns:
        The same, with what stays folded, and why, in `held_back` and in a warning.
    """
    student = outcome.student
    names = _folded(task.teacher, student)
    if not names:
        return outcome
    pruned = copy.deepcopy(task.teacher)  # its BatchNorms have the channels that stay
    cut_channels(pruned, task.groups, outcome.kept)
    made, sources = _before(student, names), _before(pruned, names)
    left = {name: why for name in names if (why := _unfit(name, made[name], pruned)) is not None}
    names = [name for name in names if name not in left]
    for name, (mean, variance) in _statistics(student, names, task).items():
        # A copy: several may share a parameter, which no longer suits both.
        convolution, norm = made[name], copy.deepcopy(pruned.get_submodule(name))
        _write(convolution, norm, mean, variance)
        convolution.bias = _zeros(getattr(sources[name], "bias", None))
        put(student, name, norm.eval())
    if not left:
        return outcome
    said = f"keep_batch_norm: {len(left)} BatchNorms stay folded; {commonest(left)}"
    warnings = [*outcome.warnings, said]
    return replace(outcome, held_back=outcome.held_back | left, warnings=warnings)


def _zeros(bias: nn.Parameter | None) -> nn.Parameter | None:
    """A bias of zeros in the place of a teacher's, trained where that is."""
    return None if bias is None else nn.Parameter(torch.zeros_like(bias), bias.requires_grad)


def _folded(teacher: nn.Module, student: nn.Module) -> list[str]:
    """The BatchNorms of a teacher in whose place the student has nothing."""
    found = dict(student.named_modules())
    return [
        name
        for name, module in teacher.named_modules()
        if isinstance(module, BATCH_NORM) and isinstance(found.get(name), nn.Identity)
    ]


def _before(model: nn.Module, names: list[str]) -> dict[str, Any]:
    """The convolutions that modules read, None where it is none or something else is called."""
    found: dict[str, Any] = dict.fromkeys(names)
    for node in trace(model).nodes:
        if node.op != "call_module" or node.target not in found:
            continue
        source = node.all_input_nodes[0]
        layer = model.get_submodule(str(source.target)) if source.op == "call_module" else None
        found[str(node.target)] = layer if isinstance(layer, ORDINARY) else None
    return found


def _unfit(name: str, convolution: Any, pruned: nn.Module) -> str | None:
    """Why a BatchNorm cannot stand behind what it was folded into; None where it can."""
    norm: Any = pruned.get_submodule(name)
    if convolution is None or convolution.bias is None:
        return f"{name!r} does not stand behind a convolution with a bias in the student"
    if convolution.out_channels != norm.num_features:
        return (
            f"{name!r} has {norm.num_features} channels, the convolution before it "
            f"{convolution.out_channels}"
        )
    return None


def _statistics(
    student: nn.Module, names: list[str], task: Task
) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance [C] float64 of what each module is given, over the images of all ranks."""
    found = {name: ChannelSums(task.images.device) for name in names}
    with evaluation_mode(student), _watched(student, found):
        for batch in ranks.share(task.images).split(task.batch_size):
            student(batch)
    return {name: sums.moments() for name, sums in found.items()}


@contextmanager
def _watched(student: nn.Module, found: dict[str, ChannelSums]) -> Iterator[None]:
    hooks = [
        student.get_submodule(name).register_forward_pre_hook(partial(_see, sums))
        for name, sums in found.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _see(sums: ChannelSums, module: nn.Module, given: tuple[Tensor, ...]) -> None:
    sums.add(given[0])


def _write(convolution: Any, norm: Any, mean: Tensor, variance: Tensor) -> None:
    """Writes a convolution with bias as one without, and the teacher's BatchNorm behind it.

    Args:
        convolution: of the student; its bias is left to the caller.
        norm: the teacher's, with the student's channels; it is changed.
        mean: of what the convolution gives, [C] float64.
        variance: likewise.
    """
    bias = convolution.bias.double()  # [C], as are all below
    own = norm.running_var.double()
    scale = _factor(norm)
    if norm.weight is not None:
        spread = variance / scale.square()
        norm.running_var.copy_(torch.where(spread > _LEAST_VARIANCE * own, spread, own))
        norm.weight.copy_(scale * (norm.running_var.double() + norm.eps).sqrt())
    # As they are rounded, lest the rounding of each counts.
    deviation = (norm.running_var.double() + norm.eps).sqrt()
    scale = (1.0 if norm.weight is None else norm.weight.double()) / deviation
    rows = scale.view(-1, *[1] * (convolution.weight.ndim - 1))
    convolution.weight.copy_(convolution.weight.double() / rows)
    if norm.bias is None:
        norm.running_mean.copy_(-bias / scale)
        return
    norm.running_mean.copy_((mean - bias) / scale)
    norm.bias.copy_(bias + scale * norm.running_mean.double())


def _factor(norm: Any) -> Tensor:
    """What a BatchNorm multiplies each channel by, [C] float64, none of them next to zero."""
    deviation = (norm.running_var.double() + norm.eps).sqrt()
    factor = deviation.reciprocal() if norm.weight is None else norm.weight.double() / deviation
    largest = factor.abs().max()
    largest = torch.where(largest > 0, largest, 1.0)
    return torch.where(factor.abs() > _LEAST_FACTOR * largest, factor, largest)
