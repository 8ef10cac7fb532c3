"""What a walk tells about each layer, and what may be done there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from fsc.networks.operations import LAYER, Kind


@dataclass(frozen=True)
class Layer:
    """What a visitor is told about the layer that the walk has reached.

    Attributes:
        name: name of the module in both networks.
        teacher: the convolution, Linear or, where the visitor sees those, BatchNorm of the teacher.
        student: the layer of the student, which the visitor may rewrite.
        activation: "relu" when a ReLU alone reads the output of a convolution or Linear, "none"
            otherwise.
        sum_activation: "relu" when the output goes into an addition alone and the sum into a ReLU
            alone, "none" otherwise.
        num_images: number of images in all batches together.
        index: position among all layers that the visitor sees in execution order, from 0.
        count: number of those layers.
        channels: the teacher's of every channel that the student's layer gives, int64 [C]; None:
            the same. Only visitors that choose see more of the teacher's.
    """

    name: str
    teacher: nn.Module
    student: nn.Module
    activation: str
    sum_activation: str
    num_images: int
    index: int
    count: int
    channels: Tensor | None = None


class Visitor:
    """What is done at each layer; every hook here does nothing.

    Hooks run without gradients (enable them with `torch.enable_grad`) and in evaluation mode. The
    tensors they get belong to the walk: keep or read them, but do not overwrite them.

    Lifecycle, for each layer that is wanted:
        1. `on_shortcuts`, where there are any, and `on_inputs`, batch by batch
        2. `before_run`, once
        3. `on_outputs`, batch by batch, each as soon as both networks have run the layer
        4. `after_run`, once

    Attributes:
        kind: which modules are layers to it.
        chooses: whether `on_outputs` may see channels of the teacher that the student has not, and
            takes `layer.channels` of them: they are copied otherwise.
    """

    kind: Kind = LAYER
    chooses: bool = False

    def wants(self, name: str) -> bool:
        """Tell whether the other hooks are called for this layer; unwanted ones just run."""
        return True

    def on_shortcuts(
        self, layer: Layer, shortcut_teacher: Tensor, shortcut_student: Tensor
    ) -> None:
        """See what one batch of outputs of both layers will be added to.

        Only for layers whose output goes into nothing but an addition; not where the other summand
        comes from a layer that has not run yet.
        """

    def on_inputs(self, layer: Layer, input_teacher: Tensor, input_student: Tensor) -> None:
        """See one batch of inputs of both layers, before the layer runs."""

    def before_run(self, layer: Layer) -> None:
        """Rewrite the parameters of `layer.student` in place, knowing all its inputs."""

    def on_outputs(self, layer: Layer, output_teacher: Tensor, output_student: Tensor) -> None:
        """See one batch of outputs of both layers."""

    def after_run(self, layer: Layer) -> Callable[[Tensor], Tensor] | None:
        """Rewrite `layer.student` once more, knowing all its outputs.

        Returns:
            The map from outputs already computed to those of the rewritten layer, for one batch;
            None when the layer was not changed.
        """
        return None
