"""Layers, loops and passes over memory on a GPU beside plain PyTorch, by its own clock.

    python bench/device_layers.py [--parts layer loop gram passes] [--json FILE]

Layers are those of `make check-cuda`: C channels at H x H pixels of N images, 3 x 3 from C to C.
What is plain is that of the benchmarks, written for speed: PyTorch's convolutions, cuDNN choosing
the fastest by trial, Adam in one kernel. Each is called one by one, and replayed as a CUDA graph,
which leaves out what the host does; a step of fsc's loops is the difference between a long and a
short one. Medians of three.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

import fsc_ext

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "csrc" / "cuda"), str(ROOT / "bench" / "helpers")]

import bench_gram  # noqa: E402
from bench_cross_distill import plain_layer  # noqa: E402
from device_times import Time, called, table, tf32, time_of  # noqa: E402
from figures.operations import MIXED, SHAPES, Shape  # noqa: E402

FEW, MANY = 20, 120  # steps of a loop
CHANNELS_LAST = torch.channels_last
LOSSES = {"fsc": fsc_ext.cross_distill_layer, "plain": plain_layer}
LAYOUTS = {"channels last": CHANNELS_LAST, "contiguous": torch.contiguous_format}


# ---- the layer ----


def forward(loss: Callable[..., Tensor], tensors: list[Tensor]) -> Tensor:
    """The loss alone."""
    with torch.no_grad():
        return loss(*tensors, **MIXED)


def gradient(loss: Callable[..., Tensor], tensors: list[Tensor]) -> Tensor:
    """The gradient of the student's weight, which comes last."""
    return torch.autograd.grad(loss(*tensors, **MIXED), tensors[-1])[0]


def layer(shape: Shape) -> Iterator[Time]:
    """cross_distill_layer, forward alone and with the gradient of the student's weight."""
    for name, layout in LAYOUTS.items():
        inputs = [shape.image().normal_().relu_().to(memory_format=layout) for _ in range(2)]
        weights = [shape.weight().normal_(std=0.1).to(memory_format=layout) for _ in range(2)]
        tensors = [*inputs, weights[0], weights[1].requires_grad_()]
        for allowed in (False, True):
            with tf32(allowed) as precision:
                for variant, loss in {
                    "fsc": fsc_ext.cross_distill_layer,
                    "plain": plain_layer,
                }.items():
                    words = f"{variant}, {precision}"
                    for kind, work in {"forward": forward, "with backward": gradient}.items():
                        kind = f"{kind}, {name}"
                        yield time_of(kind, shape.name, words, partial(work, loss, tensors))


# ---- loops ----


class Problem:
    """What the loops of a layer minimise, and a weight to begin with."""

    def __init__(self, shape: Shape) -> None:
        """Draws all of it."""
        self.start = shape.weight().normal_(std=0.1)
        self.half = shape.channels // 2
        image = shape.image().normal_().relu_()
        self.image = image.contiguous(memory_format=CHANNELS_LAST)
        self.target = functional.conv2d(self.image, self.start, padding=1).relu_()
        columns = torch.randn(shape.depth, 2 * shape.depth)
        self.hessian, self.flat = columns @ columns.T / (2 * shape.depth), self.start.flatten(1)

    def schedule(self, steps: int, penalty: str) -> tuple[Tensor, Tensor]:
        """Rates and amounts, on the host."""
        amount = 1e-4 if penalty == "l1" else float(self.half)
        both = torch.tensor([[1e-3], [amount]], dtype=torch.float64, device="cpu")
        rates, amounts = both.repeat(1, steps)
        return rates, amounts

    def relu(self, steps: int, penalty: str) -> Tensor:
        """The loop on images."""
        given = self.start.clone(), self.image, self.target, *self.schedule(steps, penalty)
        return fsc_ext.solve_relu_(*given, padding=1, penalty=penalty)

    def quadratic(self, steps: int, penalty: str) -> Tensor:
        """The loop on moments."""
        given = self.start.clone(), self.hessian, self.flat, *self.schedule(steps, penalty)
        return fsc_ext.solve_quadratic_(*given, penalty=penalty)

    def relu_loss(self, weight: Tensor) -> Tensor:
        """What a step on images differentiates."""
        output = functional.conv2d(self.image, weight, padding=1).relu()
        return (output - self.target).square().sum()

    def quadratic_loss(self, weight: Tensor) -> Tensor:
        """What a step on moments differentiates, with the price of a product."""
        flat = weight.flatten(1)
        return ((flat.detach() @ self.hessian - self.flat) * flat).sum()

    def plain_step(
        self, loss: Callable[[Tensor], Tensor], layout: torch.memory_format, penalty: str
    ) -> Callable[[], None]:
        """A step of Adam by PyTorch, then soft thresholds or half of the input channels."""
        weight = self.start.clone(memory_format=layout).requires_grad_()
        adam = torch.optim.Adam([weight], lr=1e-3, fused=True, capturable=True)

        def step() -> None:
            (grad,) = torch.autograd.grad(loss(weight), weight)
            weight.grad = grad.contiguous(memory_format=layout)  # there already
            adam.step()
            with torch.no_grad():
                if penalty == "l1":
                    weight.copy_(functional.softshrink(weight, 1e-4))
                    return
                norms = torch.linalg.vector_norm(weight, dim=[0, 2, 3])
                kept = torch.zeros_like(norms).index_fill_(0, norms.topk(self.half).indices, 1)
                weight.mul_(kept[:, None, None])

        return step


def step_of(solve: Callable[[int, str], object], penalty: str) -> float:
    """One step of a loop."""
    few, many = (called(partial(solve, steps, penalty)) for steps in (FEW, MANY))
    return (many - few) / (MANY - FEW)


def loop(shape: Shape) -> Iterator[Time]:
    """A step of both loops by Adam, with l1 and with half of the input channels."""
    problem = Problem(shape)
    loops = {"solve_relu_": (problem.relu, problem.relu_loss, CHANNELS_LAST)}
    if shape.images == SHAPES[0].images:  # the other does not know of images
        loops["solve_quadratic_"] = (
            problem.quadratic,
            problem.quadratic_loss,
            torch.contiguous_format,
        )
    for name, (solve, loss, layout) in loops.items():
        for penalty in ("l1", "topk_groups"):
            yield Time(name, shape.name, f"fsc, {penalty}", None, step_of(solve, penalty))
            for allowed in (False, True):
                with tf32(allowed) as precision:
                    step = problem.plain_step(loss, layout, penalty)
                    yield time_of(name, shape.name, f"plain, {penalty}, {precision}", step)


# ---- Gram matrices ----


def gram(shape: Shape) -> Iterator[Time]:
    """Three Gram matrices of two inputs."""
    inputs = [shape.image().normal_().relu_() for _ in range(2)]
    for kernel in (1, 3):
        side, kind = shape.channels * kernel**2, f"{kernel} x {kernel}"
        sums = [torch.zeros(side, side, dtype=torch.float64) for _ in range(3)]
        yield time_of(kind, shape.name, "fsc", partial(bench_gram.fused, sums, *inputs, kernel))
        for dtype in (torch.float32, torch.float64):
            work = partial(bench_gram.plain, sums, *inputs, kernel, dtype)
            yield time_of(kind, shape.name, f"plain, {str(dtype)[6:]}", work)


# ---- passes over memory ----


def bytes_and_work() -> Iterator[tuple[str, int, Callable[[], object]]]:
    """Operators bound by memory: what they read and write at least."""
    teacher, student = torch.randn(2, 40_000, 10, 10, 10)
    one = teacher.nbytes
    yield "copy", 2 * one, lambda: teacher.copy_(student)
    yield "soft_cross_mix", 4 * one, lambda: fsc_ext.soft_cross_mix(teacher, student, 0.9, 0.3)
    yield "distill_residual", 3 * one, lambda: fsc_ext.distill_residual(teacher, student)
    yield "prox_l1_", 2 * one, lambda: fsc_ext.prox_l1_(teacher, 1e-6)
    yield "keep_topk_", 2 * one, lambda: fsc_ext.keep_topk_(teacher, teacher.numel() // 2)
    weight, grad, first, second = torch.rand(4, 10**7)
    shrink = {"lr": 1e-3, "penalty": "l1", "amount": 1e-6}
    step = partial(fsc_ext.adam_prox_, weight, grad, first, second, 9, **shrink)
    yield "adam_prox_", 7 * weight.nbytes, step
    leaf = torch.rand(10**7, requires_grad=True)
    leaf.grad = grad
    adam = torch.optim.Adam([leaf], fused=True, capturable=True)
    yield "PyTorch's fused Adam", 7 * leaf.nbytes, adam.step
    wide = torch.randn(4000, 512, 3, 3)
    for dim in (0, 1):
        work: Callable[[], object] = partial(fsc_ext.prox_group_l2_, wide, 1e-6, dim)
        yield f"prox_group_l2_, dim {dim}", 2 * wide.nbytes, work
        work = partial(fsc_ext.keep_topk_groups_, wide, wide.shape[dim] // 2, dim)
        yield f"keep_topk_groups_, dim {dim}", 3 * wide.nbytes // 2, work


def passes() -> Iterator[Time]:
    """Each beside a copy."""
    for name, least, work in bytes_and_work():
        found = time_of(f"{name}, {least / 1e6:.0f} MB", "", "fsc", work)
        print(f"{name}: {least / min(found.called, found.graph) / 1e6:.2f} TB/s", flush=True)
        yield found


def main() -> None:
    """Measures what is asked for, prints a table for each part, and keeps all as JSON."""
    parts = {"layer": layer, "loop": loop, "gram": gram, "passes": None}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--json", type=Path, help="where to keep every time")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("device_layers: there is no GPU that this torch can use")
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}; microseconds, called / graph"
    )
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    kept: list[Time] = []
    with torch.device("cuda"), tf32(False):
        for part in asked.parts:
            measure = parts[part]
            works = [passes()] if measure is None else [measure(shape) for shape in SHAPES]
            times = [time for work in works for time in work]
            kept += times
            print(f"\n{table(times)}", flush=True)
            if asked.json:
                asked.json.write_text(json.dumps([t._asdict() for t in kept], indent=1) + "\n")


if __name__ == "__main__":
    main()
