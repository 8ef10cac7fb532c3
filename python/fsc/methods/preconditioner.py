"""Gradients of layers, taken in terms of what the layers give and not of their weights.

Few directions of what a layer reads hold most of its energy: pixels beside each other are alike,
and so are channels. Along them a step of gradient descent must be small, and along all others it
then hardly moves. Multiplied by the inverse second moments of what is read, a step changes what the
layer gives as if its inputs had been white:

    G <- P_C G P_T,  P = (M / mean diag(M) + sqrt(damping) I)^-1

for the gradient G [C_out, C, kH kW] of a layer's weight, with M the second moment of the channels,
then of the taps that a kernel sees. (Benzing, "Gradient Descent on Neurons and its Link to
Approximate Second-order Optimization", 2022, section 3, whose moments are those of whole patches.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from fsc import ranks
from fsc.layers.form import Form
from fsc.layers.input_moments import InputMoments
from fsc.networks.modes import evaluation_mode

# A matrix of so many channels takes as long to invert as some steps; wider layers stay as they are.
_MOST_CHANNELS = 4096


class Preconditioner:
    """The inverse second moments of what every layer of a network reads.

    Args:
        network: its convolutions and Linears, of any kind, are those whose gradients are taken so,
            where they are called and read anything; others keep theirs.
        damping: added to the moments, see above; above 0.
    """

    def __init__(self, network: nn.Module, damping: float) -> None:
        """Leaves gradients as they are until inputs were measured."""
        self._forms = {
            name: Form(module)
            for name, module in network.named_modules()
            if isinstance(module, nn.modules.conv._ConvNd | nn.Linear)
            and _width(module) <= _MOST_CHANNELS
        }
        self._network = network
        self._damping = damping
        self._inverses: dict[str, tuple[Tensor, Tensor]] = {}
        self.is_measured = False

    def measure(self, batches: Iterable[Tensor]) -> None:
        """Takes the moments of what the layers read of some inputs; all ranks' together.

        Args:
            batches: what the network takes, [N, ...] each.
        """
        moments = {name: InputMoments(form) for name, form in self._forms.items()}
        with ExitStack() as stack:
            stack.enter_context(evaluation_mode(self._network))
            stack.enter_context(torch.no_grad())
            for name, form in self._forms.items():
                handle = form.layer.register_forward_pre_hook(
                    _accumulating(moments[name]), with_kwargs=True
                )
                stack.callback(handle.remove)
            for batch in batches:
                self._network(batch)
        root = math.sqrt(self._damping)
        for name, found in moments.items():
            ranks.add_up(found.channels, found.taps)
            # A layer that is never called, or reads zeros alone, has nothing to be divided by.
            if bool(found.taps.any()):
                self._inverses[name] = (_inverse(found.channels, root), _inverse(found.taps, root))
        self.is_measured = True

    def apply(self) -> None:
        """Multiplies the gradient of every layer's weight, in place."""
        for name, inverses in self._inverses.items():
            form = self._forms[name]
            gradient = form.layer.weight.grad
            if gradient is not None:
                gradient.copy_(_applied(form, gradient, *inverses))

    def state(self) -> dict[str, Tensor]:
        """What `restore` needs, by name."""
        return {
            f"{what}.{name}": each
            for name, pair in self._inverses.items()
            for what, each in zip(("channels", "taps"), pair, strict=True)
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes up what another one had measured."""
        for name, form in self._forms.items():
            if f"taps.{name}" in state:
                device = form.layer.weight.device
                channels, taps = state[f"channels.{name}"], state[f"taps.{name}"]
                self._inverses[name] = (channels.to(device), taps.to(device))
        self.is_measured = True


def _width(module: Any) -> int:
    return module.in_features if isinstance(module, nn.Linear) else module.in_channels


def _accumulating(moments: InputMoments) -> Any:
    """A hook that takes up what a layer is called with."""

    def take_up(_: nn.Module, given: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> None:
        moments.accumulate(given[0] if given else named["input"])

    return take_up


def _inverse(moment: Tensor, damping: float) -> Tensor:
    """(M / mean diag(M) + damping I)^-1 in float32, [..., size, size]."""
    damped = moment / moment.diagonal(dim1=-2, dim2=-1).mean()
    damped.diagonal(dim1=-2, dim2=-1).add_(damping)
    # Columns lie side by side in what `inv` gives. Rows do in what is read back from a file, and a
    # product of either may be rounded in its own way.
    return torch.linalg.inv(damped).float().contiguous()


def _applied(form: Form, gradient: Tensor, channels: Tensor, taps: Tensor) -> Tensor:
    """A layer's gradient times both inverses, in the shape of its weight."""
    rows = form.rows(gradient)  # [C_out, C, ...]
    grouped = rows.reshape(len(channels), -1, channels.shape[1], len(taps))  # [groups, out, C, k]
    by_taps = grouped @ taps.to(rows.dtype)
    found = torch.einsum("gock,gcd->godk", by_taps, channels.to(rows.dtype))
    return form.weight(found.reshape(len(rows), channels.shape[1], *form.convolution.kernel_size))
