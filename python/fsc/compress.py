"""`compress`: one call from a teacher and a few images to a smaller student and a report."""

import platform
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import fsc_ext
from fsc import cost, schemes
from fsc.methods.base import LayerReport, Method, Progress, Task
from fsc.schemes import Scheme


@dataclass(frozen=True)
class Report:
    """What was done and what it gave; `to_dict` is what the JSON files hold.

    Args:
        method: name of the method's class.
        hyper_parameters: its fields.
        scheme: name of the scheme.
        num_images: images used.
        seed: seed of whatever was drawn.
        seconds: wall time of the compression.
        parameters: number of parameters of the student, and of the teacher.
        flops: multiply-accumulates for one image, of the student and of the teacher.
        layers: errors of the solved layers, for layer-wise methods.
        kept: the kept output channels of every pruned convolution.
        versions: of Python, torch and this package's build.
    """

    method: str
    hyper_parameters: dict[str, Any]
    scheme: str
    num_images: int
    seed: int
    seconds: float
    parameters: int
    parameters_teacher: int
    flops: int
    flops_teacher: int
    layers: list[LayerReport] = field(default_factory=list)
    kept: dict[str, list[int]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain lists, dicts, strings and numbers."""
        return asdict(self)


@dataclass(frozen=True)
class Result:
    """A compressed network and how it came about.

    Args:
        student: the smaller network, in eval mode.
        report: what was done.
    """

    student: nn.Module
    report: Report


def compress(
    teacher: nn.Module,
    images: Tensor,
    *,
    method: Method,
    scheme: Scheme,
    batch_size: int = 64,
    memory_budget: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Compresses a pretrained convolutional network with a handful of unlabelled images.

    Args:
        teacher: a torch.fx-traceable network on the CPU; it is not changed.
        images: [N, C, H, W] floating point, normalised as the teacher expects.
        method: `CrossDistillation(...)`, `FSKD(...)`, `MiR(...)` or `L1Norm()`.
        scheme: which convolutions keep how many output channels; see `fsc.schemes`.
        batch_size: images that go through the networks at once; the result does not depend on it.
        memory_budget: bytes of activations held in memory before they go to disk; None: all.
        seed: seeds whatever the method draws; the same seed gives the same bits.
        progress: called with (what, done, total) while the work goes on.

    Returns:
        The student, really smaller, in eval mode, and a report.

    Raises:
        ValueError: images, weights, scheme or model do not fit; the sentence says which.
        TypeError: an argument is of the wrong type.

    Example:
        >>> import fsc, torch
        >>> from fsc import models, schemes
        >>> teacher = models.build("resnet20").eval()
        >>> scheme = schemes.named("res-50", "resnet20")
        >>> images = torch.randn(4, 3, 32, 32)
        >>> result = fsc.compress(teacher, images, method=fsc.L1Norm(), scheme=scheme)
        >>> result.report.parameters < result.report.parameters_teacher
        True
    """
    _check_model(teacher)
    _check_images(images, teacher)
    _check_counts(batch_size, memory_budget)
    schemes.check(scheme, teacher)
    was_training = teacher.training
    teacher.eval()
    try:
        start = time.perf_counter()
        task = Task(teacher, images, scheme, batch_size, memory_budget, seed, progress)
        with torch.no_grad():
            outcome = method.compress(task)
        seconds = time.perf_counter() - start
        example = images[:1]
        report = Report(
            method=type(method).__name__,
            hyper_parameters=_fields(method),
            scheme=scheme.name,
            num_images=len(images),
            seed=seed,
            seconds=seconds,
            parameters=cost.parameters(outcome.student),
            parameters_teacher=cost.parameters(teacher),
            flops=cost.flops(outcome.student, example),
            flops_teacher=cost.flops(teacher, example),
            layers=outcome.layers,
            kept={name: channels.tolist() for name, channels in outcome.kept.items()},
            versions=versions(),
        )
    finally:
        teacher.train(was_training)
    return Result(outcome.student, report)


def versions() -> dict[str, str]:
    """Versions that a number in a report depends on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "fsc_ext": ", ".join(f"{k} {v}" for k, v in fsc_ext.build_info().items()),
    }


def _fields(method: Method) -> dict[str, Any]:
    """The method's hyper-parameters, nested dataclasses named by their class."""
    found: dict[str, Any] = {}
    for name, value in vars(method).items():
        nested = hasattr(value, "__dataclass_fields__")
        found[name] = {"type": type(value).__name__, **vars(value)} if nested else value
    return found


def _check_model(teacher: nn.Module) -> None:
    if not isinstance(teacher, nn.Module):
        raise TypeError(f"teacher must be a torch.nn.Module, got {type(teacher).__name__}")
    tensors = {**dict(teacher.named_parameters()), **dict(teacher.named_buffers())}
    if not any(isinstance(module, nn.Conv2d) for module in teacher.modules()):
        raise ValueError("teacher must contain a Conv2d, got none")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"teacher must have finite weights, got NaN or Inf in {name}")


def _check_images(images: Tensor, teacher: nn.Module) -> None:
    if not isinstance(images, Tensor):
        raise TypeError(f"images must be a torch.Tensor, got {type(images).__name__}")
    if images.dim() != 4 or len(images) == 0:
        raise ValueError(f"images must be [N, C, H, W] with N at least 1, got {list(images.shape)}")
    first = next(module for module in teacher.modules() if isinstance(module, nn.Conv2d))
    if images.dtype != first.weight.dtype or images.device != first.weight.device:
        raise ValueError(
            f"images must have the dtype and device of the teacher ({first.weight.dtype} on "
            f"{first.weight.device}), got {images.dtype} on {images.device}"
        )
    if images.shape[1] != first.in_channels:
        raise ValueError(
            f"images must have the teacher's {first.in_channels} input channels, "
            f"got {images.shape[1]}"
        )
    if not images.isfinite().all():
        raise ValueError("images must be finite, got NaN or Inf")


def _check_counts(batch_size: int, memory_budget: int | None) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if memory_budget is not None and memory_budget < 0:
        raise ValueError(f"memory_budget must be at least 0 bytes or None, got {memory_budget}")
