"""Whatever fsc does on the CPU it does on another device, where tensors of two devices do not mix.

The device is that of tests/stand_in/device.cpp. A process that has it cannot get rid of it, so this
file runs itself in one of its own, which does everything on both devices and compares.
"""

import json
from collections.abc import Callable

import pytest
import torch
from device_cases import (
    BLOCKS,
    CD,
    EVERY_KIND,
    LABELS,
    SGD,
    SPARSE,
    SUPPORT,
    W2A4,
    W2A32,
    WEIGHTS,
    Found,
    aligned,
    analysed,
    augment,
    by_turns,
    compressed,
    fine_tuned,
    mimicked,
    on_files,
    residual,
    resumed,
    spilled,
    stored,
    targeted,
    taught,
    trained,
    wide,
)
from kinds import every_kind
from known_groups import found_once
from stand_in import run_alone, stand_in

import fsc
from fsc import schemes
from fsc.images.names import AUGMENTATIONS
from fsc.methods.solve_then_train import SolveThenTrain, solving, training
from fsc.schemes import QuantizedScheme, Scheme, SparseScheme
from fsc.solvers import Accelerated, ClosedForm, Proximal

CASES: dict[str, Callable[[torch.device], Found]] = {
    "share of the cost": targeted,
    "l1": compressed(fsc.L1Norm()),
    "l1, single weights": compressed(fsc.L1Norm(), SPARSE),
    "fskd": compressed(fsc.FSKD(solve_on=100)),
    "fskd, two iterations": compressed(fsc.FSKD(solve_on=100, iterations=2)),
    "fskd, sgd": compressed(
        fsc.FSKD(solve_on=100, sgd=fsc.methods.JointSGD(steps=4, batch_size=4))
    ),
    "fskd, decoupled": compressed(fsc.FSKD(solve_on=100), schemes.Decoupling(2)),
    "fskd, any student": aligned,
    "fskd, student with random weights": taught,
    "fskd, pruned by turns": by_turns,
    "BatchNorm kept": compressed(CD(), keep_batch_norm=True),
    "thinet": compressed(fsc.ThiNet()),
    "thinet, columns": compressed(fsc.ThiNet(), Scheme("half", {"0": 40}), wide),
    "channel pruning": compressed(fsc.ChannelPruning()),
    "grail": compressed(fsc.Grail()),
    "mir before": compressed(fsc.MiR("before", steps=4, batch_size=4)),
    "mir after": compressed(fsc.MiR("after", steps=4, batch_size=4)),
    "mir, single weights": compressed(
        fsc.ProgressiveMiR(steps=4, steps_between=2, batch_size=4), SPARSE
    ),
    "mir, hashing": compressed(fsc.MiR(loss="lsh+cosine", steps=4, batch_size=4)),
    "mir, head": compressed(fsc.MiR(steps=4, batch_size=4, tune_head=True), labels=LABELS),
    "mir, crops": compressed(fsc.MiR(steps=4, batch_size=4, views="crops")),
    "mir, head on crops": compressed(
        fsc.MiR(steps=4, batch_size=4, tune_head=True, views="crops"), labels=LABELS
    ),
    "kd, crops of files": on_files,
    "mir, any student": mimicked,
    "bp": compressed(fsc.BackProp(steps=4, batch_size=4), labels=LABELS),
    "kd": compressed(fsc.KD(steps=4, batch_size=4), labels=LABELS),
    "fitnet": compressed(fsc.FitNet(steps=4, batch_size=4), labels=LABELS),
    "estimation": compressed(CD(fsc.Estimation())),
    "correction": compressed(CD(fsc.Correction())),
    "imitation": compressed(CD(fsc.Imitation())),
    "convex": compressed(CD(fsc.Convex())),
    "soft": compressed(CD()),
    "channels of largest norm": compressed(CD(solver=ClosedForm("norm"))),
    "columns": compressed(CD(), Scheme("half", {"0": 40}), wide),
    "output filters": compressed(CD(axis="output_filters")),
    "residual": compressed(CD(), BLOCKS, residual),
    "steps": compressed(CD(solver=Proximal(steps=4))),
    "steps of sgd": compressed(CD(solver=SGD)),
    "steps of minibatches": compressed(CD(solver=Proximal(steps=4, batch_size=2))),
    "steps on filters": compressed(CD(solver=Proximal(steps=4), axis="output_filters")),
    "steps behind the relu": compressed(CD(solver=Proximal(steps=4), activation="relu")),
    "conjugate gradients": compressed(CD(activation="relu")),
    "conjugate gradients, convex": compressed(CD(fsc.Convex(), activation="relu")),
    "after addition, conjugate gradients": compressed(
        CD(solver=Accelerated(steps=4), activation="relu", after_addition=True),
        BLOCKS, residual,
    ),
    "after addition, steps": compressed(
        CD(solver=Proximal(steps=2), activation="relu", after_addition=True),
        BLOCKS, residual,
    ),
    "after addition, closed form": compressed(
        CD(after_addition=True, solve_on=20), BLOCKS, residual
    ),
    "after addition, columns": compressed(
        CD(after_addition=True), Scheme("half", {"0": 40}), wide
    ),
    "default": compressed(
        SolveThenTrain(solving(20), training(4))
    ),
    "single weights": compressed(CD(), SPARSE),
    "single weights of largest norm": compressed(CD(solver=ClosedForm("norm")), SPARSE),
    "single weights by steps": compressed(CD(solver=Proximal(steps=4)), SPARSE),
    "few single weights of many": compressed(CD(), SparseScheme("few", {"2": 900}), wide),
    "many single weights of many": compressed(CD(), SparseScheme("many", {"2": 2000}), wide),
    "w2a32": compressed(CD(), W2A32),
    "w2a32 by steps": compressed(CD(solver=Proximal(steps=4)), W2A32),
    "w2a32 by soft steps": compressed(CD(solver=SGD), W2A32),
    "w2a32, rounded": compressed(CD(solver=ClosedForm("norm")), W2A32),
    "w2a4": compressed(CD(), W2A4),
    "given channels": compressed(CD(support=SUPPORT)),
    "given channels by steps": compressed(CD(solver=Proximal(4), support=SUPPORT)),
    "given weights": compressed(CD(support=WEIGHTS), SPARSE),
    "noise": compressed(CD(noise=0.2)),
    "steps with noise": compressed(CD(noise=0.2, solver=Proximal(steps=4))),
    **{
        f"every kind, {name}": compressed(method, scheme, every_kind)
        for name, (method, scheme) in {
            "cd": (CD(), EVERY_KIND),
            "relu": (CD(activation="relu"), EVERY_KIND),
            "steps": (CD(solver=Proximal(steps=4)), EVERY_KIND),
            "fskd": (fsc.FSKD(solve_on=100), EVERY_KIND),
            "thinet": (fsc.ThiNet(), EVERY_KIND),
            "grail": (fsc.Grail(), EVERY_KIND),
            "sparse": (CD(), SparseScheme("s", {"grouped": 100, "depthwise": 30})),
            "sparse by steps": (CD(solver=SGD), SparseScheme("s", {"grouped": 9})),
            "w2a4": (CD(), QuantizedScheme("q", {"grouped": 2, "depthwise": 2}, 4)),
        }.items()
    },
    "not recalibrated": compressed(CD(recalibrate=False, crossing=["conv3"])),
    "spilled to disk": spilled,
    "resumed": resumed,
    "fine-tuned": fine_tuned,
    "trained": trained,
    "analysed": analysed,
    "stored": stored,
    **{f"augmented by {kind}": augment(kind) for kind in AUGMENTATIONS},
}  # fmt: skip


def compare(case: Callable[[torch.device], Found], device: torch.device) -> str:
    """What is wrong with a case on a device; nothing where it gives what it gives on the CPU."""
    found = []
    for where in (torch.device("cpu"), device):
        torch.manual_seed(0)
        try:
            found.append(case(where))
        except Exception as error:  # One case must not hide the others.
            return f"{where}: {type(error).__name__}: {error}"
    expected, tensors = found
    for name, tensor in tensors.items():
        if tensor.device != device:
            return f"{name} is on {tensor.device}"
        if not torch.allclose(tensor.cpu(), expected[name], rtol=1e-6, atol=1e-7):
            return f"{name} is off by up to {(tensor.cpu() - expected[name]).abs().max()}"
    return "" if tensors.keys() == expected.keys() else f"got {sorted(tensors)}"


@pytest.fixture(scope="module")
def verdicts() -> dict[str, str]:
    """What a process of its own says of every case."""
    return json.loads(run_alone(__file__).splitlines()[-1])


@pytest.mark.parametrize("name", CASES)
def test_the_other_device_gives_what_the_cpu_gives(verdicts: dict[str, str], name: str) -> None:
    assert verdicts[name] == ""


if __name__ == "__main__":
    torch.set_num_threads(1)
    other = stand_in()
    with found_once("networks", "kinds", "torch.nn.", "fsc.models."):
        print(json.dumps({name: compare(case, other) for name, case in CASES.items()}))
