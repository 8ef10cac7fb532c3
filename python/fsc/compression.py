"""`compress`: one call from a teacher and a few images to a smaller student and a report."""

import importlib.metadata
import os
import platform
import time
from dataclasses import asdict, dataclass, field
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

import fsc_ext
from fsc import schemes
from fsc.images.checks import check_images
from fsc.methods.base import LayerReport, Method, Outcome, Task
from fsc.methods.journal import Journal, fingerprint
from fsc.networks import cost
from fsc.networks.modes import evaluation_mode
from fsc.networks.tracing import trace
from fsc.progress import Progress
from fsc.schemes import AnyScheme


@dataclass(frozen=True)
class Report:
    """What was done and what it gave; `to_dict` is what the JSON files hold.

    Args:
        method: name of the method's class.
        hyper_parameters: its fields.
        scheme: name of the scheme.
        num_images: images used.
        seed: seed of whatever was drawn.
        device: where it was computed.
        seconds: wall time of the compression.
        parameters: number of parameters of the student, and of the teacher.
        nonzero: number of parameters of the student that are not zero.
        flops: multiply-accumulates for one image, of the student and of the teacher.
        layers: errors of the solved layers, for layer-wise methods.
        kept: the kept output channels of every pruned convolution.
        versions: of Python, this package, its build, and the packages it computes with.
    """

    method: str
    hyper_parameters: dict[str, Any]
    scheme: str
    num_images: int
    seed: int
    device: str
    seconds: float
    parameters: int
    parameters_teacher: int
    nonzero: int
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
    scheme: AnyScheme,
    batch_size: int = 64,
    memory_budget: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    journal: str | os.PathLike[str] | None = None,
) -> Result:
    """Compresses a pretrained convolutional network with a handful of unlabelled images.

    Args:
        teacher: a torch.fx-traceable network, on any device that fsc_ext computes on; it is not
            changed, and the student is made where it is.
        images: [N, C, H, W] of the teacher's dtype and on its device, normalised as the teacher
            expects.
        method: `CrossDistillation(...)`, `FSKD(...)`, `MiR(...)` or `L1Norm()`.
        scheme: which convolutions keep how many output channels, or how many single weights; see
            `fsc.schemes`.
        batch_size: images that go through the networks at once; the result does not depend on it.
        memory_budget: bytes of activations held in memory before they go to disk; None: all. What
            cross distillation solves a single layer from comes on top: both inputs of a layer
            that is solved by steps (activation="relu"), or the columns of a layer that is solved
            from them because it sees few pixels.
        seed: seeds whatever the method draws; the same seed gives the same bits, on a GPU where
            cuDNN does (`torch.backends.cudnn.deterministic`).
        progress: called with (what, done, total) while the work goes on.
        journal: a folder where cross distillation keeps every layer that it has solved. A call with
            the same arguments goes on after the last of them, with the bits of an uninterrupted
            run. Delete it when the student is safe. None: nothing is kept.

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
    _check_types(teacher, method, scheme)
    _check_numbers(batch_size, memory_budget, seed)
    _check_weights(teacher)
    check_images("compress", images, teacher, trace(teacher), moved=False)
    schemes.check(scheme, teacher)
    kept = None if journal is None else _journal(journal, teacher, images, method, scheme, seed)
    task = Task(teacher, images, scheme, batch_size, memory_budget, seed, progress, kept)
    with evaluation_mode(teacher), torch.no_grad():
        start = time.perf_counter()
        outcome = method.compress(task)
        seconds = time.perf_counter() - start
    return Result(outcome.student, _report(method, task, outcome, seconds))


def _journal(
    folder: str | os.PathLike[str],
    teacher: nn.Module,
    images: Tensor,
    method: Method,
    scheme: AnyScheme,
    seed: int,
) -> Journal:
    identity = {
        "method": repr(method),
        "scheme": asdict(scheme),
        "seed": seed,
        # Devices round differently, so that one does not go on where another stopped.
        "device": images.device.type,
        "images": fingerprint([images]),
        "teacher": fingerprint(teacher.state_dict().values()),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    return Journal(folder, identity)


def versions() -> dict[str, str]:
    """Versions that a number in a report depends on."""
    return {
        "python": platform.python_version(),
        "fsc": importlib.metadata.version("fsc-ext"),
        **{name: importlib.metadata.version(name) for name in ("numpy", "torch-pruning")},
        "torch": torch.__version__,
        "fsc_ext": ", ".join(f"{k} {v}" for k, v in fsc_ext.build_info().items()),
    }


def _report(method: Method, task: Task, outcome: Outcome, seconds: float) -> Report:
    example = task.images[:1]  # [1, C, H, W]
    return Report(
        method=type(method).__name__,
        hyper_parameters=_fields(method),
        scheme=task.scheme.name,
        num_images=len(task.images),
        seed=task.seed,
        device=str(task.images.device),
        seconds=seconds,
        parameters=cost.parameters(outcome.student),
        parameters_teacher=cost.parameters(task.teacher),
        nonzero=cost.nonzero(outcome.student),
        flops=cost.flops(outcome.student, example),
        flops_teacher=cost.flops(task.teacher, example),
        layers=outcome.layers,
        kept={name: channels.tolist() for name, channels in outcome.kept.items()},
        versions=versions(),
    )


def _fields(method: Method) -> dict[str, Any]:
    """The method's hyper-parameters, nested dataclasses named by their class."""
    found: dict[str, Any] = {}
    for name, value in vars(method).items():
        nested = hasattr(value, "__dataclass_fields__")
        found[name] = {"type": type(value).__name__, **vars(value)} if nested else value
    return found


def _check_types(teacher: object, method: object, scheme: object) -> None:
    if not isinstance(teacher, nn.Module):
        raise TypeError(f"teacher must be a torch.nn.Module, got {type(teacher).__name__}")
    if isinstance(method, type) or not callable(getattr(method, "compress", None)):
        raise TypeError(
            f"method must be one of fsc.methods, e.g. fsc.CrossDistillation(), got {method!r}"
        )
    if not isinstance(scheme, AnyScheme):
        raise TypeError(
            "scheme must be a fsc.schemes.Scheme, e.g. fsc.schemes.named('res-50', 'resnet56'), "
            f"got {scheme!r}"
        )


def _check_numbers(batch_size: int, memory_budget: int | None, seed: int) -> None:
    given = {"batch_size": batch_size, "seed": seed}
    if memory_budget is not None:
        given["memory_budget"] = memory_budget
    for name, value in given.items():
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise TypeError(f"{name} must be an integer, got {value!r}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if memory_budget is not None and memory_budget < 0:
        raise ValueError(f"memory_budget must be at least 0 bytes or None, got {memory_budget}")


def _check_weights(teacher: nn.Module) -> None:
    tensors = {**dict(teacher.named_parameters()), **dict(teacher.named_buffers())}
    if not any(isinstance(module, nn.Conv2d) for module in teacher.modules()):
        raise ValueError("teacher must contain a Conv2d, got none")
    for name, module in teacher.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and "weight" not in module._parameters:
            raise ValueError(
                "teacher must hold its weights as plain parameters, got a parametrization in "
                f"{name}; make it plain with torch.nn.utils.parametrize.remove_parametrizations"
            )
    devices = {tensor.device: name for name, tensor in tensors.items()}
    if len(devices) > 1 or torch.device("meta") in devices:
        found = ", ".join(f"{name} on {device}" for device, name in devices.items())
        raise ValueError(f"teacher must lie on one device and hold values, got {found}")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"teacher must have finite weights, got NaN or Inf in {name}")
