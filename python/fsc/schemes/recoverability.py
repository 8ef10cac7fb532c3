"""Which residual blocks to drop: those whose loss a linear map recovers, for the time they save."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fsc.images.scale import spread
from fsc.layers.adaptor import Adaptor, BlockMoments
from fsc.networks import tracing
from fsc.networks.blocks import Rest, drop_blocks, inputs_of, sharing_copy
from fsc.networks.features import feature_nodes, truncate
from fsc.networks.latency import latencies
from fsc.networks.modes import evaluation_mode
from fsc.networks.operations import CONVOLUTION
from fsc.networks.out_of_place import out_of_place
from fsc.networks.placing import put
from fsc.progress import Progress
from fsc.schemes.blocks import DropBlocks, check_blocks

_MOST_IMAGES = 64
_REPEATS = 30
# Of its own latency: what a block saves at least, where less is measured.
_LEAST_SAVING = 1e-3
# So that students of several methods, which are to be compared, lose the same blocks.
_MEASURED: dict[tuple[Any, ...], dict[str, float]] = {}


def chosen(
    scheme: DropBlocks,
    model: nn.Module,
    images: Tensor,
    *,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> DropBlocks:
    r"""Name the blocks that a scheme drops.

    The score of a block b is its recoverability for the time that it saves (PRACTISE, "Practical
    Network Acceleration with Tiny Sets", Wang and Wu, CVPR 2023), here without a gradient:

    .. math:: s(b) = \frac{\| f(x) - f_{b \to A}(x) \|^2}{\| f(x) \|^2} \Big/ \tau(b), \qquad
        A, a = \arg\min \| A X + a 1^T - Y \|^2 + \delta \| A - I \|^2

    f are the features before the last pooling, X and Y [C, columns] what the block reads and gives,
    A with a its adaptor, a 1x1 convolution with bias, and tau the milliseconds that the block takes
    for one image more than what stays of it. Every second image fits the adaptors, the others
    judge; of many images 64 are taken. The block of the smallest score goes; an adaptor stays in
    its place while the others are asked again, with what they read and give then, and in the end
    there is none. Blocks are timed alone, by turns and once a process: differences between whole
    networks would drown in what else the machine does. Blocks of the same layers on inputs of one
    size save the median of theirs.

    Args:
        scheme: what is asked for.
        model: the network, in plain modules; it is not changed.
        images: normalised images [N, C, H, W].
        batch_size: images that go through the network at once.
        progress: told of the work.

    Returns:
        The scheme with names, which one that has names is already.

    Raises:
        ValueError: the scheme does not fit the network, the network has no features to compare, or
            more time is to be saved than all blocks take.
    """
    found = check_blocks(scheme, model, images[:1]).found
    if scheme.blocks is not None:
        return scheme
    with evaluation_mode(model), torch.no_grad():
        ranking = Ranking(model, spread(images, _MOST_IMAGES), list(found), batch_size)
        gone = _cheapest(scheme, model, found, ranking, images[:1], progress)
    blocks = [name for name in found if name in gone]
    return replace(scheme, count=None, latency=None, blocks=blocks)


def _cheapest(
    scheme: DropBlocks,
    model: nn.Module,
    found: Mapping[str, Rest],
    ranking: Ranking,
    image: Tensor,
    progress: Progress | None,
) -> list[str]:
    """The names of the blocks that go, the cheapest first.

    Raises:
        ValueError: all are gone, and it is not enough.
    """
    savings = _savings(model, found, image)
    gone: list[str] = []
    while not _is_enough(scheme, model, {name: found[name] for name in gone}, image):
        if not ranking.left:
            asked = f"count={scheme.count}" if scheme.latency is None else f"{scheme.latency:g}"
            raise ValueError(
                f"scheme {scheme.name!r}: count or latency must be what the {len(gone)} blocks "
                f"before the last features allow, got {asked}"
            )
        if progress is not None:
            progress("choosing blocks", len(gone), scheme.count or len(found))
        errors = ranking.errors()
        gone.append(min(errors, key=lambda name: errors[name] / savings[name]))
        ranking.adapt(gone[-1])
    return gone


def _is_enough(
    scheme: DropBlocks, model: nn.Module, rests: Mapping[str, Rest], image: Tensor
) -> bool:
    if scheme.latency is None or not rests:
        return len(rests) == scheme.count
    student = sharing_copy(model)
    drop_blocks(student, rests)
    own, teachers = latencies([student, model], image, repeats=_REPEATS)
    return own <= scheme.latency * teachers


def _savings(model: nn.Module, found: Mapping[str, Rest], image: Tensor) -> dict[str, float]:
    """Milliseconds that each block takes more than what stays of it; once a process and network."""
    key = repr(model), tuple(found.items()), image.shape, image.device
    if key not in _MEASURED:
        _MEASURED[key] = _measured_savings(model, found, image)
    return _MEASURED[key]


class _Fed(nn.Module):
    """A block that reads what it reads of one image in its network, whatever it is given."""

    def __init__(self, block: nn.Module, read: Tensor) -> None:
        super().__init__()
        self.block, self.read = block, read

    def forward(self, _: Tensor) -> Any:
        # A copy, for both: the block may add to it in place.
        return self.block(self.read.clone())


def _measured_savings(
    model: nn.Module, found: Mapping[str, Rest], image: Tensor
) -> dict[str, float]:
    without = sharing_copy(model)
    drop_blocks(without, found)
    read = inputs_of(model, list(found), image)
    pairs = [(model.get_submodule(n), without.get_submodule(n), read[n]) for n in found]
    fed = [_Fed(each, x) for block, rest, x in pairs for each in (block, rest)]
    times = latencies(fed, image, repeats=_REPEATS)
    together: dict[tuple[str, torch.Size], list[float]] = {}
    kinds = [(repr(block), x.shape) for block, _, x in pairs]
    for kind, own, rests in zip(kinds, times[::2], times[1::2], strict=True):
        together.setdefault(kind, []).append(max(own - rests, _LEAST_SAVING * own))
    # Blocks of the same layers for as many pixels: what is measured differs by chance alone.
    return {n: statistics.median(together[kind]) for n, kind in zip(found, kinds, strict=True)}


class Ranking:
    """What dropping each block costs in features, with adaptors where blocks are gone.

    Args:
        model: the network, in evaluation mode.
        images: normalised images [N, C, H, W].
        names: of its blocks.
        batch_size: images that go through it at once.

    Raises:
        ValueError: it has no features to compare.
    """

    def __init__(
        self, model: nn.Module, images: Tensor, names: Collection[str], batch_size: int
    ) -> None:
        """Computes the features of the whole network."""
        model = sharing_copy(model)
        graph = tracing.trace(model, whole=names)
        features = tuple({before: None for before, _ in feature_nodes(model, graph)})
        needed = {*features, *(node for each in features for node in tracing.ancestors(each))}
        called = {str(node.target) for node in needed if node.op == "call_module"}
        self.left = [name for name in names if name in called]
        self._body = truncate(model, graph, features).eval()
        self._fitting = images[::2].split(batch_size)
        self._judging = (images[1::2] if len(images) > 1 else images).split(batch_size)
        self._expected = [self._body(batch) for batch in self._judging]
        self._adaptors: dict[str, Adaptor] = {}

    def errors(self) -> dict[str, float]:
        """The relative squared error of the features without each block that is left."""
        self._adaptors = self._fitted()
        return {name: self._error_without(name) for name in self.left}

    def adapt(self, name: str) -> None:
        """Leaves the adaptor in the place of a block, after `errors`."""
        put(self._body, name, self._adaptors[name])
        self.left.remove(name)

    def _fitted(self) -> dict[str, Adaptor]:
        moments: dict[str, BlockMoments] = {}
        with ExitStack() as stack:
            stack.enter_context(out_of_place(self._body))
            for name in self.left:
                block: Any = self._body.get_submodule(name)
                # Where nothing is convolved channels come last, as in tokens.
                axis = 1 if any(isinstance(m, CONVOLUTION) for m in block.modules()) else -1
                moments[name] = BlockMoments(axis)
                for handle in _watch(block, moments[name]):
                    stack.callback(handle.remove)
            for batch in self._fitting:
                self._body(batch)
        return {name: each.adaptor(self._expected[0][0].dtype) for name, each in moments.items()}

    def _error_without(self, name: str) -> float:
        block = self._body.get_submodule(name)
        put(self._body, name, self._adaptors[name])
        error = energy = 0.0
        for batch, expected in zip(self._judging, self._expected, strict=True):
            for found, wanted in zip(self._body(batch), expected, strict=True):
                error += float((found - wanted).square().sum())
                energy += float(wanted.square().sum())
        put(self._body, name, block)
        return error / (energy or 1.0)


def _watch(block: nn.Module, moments: BlockMoments) -> tuple[RemovableHandle, RemovableHandle]:
    read: list[Tensor] = []

    def before(_: nn.Module, args: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> None:
        # A copy: the block may add to it in place.
        read.extend(each.clone() for each in (*args, *named.values()))

    def after(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        moments.accumulate(read.pop(), output)

    first = block.register_forward_pre_hook(before, with_kwargs=True)
    return first, block.register_forward_hook(after)
