"""What a layer is added to, where teacher and student are compared behind the addition."""

from __future__ import annotations

from torch import Tensor, nn

from fsc.layers.layer_problem import Activation, Shortcuts
from fsc.walking.visitor import Layer


class Sums:
    """The shortcuts of the layer that is being solved, batch by batch.

    Args:
        after_addition: whether layers are compared behind additions at all.
        activation: whether they are compared behind a ReLU.
    """

    def __init__(self, activation: Activation, *, after_addition: bool) -> None:
        """Starts without a layer."""
        self._activation = activation
        self._after_addition = after_addition
        self._shortcuts: Shortcuts | None = None
        self._shape = (0, 0, 0)
        self.are_compared = False

    @property
    def make_up(self) -> bool:
        """Whether the layer is solved for what its shortcut has lost, too."""
        return self.are_compared and self._activation == "none"

    def see(self, layer: Layer, teacher: Tensor, student: Tensor) -> None:
        """Keeps what both layers of one batch are added to, where that is compared."""
        behind_relu = self._activation != "relu" or layer.sum_activation == "relu"
        if self._after_addition and behind_relu and isinstance(layer.teacher, nn.Conv2d):
            self._shortcuts = teacher, student

    def begin(self, channels: int, output_size: tuple[int, int]) -> None:
        """Decides whether the layer is compared behind the addition, by what it gives."""
        self._shape = (channels, *output_size)
        self.are_compared = self._shortcuts is not None and all(
            # One value a channel may be added, but what is added to one value is not compared.
            side.ndim == 4 and size in (1, own)
            for side in self._shortcuts
            for size, own in zip(side.shape[1:], self._shape, strict=False)
        )

    def of(self, piece: slice, count: int) -> Shortcuts | None:
        """What a piece of a batch of so many images is added to, [N, C_out, H_out, W_out] each."""
        if not self.are_compared or self._shortcuts is None:
            return None
        shape = (count, *self._shape)
        teacher, student = (side.expand(shape)[piece] for side in self._shortcuts)
        return teacher, student

    def end_inputs(self) -> None:
        """Lets go of the tensors, once the layer is solved."""
        self._shortcuts = None

    def end(self) -> None:
        """Ends the layer."""
        self.are_compared = False
