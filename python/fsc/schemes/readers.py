"""What layers of the teacher read: half of the images corrects them, the other half judges."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

import fsc_ext
from fsc.images.checks import device_of
from fsc.layers.form import Form
from fsc.layers.layer_problem import joined
from fsc.layers.moments import ACCUMULATOR
from fsc.networks.modes import evaluation_mode
from fsc.solvers.patch import Patch
from fsc.solvers.quadratic import FactoredQuadratic, GramQuadratic, Quadratic


class Inputs:
    """What one layer of the teacher reads: a Gram matrix, or columns where these are fewer."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, num_columns: int) -> None:
        """Starts from zero images."""
        self.patch = Patch.of(layer)
        self.num_images = 0
        self.columns: list[Tensor] = []  # [dim, columns of the batch] each
        dim = self.patch.dim
        self.gram: Tensor | None = None
        if num_columns >= dim:
            self.gram = layer.weight.new_zeros(dim, dim, dtype=ACCUMULATOR)

    def accumulate(self, features: Tensor, num_images: int) -> None:
        """Takes up one batch, [N, C_in, H, W] or [N, C_in], of so many images."""
        self.num_images += num_images
        if self.gram is None:
            self.columns.append(self.patch.columns(features).to(ACCUMULATOR))
            return
        geometry = {
            name: getattr(self.patch, name)
            for name in ("kernel_size", "stride", "padding", "dilation")
        }
        fsc_ext.gram_accumulate_(self.gram, None, None, features, None, **geometry)

    def quadratic(self, weight: Tensor) -> Quadratic:
        """The squared error of the layer's output, whose minimiser is the weight [C_out, dim]."""
        if self.gram is None:
            columns = torch.cat(self.columns, 1)
            return FactoredQuadratic(columns, weight @ columns, self.num_images)
        target = weight @ self.gram
        return GramQuadratic(self.gram, target, (target * weight).sum(1), self.num_images)

    def energy(self, weight: Tensor) -> float:
        """The squared output of a weight, around its mean where there is a bias."""
        if self.gram is None:
            outputs = weight @ torch.cat(self.columns, 1)  # [C_out, columns]
            squares, sums = outputs.square().sum(), outputs.sum(1)
            count = float(outputs.shape[1])
        else:
            # The last row of U is ones where there is a bias: W U 1 and the number of columns.
            products = weight @ self.gram
            squares, sums = (products * weight).sum(), products[:, -1]
            count = float(self.gram[-1, -1])
        return float(squares - sums.square().sum() / count if self.patch.bias else squares)

    def squares(self, weight: Tensor) -> float:
        """The squared output of a weight."""
        if self.gram is None:
            return float((weight @ torch.cat(self.columns, 1)).square().sum())
        return float((weight @ self.gram * weight).sum())


class Reader:
    """A layer with what it reads of the images that correct it, and of those that judge."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, num_columns: int) -> None:
        """Starts from zero images."""
        self.patch = Patch.of(layer)
        self.weight = joined(layer.weight, layer.bias)  # [C_out, dim]
        self.correcting = Inputs(layer, num_columns)
        self.judging = Inputs(layer, num_columns)
        self.num_images = 0

    def accumulate(self, features: Tensor, images: int) -> None:
        """Takes up one batch: every second of all images judges, whatever the batches are."""
        parts = features.unflatten(0, (images, -1))  # [images, what each of them is, ...]
        first = self.num_images % 2
        self.num_images += images
        for inputs, part in (
            (self.correcting, parts[first::2]),
            (self.judging, parts[1 - first :: 2]),
        ):
            if len(part):
                inputs.accumulate(part.flatten(0, 1), len(part))

    @property
    def varies(self) -> bool:
        """Whether the output is more than one value, but for rounding."""
        return all(
            each.energy(self.weight) > 1e-9 * each.squares(self.weight)
            for each in (self.correcting, self.judge)
        )

    @property
    def judge(self) -> Inputs:
        """A single image corrects and judges."""
        return self.judging if self.judging.num_images else self.correcting


def gather(
    model: nn.Module, names: Collection[str], images: Tensor, batch_size: int
) -> dict[str, Reader]:
    """Run a network once and take up what some of its layers read, where moments express them.

    Args:
        model: the network.
        names: of layers.
        images: normalised images [N, C, H, W].
        batch_size: images that go through the network at once.
    """
    found: dict[str, Reader] = {}
    running = 0  # images of the batch that runs; windows and frames may stand on the leading axis

    def see(name: str, layer: Any, features: Tensor) -> None:
        if isinstance(layer, nn.Linear):
            features = features.flatten(0, -2)
            _take(found, name, layer, features, running, len(images))
            return
        form = Form(layer)
        # Volumes become patches, which are many times as large: one image after the other.
        steps = running if form.dims == 3 else 1
        for part in features.chunk(steps):
            _take(found, name, form.convolution, form.image(part), running // steps, len(images))

    handles = [
        layer.register_forward_pre_hook(
            lambda layer, inputs, named, name=name: see(
                name, layer, inputs[0] if inputs else named["input"]
            ),
            with_kwargs=True,
        )
        for name, layer in model.named_modules()
        if name in names and _is_expressible(layer)
    ]
    try:
        with torch.no_grad(), evaluation_mode(model):
            for batch in images.split(batch_size):
                running = len(batch)
                model(batch.to(device_of(model, images)))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _take(
    found: dict[str, Reader], name: str, layer: Any, features: Tensor, running: int, images: int
) -> None:
    """Takes up what a layer reads of so many images, of so many in all."""
    if name not in found:
        pixels = len(features) // running
        if not isinstance(layer, nn.Linear):
            height, width = features.shape[2:]
            pixels = Patch.of(layer).num_columns((height, width)) * len(features) // running
        found[name] = Reader(layer, images * pixels // 2)
    found[name].accumulate(features, running)


def _is_expressible(layer: nn.Module) -> bool:
    try:
        Patch.of(layer if isinstance(layer, nn.Linear) else Form(layer).convolution)
    except ValueError:
        return False
    return True
