"""Second moments of what a layer reads: of its channels, and of the taps of its kernel.

A kernel sees patches u of C kH kW values. Their second moment E[u u^T] is taken for the Kronecker
product of two small ones, that of the channels and that of the taps, as Grosse and Martens (2016,
"A Kronecker-factored approximate Fisher matrix for convolution layers") take it.
"""

from __future__ import annotations

import torch
from torch import Tensor

import fsc_ext
from fsc.layers.form import Form
from fsc.layers.moments import ACCUMULATOR
from fsc.solvers.patch import Patch


class InputMoments:
    """Sums over images and pixels of what a layer reads.

    Args:
        form: of the layer.

    Attributes:
        channels: of the channels of every group, [groups, C, C] with C = C_in / groups.
        taps: of the pixels that a kernel sees, all channels together, [kH kW, kH kW].
    """

    def __init__(self, form: Form) -> None:
        """Starts from zero images."""
        self._form = form
        self._patch = Patch.of_group(form.convolution)
        size, device = self._patch.in_channels, form.layer.weight.device
        shape, taps = (form.convolution.groups, size, size), self._patch.group_size
        self.channels = torch.zeros(shape, dtype=ACCUMULATOR, device=device)
        self.taps = torch.zeros(taps, taps, dtype=ACCUMULATOR, device=device)

    def accumulate(self, inputs: Tensor) -> None:
        """Takes up one batch of inputs, as the layer reads them."""
        for piece in self._form.pieces(inputs):
            image = self._form.image(inputs[piece])  # [N, C_in, H, W]
            self._add_channels(image)
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

    def _add_channels(self, image: Tensor) -> None:
        groups, size, _ = self.channels.shape
        if groups == 1:
            fsc_ext.gram_accumulate_(self.channels[0], None, None, image, None)
            return
        # There may be hundreds of groups, of one channel each.
        pixels = image.transpose(0, 1).flatten(1).view(groups, size, -1)
        self.channels += (pixels @ pixels.mT).to(ACCUMULATOR)
