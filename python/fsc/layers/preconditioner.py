"""Gradients of layers, taken in terms of what the layers give and not of their weights.

What few directions of a layer's input hold most of its energy: pixels beside each other are alike,
and so are channels. Along them a step of gradient descent must be small; along all others it then
hardly moves. Multiplied by the inverse second moment of the input a gradient step changes what the
layer gives as if its inputs had been white.

    G <- G M^-1,  M = E[u u^T] of the patches u that the kernel sees, [C_in kH kW, C_in kH kW]

(Benzing, "Gradient Descent on Neurons and its Link to Approximate Second-order Optimization", 2022:
FOOF.) M is taken for the Kronecker product of the moments of the channels and of the taps of the
kernel, each a small matrix, as Grosse and Martens (2016) take it for convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import ExitStack

import torch
from torch import Tensor, nn

import fsc_ext
from fsc import ranks
from fsc.layers.form import Form
from fsc.layers.moments import ACCUMULATOR
from fsc.networks.modes import evaluation_mode
from fsc.solvers.patch import Patch


class Preconditioner:
    """The inverse second moments of what every layer of a network reads.

    Args:
        network: its convolutions and Linears, of any kind, are those whose gradients are taken so.
        damping: added to the moments, as a share of their mean diagonal; above 0.
    """

    def __init__(self, network: nn.Module, damping: float) -> None:
        """Leaves gradients as they are until inputs were measured."""
        self._forms = {
            name: Form(module)
            for name, module in network.named_modules()
            if isinstance(module, nn.modules.conv._ConvNd | nn.Linear)
        }
        self._network = network
        self._damping = damping
        self._inverses: dict[str, tuple[Tensor, Tensor]] = {}

    @property
    def is_measured(self) -> bool:
        """Whether there are moments to divide by."""
        return bool(self._inverses)

    def measure(self, batches: Iterable[Tensor]) -> None:
        """Takes the moments of what the layers read of some inputs; all ranks' together.

        Args:
            batches: what the network takes, [N, ...] each.
        """
        moments = {name: _InputMoments(form) for name, form in self._forms.items()}
        with ExitStack() as stack:
            stack.enter_context(evaluation_mode(self._network))
            stack.enter_context(torch.no_grad())
            for name, form in self._forms.items():
                handle = form.layer.register_forward_pre_hook(moments[name].accumulate)
                stack.callback(handle.remove)
            for batch in batches:
                self._network(batch)
        root = math.sqrt(self._damping)
        for name, found in moments.items():
            ranks.add_up(found.channels, found.taps)
            self._inverses[name] = (_inverse(found.channels, root), _inverse(found.taps, root))

    def apply(self) -> None:
        """Multiplies the gradient of every layer's weight, in place."""
        for name, inverses in self._inverses.items():
            form = self._forms[name]
            gradient = form.layer.weight.grad
            if gradient is not None:
                gradient.copy_(_applied(form, gradient, *inverses))

    def state(self) -> dict[str, Tensor]:
        """What `restore` needs, by name."""
        pairs = self._inverses.items()
        return {
            f"{what}.{name}": each
            for name, pair in pairs
            for what, each in zip(("channels", "taps"), pair, strict=True)
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes up what another one had measured."""
        for name, form in self._forms.items():
            device = form.layer.weight.device
            channels, taps = state[f"channels.{name}"], state[f"taps.{name}"]
            self._inverses[name] = (channels.to(device), taps.to(device))


class _InputMoments:
    """Second moments of what a layer reads: sums over images and pixels.

    Attributes:
        channels: of the channels of every group, [groups, C, C] with C = C_in / groups.
        taps: of the pixels that a kernel sees, all channels together, [kH kW, kH kW].
    """

    def __init__(self, form: Form) -> None:
        self._form = form
        self._patch = Patch.of_group(form.convolution)
        size, device = self._patch.in_channels, form.layer.weight.device
        shape, taps = (form.convolution.groups, size, size), self._patch.group_size
        self.channels = torch.zeros(shape, dtype=ACCUMULATOR, device=device)
        self.taps = torch.zeros(taps, taps, dtype=ACCUMULATOR, device=device)

    def accumulate(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Takes up one batch of inputs."""
        for piece in self._form.pieces(inputs[0]):
            image = self._form.image(inputs[0][piece])  # [N, C_in, H, W]
            grouped = image.unflatten(1, self.channels.shape[:2])  # [N, groups, C, H, W]
            for group, gram in enumerate(self.channels):
                fsc_ext.gram_accumulate_(gram, None, None, grouped[:, group], None)
            patch = self._patch
            fsc_ext.gram_accumulate_(
                self.taps,
                None,
                None,
                image.flatten(0, 1)[:, None],  # [N C_in, 1, H, W]
                None,
                kernel_size=patch.kernel_size,
                stride=patch.stride,
                padding=patch.padding,
                dilation=patch.dilation,
            )


def _inverse(moment: Tensor, damping: float) -> Tensor:
    """(M / mean diag(M) + damping I)^-1 in float32, [..., size, size]."""
    mean = moment.diagonal(dim1=-2, dim2=-1).mean()
    # Where a layer reads nothing but zeros there is nothing to scale by.
    damped = moment / mean if mean > 0 else moment.clone()
    damped.diagonal(dim1=-2, dim2=-1).add_(damping)
    return torch.linalg.inv(damped).float()


def _applied(form: Form, gradient: Tensor, channels: Tensor, taps: Tensor) -> Tensor:
    """A layer's gradient times both inverses, in the shape of its weight."""
    rows = form.rows(gradient)  # [C_out, C, ...]
    grouped = rows.reshape(len(channels), -1, channels.shape[1], len(taps))  # [groups, out, C, k]
    by_taps = grouped @ taps.to(rows.dtype)
    found = torch.einsum("gock,gcd->godk", by_taps, channels.to(rows.dtype))
    return form.weight(found.reshape(len(rows), channels.shape[1], *form.convolution.kernel_size))
