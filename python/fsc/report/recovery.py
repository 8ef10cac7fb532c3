"""What a student gets right after each block that is recovered (FSKD, Fig. 3b)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fsc.layers.pointwise_layer import mixes
from fsc.networks import surgery
from fsc.networks.operations import LAYER
from fsc.networks.tracing import trace
from fsc.networks.wrappers import unwrap
from fsc.progress import Progress
from fsc.training.evaluate import accuracy


@dataclass(frozen=True)
class PartlyRecovered:
    """A student of which some blocks are recovered.

    Attributes:
        name: of the layer that ends the last of them; None where all are only pruned.
        top1: accuracy in percent.
    """

    name: str | None
    top1: float


def accuracy_along(
    pruned: nn.Module,
    recovered: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    batch_size: int = 100,
    progress: Progress | None = None,
) -> list[PartlyRecovered]:
    """Counts right answers with the first k blocks recovered, and the others only pruned.

    FSKD solves and absorbs one block after another and never touches one again, so that its student
    after k blocks has the weights of the finished one there and those of the pruned teacher behind:
    one recovery gives all of them, bit for bit. For several passes, or for methods that train all
    layers together, these networks are what such a mixture gives, and no stage of the method.

    Args:
        pruned: the student before recovery, such as `L1Norm` makes.
        recovered: the same after it, with the same modules and channels.
        images: normalised test images [N, C, H, W].
        labels: their classes, int64 [N].
        batch_size: images that go through a network at once.
        progress: called with ("evaluating, block", done, total).

    Returns:
        k = 0, 1, ... up to all blocks, in order of execution. A block ends with every layer that
        mixes channels, as for `fsc.report.correlation.correlations`; what stands behind the last
        such layer belongs to its block, so that the last student is the recovered one.

    Raises:
        ValueError: the students do not have the same modules and shapes, or do not differ; or what
            `fsc.training.evaluate.accuracy` raises.
    """
    mixture, found = _Mixture(pruned, recovered), []
    for name, student in mixture.stages():
        found.append(PartlyRecovered(name, accuracy(student, images, labels, batch_size)))
        if progress is not None:
            progress("evaluating, block", len(found), len(mixture.ends) + 1)
    return found


def partly_recovered(
    pruned: nn.Module, recovered: nn.Module
) -> Iterator[tuple[str | None, nn.Module]]:
    """The students of `accuracy_along`, BatchNorm folded, with the name of their last block.

    It is one network, changed from one to the next.

    Example:
        >>> before = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
        >>> after = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
        >>> [name for name, _ in partly_recovered(before, after)]
        [None, '0', '2']
    """
    return _Mixture(pruned, recovered).stages()


class _Mixture:
    """A student whose first blocks are recovered.

    Args:
        pruned: before the recovery.
        recovered: after it.

    Raises:
        ValueError: they do not go together, or do not differ.
    """

    def __init__(self, pruned: nn.Module, recovered: nn.Module) -> None:
        self.student, self._recovered = (
            copy.deepcopy(unwrap(network)).eval() for network in (pruned, recovered)
        )
        for network in (self.student, self._recovered):
            surgery.fold_batch_norm(network)
        self._state, self._after = self.student.state_dict(), self._recovered.state_dict()
        self._check()
        graph = trace(self.student)
        # What has weights, in order of execution.
        self._steps = [str(n.target) for n in graph.nodes if n.op in ("call_module", "get_attr")]
        layers = {str(n.target) for n in graph.nodes if LAYER.matches(self.student, n)}
        self.ends = [
            name
            for name in dict.fromkeys(self._steps)
            if name in layers and mixes(self.student.get_submodule(name))
        ]

    def stages(self) -> Iterator[tuple[str | None, nn.Module]]:
        """The student before and after the recovery of every block, with the block's end."""
        yield None, self.student
        for name in self.ends:
            self._recover_to(name)
            yield name, self.student

    def _recover_to(self, end: str) -> None:
        """Recovers all that runs up to a block's end, and that; with the last end all the rest."""
        with torch.no_grad():
            while self._steps:
                name = self._steps.pop(0)
                for key, value in self._state.items():
                    if key == name or key.startswith(f"{name}."):
                        value.copy_(self._after[key])
                if name == end and end != self.ends[-1]:
                    return

    def _check(self) -> None:
        before, after = (
            {k: list(v.shape) for k, v in s.items()} for s in (self._state, self._after)
        )
        if before == after:
            if all(torch.equal(value, self._after[key]) for key, value in self._state.items()):
                raise ValueError("recovered must differ from pruned, got the same weights")
            return
        key = next(k for k in [*before, *after] if before.get(k) != after.get(k))
        raise ValueError(
            f"recovered must have the modules and channels of pruned, got {after.get(key, 'none')} "
            f"for {before.get(key, 'none')} at {key!r}"
        )
