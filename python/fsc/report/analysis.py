"""What the paper of Cross Distillation (Bai et al., AAAI 2020) measures of a student."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fsc.networks import surgery
from fsc.networks.operations import CONVOLUTION, ORDINARY, reads_shape
from fsc.networks.tracing import trace
from fsc.walking.visitor import Layer, Visitor
from fsc.walking.walk import walk


@dataclass(frozen=True)
class LayerErrors:
    """Squared distances at one layer, per image, sigma the activation behind it.

    A distance is None where the student lost channels that it would need.

    Attributes:
        name: of the layer.
        energy: |sigma(W_T h_T)|^2, the scale of the others.
        estimation: L^r = |sigma(W_T h_T) - sigma(W_S h_S)|^2 (Eq. 1).
        correction: L^c = |sigma(W_T h_T) - sigma(W_S h_T)|^2 (Eq. 2).
        imitation: L^i = |sigma(W_T h_S) - sigma(W_S h_S)|^2 (Eq. 3).
        inconsistency_student: epsilon^S = |sigma(W_S h_T) - sigma(W_S h_S)|^2.
        inconsistency_teacher: epsilon^T = |sigma(W_T h_S) - sigma(W_T h_T)|^2.
    """

    name: str
    energy: float
    estimation: float | None
    correction: float | None
    imitation: float | None
    inconsistency_student: float | None
    inconsistency_teacher: float | None


def layer_errors(
    teacher: nn.Module, student: nn.Module, images: Tensor, *, batch_size: int = 64
) -> list[LayerErrors]:
    """Measures every convolution and linear layer on held-out images (Fig. 2 and 3).

    Args:
        teacher: the pretrained network.
        student: what `fsc.compress` made of it, or any network of the same modules.
        images: normalised images [N, C, H, W], best others than those compressed with.
        batch_size: images in one pass; the result does not depend on it.

    Returns:
        One entry for each layer, in order of execution. BatchNorm is folded into the layers before.

    Raises:
        ValueError: the networks do not belong together, or images do not fit.
    """
    networks = [copy.deepcopy(network).eval() for network in (teacher, student)]
    with torch.no_grad():
        for network in networks:
            surgery.fold_batch_norm(network)
    measure = _Measure()
    walk(networks[0], networks[1], images, measure, batch_size=batch_size)
    return measure.found


class _Measure(Visitor):
    """Adds the distances up over the batches of each layer."""

    def __init__(self) -> None:
        self.found: list[LayerErrors] = []
        self.sums: dict[str, float | None] = {}

    def on_inputs(self, layer: Layer, input_teacher: Tensor, input_student: Tensor) -> None:
        own = _output(layer, layer.teacher, input_teacher)
        assert own is not None
        student = _output(layer, layer.student, input_student)
        crossed = _output(layer, layer.student, input_teacher)  # sigma(W_S h_T)
        imitated = _output(layer, layer.teacher, input_student)  # sigma(W_T h_S)
        for name, first, second in (
            ("energy", own, torch.zeros_like(own)),
            ("estimation", own, student),
            ("correction", own, crossed),
            ("imitation", imitated, student),
            ("inconsistency_student", crossed, student),
            ("inconsistency_teacher", imitated, own),
        ):
            self._add(name, first, second)

    def before_run(self, layer: Layer) -> None:
        means = {
            name: None if total is None else total / layer.num_images
            for name, total in self.sums.items()
        }
        self.found.append(LayerErrors(layer.name, **means))  # type: ignore[arg-type]
        self.sums = {}

    def _add(self, name: str, first: Tensor | None, second: Tensor | None) -> None:
        if first is None or second is None or first.shape != second.shape:
            self.sums[name] = None
            return
        before = self.sums.get(name, 0.0)
        assert before is not None
        self.sums[name] = before + float((first - second).double().square().sum())


def _output(layer: Layer, module: nn.Module, features: Tensor) -> Tensor | None:
    """What a layer makes of some features, activated; None where their channels do not fit."""
    assert isinstance(module, CONVOLUTION | nn.Linear)
    is_linear = isinstance(module, nn.Linear)
    expected = module.in_features if is_linear else module.in_channels
    if features.shape[-1 if is_linear else 1] != expected:
        return None
    output: Tensor = module(features)
    return output.relu() if layer.activation == "relu" else output


@dataclass(frozen=True)
class Bound:
    """One step of Theorem 1's chain, distances per sqrt(N) images and not squared.

    Attributes:
        name: of the layer.
        measured: sqrt(L^r).
        bound: what the layer losses up to here allow it to be.
    """

    name: str
    measured: float
    bound: float


def estimation_bound(
    teacher: nn.Module, student: nn.Module, errors: Sequence[LayerErrors], mu: float
) -> list[Bound]:
    r"""The chain of Theorem 1: what the layer losses allow the estimation error to be.

    .. math:: \sqrt{L^r_l} \le \mu \sqrt{L^c_l} + (1 - \mu) \sqrt{L^i_l}
              + C_l(\mu) \sqrt{L^r_{l-1}}, \quad
              C_l(\mu) = \sqrt{k_h k_w} (\mu \|\bar W^S_l\| + (1 - \mu) \|\bar W^T_l\|)

    Appendix, Eq. 16-19, with norms as the proof has them: not squared. The proof leaves out that
    im2col repeats a pixel up to k_h k_w times; the factor here puts it in. It holds for networks
    that are a chain of layers, pooling of non-overlapping pixels and ReLU.

    Args:
        teacher: the network that `errors` was measured with.
        student: likewise.
        errors: of `layer_errors`; every distance must be there, so the student keeps its shapes.
        mu: weight of the correction, in [0, 1].

    Returns:
        Measured error and bound of every layer, in order of execution.

    Raises:
        ValueError: mu is out of range, the network is no chain, or a distance is missing.
    """
    if not 0 <= mu <= 1:
        raise ValueError(f"mu must be in [0, 1], got {mu}")
    for node in trace(teacher).nodes:
        values = [source for source in node.all_input_nodes if not reads_shape(source)]
        if len(values) > 1:
            raise ValueError(
                f"teacher must be a chain of layers, got {node.name}, which joins "
                f"{len(values)} values"
            )
    networks = [copy.deepcopy(network).eval() for network in (teacher, student)]
    with torch.no_grad():
        for network in networks:
            surgery.fold_batch_norm(network)
    found: list[Bound] = []
    bound = 0.0
    for error in errors:
        if error.estimation is None or error.correction is None or error.imitation is None:
            raise ValueError(
                f"errors must hold every distance, got None at {error.name}: the student must "
                "keep all channels"
            )
        norms = [_operator_bound(network.get_submodule(error.name)) for network in networks]
        gain = mu * norms[1] + (1 - mu) * norms[0]
        loss = mu * math.sqrt(error.correction) + (1 - mu) * math.sqrt(error.imitation)
        bound = loss + gain * bound
        found.append(Bound(error.name, math.sqrt(error.estimation), bound))
    return found


def _operator_bound(layer: nn.Module) -> float:
    """How much longer a layer can make a difference of inputs."""
    assert isinstance(layer, (*ORDINARY, nn.Linear))
    spectral = float(torch.linalg.matrix_norm(layer.weight.detach().double().flatten(1), 2))
    return spectral * math.sqrt(layer.weight[0, 0].numel())
