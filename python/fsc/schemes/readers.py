"""What layers of the teacher read: half of the images corrects them, the other half judges."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

import fsc_ext
from fsc import ranks
from fsc.images.checks import device_of
from fsc.layers.form import Form
from fsc.layers.layer_problem import to_matrix
from fsc.layers.moments import ACCUMULATOR
from fsc.networks.calls import call_of, output_of
from fsc.solvers.patch import Patch
from fsc.solvers.quadratic import FactoredQuadratic, GramQuadratic, Quadratic


class Inputs:
    """What the groups of one layer of the teacher read, a mixing layer without groups being one.

    Args:
        form: the layer as a convolution.
        num_columns: that it will have read; of few of them the columns are kept, of many their
            Gram matrices.
    """

    def __init__(self, form: Form, num_columns: int) -> None:
        """Starts from zero images."""
        self.form = form
        self.patch = Patch.of_group(form.convolution)
        self.num_images = 0
        self.columns: list[Tensor] = []  # [groups, dim, columns of the batch] each
        dim = self.patch.dim
        self.gram: Tensor | None = None
        if num_columns >= dim:
            groups, weight = form.convolution.groups, form.convolution.weight
            self.gram = weight.new_zeros(groups, dim, dim, dtype=ACCUMULATOR)

    def accumulate(self, features: Tensor, num_images: int) -> None:
        """Takes up one batch of so many images, as the layer reads it."""
        self.num_images += num_images
        for piece in self.form.pieces(features):
            image = self.form.image(features[piece])  # [N, C_in, H, W]
            parts = image.chunk(self.form.convolution.groups, 1)
            if self.gram is None:
                columns = torch.stack([self.patch.columns(part) for part in parts])
                self.columns.append(columns.to(ACCUMULATOR))
                continue
            geometry = {
                name: getattr(self.patch, name)
                for name in ("kernel_size", "stride", "padding", "dilation")
            }
            for gram, part in zip(self.gram, parts, strict=True):
                fsc_ext.gram_accumulate_(gram, None, None, part, None, **geometry)

    def join_ranks(self) -> None:
        """Takes up what the other ranks have, which may be nothing."""
        self.num_images = ranks.total(self.num_images)
        if self.gram is not None:
            ranks.add_up(self.gram)
            return
        weight, groups = self.form.convolution.weight, self.form.convolution.groups
        none = weight.new_zeros(groups, self.patch.dim, 0, dtype=ACCUMULATOR)
        self.columns = [ranks.side_by_side(torch.cat([none, *self.columns], -1), -1)]

    def _all_columns(self) -> Tensor:
        """The columns of all batches, [groups, dim, columns]."""
        if len(self.columns) > 1:
            self.columns = [torch.cat(self.columns, -1)]
        return self.columns[0]

    def quadratics(self, weight: Tensor) -> list[Quadratic]:
        """The squared error of each group's output; the weight [groups, rows, dim] has none."""
        if self.gram is None:
            columns = self._all_columns()
            pairs = zip(columns, weight @ columns, strict=True)
            return [FactoredQuadratic(*pair, self.num_images) for pair in pairs]
        target = weight @ self.gram
        parts = zip(self.gram, target, (target * weight).sum(-1), strict=True)
        return [GramQuadratic(*part, self.num_images) for part in parts]

    def energy(self, weight: Tensor) -> float:
        """The squared output of a weight, around its mean where there is a bias."""
        if self.gram is None:
            outputs = weight @ self._all_columns()  # [groups, rows, columns]
            squares, sums = outputs.square().sum(), outputs.sum(-1)
            count = float(outputs.shape[-1])
        else:
            # The last row of U is ones where there is a bias: W U 1 and the number of columns.
            products = weight @ self.gram
            squares, sums = (products * weight).sum(), products[..., -1]
            count = float(self.gram[0, -1, -1])
        return float(squares - sums.square().sum() / count if self.patch.bias else squares)

    def squares(self, weight: Tensor) -> float:
        """The squared output of a weight."""
        if self.gram is None:
            return float((weight @ self._all_columns()).square().sum())
        return float((weight @ self.gram * weight).sum())


class Reader:
    """A layer with what it reads of the images that correct it, and of those that judge.

    Args:
        form: the layer as a convolution.
        num_columns: that each half of the images will give.
        num_before: images of the ranks before this one.
    """

    def __init__(self, form: Form, num_columns: int, num_before: int = 0) -> None:
        """Starts from zero images."""
        groups = form.convolution.groups
        # [groups, rows, dim]
        self.weight = to_matrix(form.convolution).unflatten(0, (groups, -1))
        self.correcting = Inputs(form, num_columns)
        self.judging = Inputs(form, num_columns)
        self.num_images = num_before

    def join_ranks(self) -> None:
        """Takes up what the other ranks have."""
        self.correcting.join_ranks()
        self.judging.join_ranks()

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
    """Run a network once and take up what some of its layers read.

    What a layer reads that comes from no image, such as a table of positions or learnt queries, is
    not taken up where its rows are no multiple of the images: no half of them could judge.

    Args:
        model: the network.
        names: of convolutions of any kind and Linears.
        images: normalised images [N, C, H, W].
        batch_size: images that go through the network at once.
    """
    found: dict[str, Reader] = {}
    own = ranks.own(len(images))
    running = 0  # images of the batch that runs; windows and frames may stand on the leading axis
    of_no_images: set[str] = set()

    def see(form: Form, name: str, features: Tensor, output: Tensor) -> None:
        if form.is_linear:
            features = features.flatten(0, -2)
        if len(features) % running:
            of_no_images.add(name)
            return
        if name not in found:
            pixels = output.numel() // form.convolution.out_channels // running
            found[name] = Reader(form, len(images) * pixels // 2, own.start)
        found[name].accumulate(features, running)

    def watch(name: str, layer: nn.Module) -> RemovableHandle:
        form = Form(layer)
        return layer.register_forward_hook(
            lambda layer, inputs, named, output: see(
                form, name, inputs[0] if inputs else named["input"], output
            ),
            with_kwargs=True,
        )

    handles = [watch(name, layer) for name, layer in model.named_modules() if name in names]
    try:
        for batch in images[own].split(batch_size):
            running = len(batch)
            output_of(model, call_of(batch.to(device_of(model, images))))
    finally:
        for handle in handles:
            handle.remove()
    of_no_images = of_no_images.union(*ranks.everyone(of_no_images))
    found = {name: reader for name, reader in found.items() if name not in of_no_images}
    if ranks.count() > 1:
        for reader in found.values():
            reader.join_ranks()
    return found
