"""The operations whose launches are figures, on twelve shapes of layers.

A shape is C channels at H x H pixels of N images, a convolution of 3 x 3 from C to C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

import fsc_ext
from figures.launches import Launch, Recorded, Recorder

MIXED = {"alpha": 0.9, "beta": 0.3, "padding": 1}


class Shape(NamedTuple):
    """A layer and its images."""

    channels: int
    size: int
    images: int = 50

    @property
    def name(self) -> str:
        """Channels @ height of an image, and the number of images."""
        return f"{self.channels}@{self.size} N={self.images}"

    @property
    def depth(self) -> int:
        """Rows of the im2col matrix."""
        return 9 * self.channels

    @property
    def pixels(self) -> int:
        """Columns of the im2col matrix."""
        return self.images * self.size**2

    @property
    def product(self) -> int:
        """Floating point operations of one convolution."""
        return 2 * self.channels * self.depth * self.pixels

    def image(self) -> Tensor:
        """An input or output, [N, C, H, H], of undefined content."""
        return torch.empty(self.images, self.channels, self.size, self.size)

    def weight(self) -> Tensor:
        """[C, C, 3, 3], of undefined content."""
        return torch.empty(self.channels, self.channels, 3, 3)


SHAPES = (
    *(Shape(16, 32), Shape(32, 16), Shape(64, 8), Shape(128, 16), Shape(512, 4), Shape(512, 2)),
    *(Shape(64, 56), Shape(128, 28), Shape(256, 14), Shape(512, 7)),
    *(Shape(64, 8, 500), Shape(128, 16, 500)),
)


class Work(NamedTuple):
    """What an operation launches, and what it cannot do without.

    A loop is recorded with few and with more steps; the difference is `steps` of them.
    """

    name: str
    shape: Shape
    recorded: Recorded
    fewer: Recorded | None  # to be subtracted
    steps: int
    least_bytes: int  # of a step: what it reads or writes, each once
    flops: int  # of a step


def bytes_of(*tensors: Tensor) -> int:
    """All their bytes."""
    return sum(tensor.nbytes for tensor in tensors)


def layer(recorder: Recorder, shape: Shape) -> Iterator[Work]:
    """cross_distill_layer, and the gradient of its weight."""
    inputs = shape.image(), shape.image()
    weights = shape.weight(), shape.weight().requires_grad_()
    biases = torch.empty(shape.channels), torch.empty(shape.channels)
    loss: list[Tensor] = []

    def forward() -> None:
        loss.append(fsc_ext.cross_distill_layer(*inputs, *weights, *biases, **MIXED))

    residual = inputs[0].nbytes  # as large
    least = bytes_of(*inputs, *weights) + residual
    yield Work("forward", shape, recorder.recorded(forward), None, 1, least, 2 * shape.product)
    one = torch.empty(())
    backward = recorder.recorded(lambda: torch.autograd.grad(loss[0], weights[1], one))
    least = bytes_of(*inputs, weights[1]) + residual
    yield Work("gradient", shape, backward, None, 1, least, shape.product)


def loop(
    recorder: Recorder, name: str, shape: Shape, solve: Callable, least: int, flops: int
) -> Work:
    """A loop of four steps, without what two of them do."""

    def steps(count: int) -> Recorded:
        schedule = torch.full((count,), 1e-3, dtype=torch.float64)
        return recorder.recorded(lambda: solve(schedule, schedule, penalty="l1"))

    return Work(name, shape, steps(4), steps(2), 2, least, flops)


def loops(recorder: Recorder, shape: Shape) -> Iterator[Work]:
    """A step of solve_relu_ and of solve_quadratic_, by Adam with an l1 penalty."""
    weight, image, target = shape.weight(), shape.image(), shape.image()
    by_pixels = [each.contiguous(memory_format=torch.channels_last) for each in (image, target)]
    state = [torch.empty_like(weight), torch.empty_like(weight)]
    bias = torch.empty(shape.channels)
    least = bytes_of(weight, image, target, *state)

    def relu(*schedule: Tensor, penalty: str) -> None:
        fsc_ext.solve_relu_(
            weight, *by_pixels, *schedule, bias=bias, padding=1, penalty=penalty, state=state
        )

    yield loop(recorder, "relu step", shape, relu, least, 2 * shape.product)
    hessian = torch.empty(shape.depth, shape.depth)
    flat = torch.empty(shape.channels, shape.depth)
    least = bytes_of(weight, hessian, flat, *state)

    def quadratic(*schedule: Tensor, penalty: str) -> None:
        fsc_ext.solve_quadratic_(weight, hessian, flat, *schedule, penalty=penalty, state=state)

    flops = 2 * shape.channels * shape.depth**2
    yield loop(recorder, "quadratic step", shape, quadratic, least, flops)


def gram(recorder: Recorder, shape: Shape) -> Iterator[Work]:
    """The three Gram matrices of a layer's inputs."""
    grams = [torch.empty(shape.depth, shape.depth) for _ in range(3)]
    inputs = shape.image(), shape.image()
    recorded = recorder.recorded(
        lambda: fsc_ext.gram_accumulate_(*grams, *inputs, kernel_size=3, padding=1)
    )
    # Half of two of them is the mirror of the other half.
    flops = 4 * shape.depth**2 * shape.pixels
    yield Work("gram", shape, recorded, None, 1, bytes_of(*grams, *inputs), flops)


def topk(recorder: Recorder, shape: Shape) -> Iterator[Work]:
    """keep_topk_ of half the weights."""
    weight = shape.weight()
    count = weight.numel() // 2
    recorded = recorder.recorded(lambda: fsc_ext.keep_topk_(weight, count))
    least = weight.nbytes + weight.numel()  # the mask
    yield Work("topk", shape, recorded, None, 1, least, 0)


def works(recorder: Recorder, shapes: tuple[Shape, ...] = SHAPES) -> Iterator[Work]:
    """All operations on all shapes; those without images once for a number of channels.

    In full float32, which decides what is left to cuDNN.
    """
    torch.backends.cudnn.allow_tf32 = False
    seen = set()
    for shape in shapes:
        for operation in (layer, loops, gram, topk):
            for work in operation(recorder, shape):
                key = (work.name, shape.channels)
                if work.name in ("quadratic step", "topk") and key in seen:
                    continue
                seen.add(key)
                yield work


def main_launches(work: Work) -> list[Launch]:
    """The launches that do the work: with tensor cores where any has, or else all."""
    launches = work.recorded.launches
    return [launch for launch in launches if launch.products] or launches
