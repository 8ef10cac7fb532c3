"""Compressions that one process and several must do alike; all in float64, on five images."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from networks import chain, small
from torch import Tensor, nn

import fsc
from fsc.methods import JointSGD
from fsc.methods.solve_then_train import solving, training
from fsc.schemes import Decoupling, DropBlocks, Scheme, SparseScheme
from fsc.solvers.proximal import Proximal

HALF = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})
# At a rate at which four steps change more than rounding does.
FROZEN: dict[str, Any] = {
    "steps": 4,
    "batch_size": 3,
    "learning_rate": 0.3,
    "batch_norm": "frozen",
}


class Residual(nn.Module):
    """Two residual blocks that can be pruned inside, or dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.blocks = nn.Sequential(_Block(), _Block())
        self.last = nn.Conv2d(6, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.blocks(self.stem(x).relu())).relu()
        return self.head(x.mean((2, 3)))


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(6, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.conv2(self.norm(self.conv1(x)).relu())).relu()


class Spare(nn.Module):
    """A network with a layer that it never calls."""

    def __init__(self) -> None:
        super().__init__()
        self.own = chain()
        self.spare = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.own(x)


class Wide(nn.Module):
    """More rows than a handful of small images has columns."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 48, 3)
        self.conv2 = nn.Conv2d(48, 16, 3)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv2(self.conv1(x).relu()).relu().mean((2, 3)))


def _double(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(1)
    return make().double().eval()


def images(count: int = 5, size: int = 8) -> Tensor:
    """The same ones in every process."""
    generator = torch.Generator().manual_seed(2)
    return torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)


def _block_scheme() -> Scheme:
    return Scheme("blocks", {"blocks.0.conv1": 4, "blocks.1.conv1": 5})


# Name -> network, size of its images, what `fsc.compress` is given.
CASES: dict[str, tuple[Callable[[], nn.Module], int, dict[str, Any]]] = {
    "moments": (chain, 8, {"method": fsc.CrossDistillation(fsc.Estimation()), "scheme": HALF}),
    "columns": (Wide, 5, {"method": "cd-nc", "scheme": Scheme("wide", {"conv1": 20})}),
    "soft, noise": (
        chain,
        8,
        {"method": fsc.CrossDistillation(fsc.Soft(0.9, 0.5), noise=0.1), "scheme": HALF},
    ),
    "behind additions": (
        Residual,
        8,
        {"method": fsc.CrossDistillation(after_addition=True), "scheme": _block_scheme()},
    ),
    "behind the ReLU": (
        chain,
        16,
        {"method": fsc.CrossDistillation(activation="relu"), "scheme": HALF},
    ),
    "steps of minibatches": (
        chain,
        8,
        {
            "method": fsc.CrossDistillation(
                activation="relu", solver=Proximal(steps=6, batch_size=2)
            ),
            "scheme": HALF,
        },
    ),
    "groups": (small, 8, {"method": "cd-nc", "pruning_ratio": 0.5}),
    "single weights": (
        chain,
        8,
        {"method": "cd-nc", "scheme": SparseScheme("few", {"conv2": 300, "conv3": 60})},
    ),
    "fskd": (chain, 8, {"method": fsc.FSKD(iterations=2), "scheme": HALF}),
    "fskd, sgd": (
        chain,
        8,
        {"method": fsc.FSKD(sgd=JointSGD(steps=4, batch_size=3), solve_on=11), "scheme": HALF},
    ),
    "fskd, decoupled": (chain, 8, {"method": fsc.FSKD(solve_on=11), "scheme": Decoupling(2)}),
    "BatchNorm kept": (
        Residual,
        8,
        {"method": "cd-nc", "scheme": _block_scheme(), "keep_batch_norm": True},
    ),
    "thinet": (chain, 8, {"method": "thinet", "scheme": HALF}),
    "channel pruning": (chain, 8, {"method": "channel-pruning", "scheme": HALF}),
    "grail": (chain, 8, {"method": "grail", "scheme": HALF}),
    "removal": (Residual, 8, {"method": "cd-nc", "flops": 0.5}),
    "mir": (chain, 8, {"method": fsc.MiR(**FROZEN), "scheme": HALF}),
    "mir, crops": (chain, 8, {"method": fsc.MiR(views="crops", **FROZEN), "scheme": HALF}),
    "mir, head": (chain, 8, {"method": fsc.MiR(tune_head=True, **FROZEN), "scheme": HALF}),
    # The last minibatch of a pass has one image.
    "kd": (chain, 8, {"method": fsc.KD(**FROZEN | {"batch_size": 2}), "scheme": HALF}),
    "a layer unused": (Spare, 8, {"method": fsc.KD(**FROZEN), "pruning_ratio": 0.4}),
    "fitnet": (chain, 8, {"method": fsc.FitNet(**FROZEN), "scheme": HALF}),
    "bp": (
        chain,
        8,
        {"method": fsc.BackProp(**FROZEN), "scheme": HALF, "labels": torch.arange(5) % 4},
    ),
    "default": (
        Residual,
        8,
        {"method": fsc.SolveThenTrain(solving(11), training(3)), "pruning_ratio": 0.3},
    ),
    "blocks": (Residual, 8, {"method": fsc.MiR(**FROZEN), "scheme": DropBlocks(count=1)}),
}


def compressed(name: str, journal: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What a case gives: the student's tensors, and the numbers of its report."""
    make, size, given = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = fsc.compress(_double(make), images(size=size), **given, journal=journal)
    report = result.report
    told = {"kept": report.kept, "distance": report.distance, "num_images": report.num_images}
    told["layers"] = [(each.name, each.columns, each.error) for each in report.layers]
    return dict(result.student.state_dict()), told


def all_compressed(names: list[str]) -> dict[str, Any]:
    """The results of several cases, or their errors."""
    found: dict[str, Any] = {}
    for name in names:
        try:
            found[name] = compressed(name)
        except Exception as error:
            found[name] = error
            break  # the other ranks may be elsewhere
    return found
