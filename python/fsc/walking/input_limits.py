"""Where the inputs of convolutions are clipped before they are rounded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import torch
from torch import Tensor, nn

from fsc.images.checks import device_of
from fsc.images.joint import reads_images
from fsc.networks import tracing
from fsc.networks.calls import call_of, output_of

# Shares of the largest input that are tried as the limit.
_SHARES = torch.logspace(-1, 0, 16).tolist()


def input_limits(
    model: nn.Module, images: Tensor, names: Collection[str], bits: int, batch_size: int
) -> dict[str, float]:
    """Find where clipping and rounding a convolution's input to 2^bits values moves it least.

    The images themselves are left alone, and so are inputs with negative values, which [0, s]
    cannot hold, and inputs that are zero throughout.

    Args:
        model: the network, run twice on the images.
        images: normalised images [N, C, H, W].
        names: convolutions of it.
        bits: of an input, 1 to 8.
        batch_size: images in one pass.

    Returns:
        name -> limit of the least mean squared error, among shares of the largest input.
    """
    reading_images = {
        str(node.target)
        for node in tracing.trace(model).nodes
        if node.op == "call_module" and reads_images(node)
    }
    ranges = _Ranges()
    _observe(model, images, set(names) - reading_images, ranges.see, batch_size)
    usable = {name for name, (low, high) in ranges.found.items() if low >= 0 and high > 0}
    errors = _Errors({name: ranges.found[name][1] for name in usable}, bits)
    _observe(model, images, usable, errors.see, batch_size)
    return errors.limits()


class _Ranges:
    """The smallest and largest input of every convolution."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[float, float]] = {}

    def see(self, name: str, features: Tensor) -> None:
        low, high = (float(bound) for bound in features.aminmax())
        before = self.found.get(name, (low, high))
        self.found[name] = (min(low, before[0]), max(high, before[1]))


class _Errors:
    """The squared error of every candidate, summed up over batches."""

    def __init__(self, largest: Mapping[str, float], bits: int) -> None:
        self.levels = 2**bits - 1
        self.candidates = {
            name: [share * high for share in _SHARES] for name, high in largest.items()
        }
        self.sums = {name: [0.0] * len(_SHARES) for name in largest}

    def see(self, name: str, features: Tensor) -> None:
        for number, limit in enumerate(self.candidates[name]):
            rounded = torch.fake_quantize_per_tensor_affine(
                features, limit / self.levels, 0, 0, self.levels
            )
            self.sums[name][number] += float((rounded - features).square().sum())

    def limits(self) -> dict[str, float]:
        return {
            name: self.candidates[name][sums.index(min(sums))] for name, sums in self.sums.items()
        }


def _observe(
    model: nn.Module,
    images: Tensor,
    names: Iterable[str],
    see: Callable[[str, Tensor], None],
    batch_size: int,
) -> None:
    """Run a network on images and show the inputs of some of its layers, batch by batch."""
    handles = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, inputs, named, name=name: see(name, inputs[0] if inputs else named["input"]),
            with_kwargs=True,
        )
        for name in sorted(names)
    ]
    try:
        for batch in images.split(batch_size):
            output_of(model, call_of(batch.to(device_of(model, images))))
    finally:
        for handle in handles:
            handle.remove()
