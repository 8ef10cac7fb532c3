"""Whatever fsc does on the CPU it does on another device, where tensors of two devices do not mix.

The device is that of tests/stand_in/device.cpp. A process that has it cannot get rid of it, so this
file runs itself in one of its own, which does everything on both devices and compares.
"""

import json
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
from image_folders import write_patterns
from kinds import every_kind
from known_groups import found_once
from networks import chain
from stand_in import run_alone, stand_in
from torch import Tensor, nn

import fsc
from fsc import models, schemes
from fsc.images import augmentation
from fsc.images.folder import ImageFolder
from fsc.images.names import AUGMENTATIONS
from fsc.methods import Method
from fsc.methods.journal import Journal
from fsc.methods.solve_then_train import SolveThenTrain, solving, training
from fsc.networks.pretrained import load_pretrained
from fsc.report import analysis
from fsc.schemes import AnyScheme, QuantizedScheme, Scheme, SparseScheme
from fsc.solvers import Accelerated, ClosedForm, Proximal
from fsc.training import evaluate, supervised
from fsc.training.finetuning import FineTuning, recalibrate_batch_norm

# What a case makes on a device: tensors that must be there, and be those that the CPU makes.
Found = dict[str, Tensor]
SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})
EVERY_KIND = Scheme("half", {"first": 4})
SPARSE = SparseScheme("sparse", {"conv2": 100, "conv4": 20})
SUPPORT = {"conv1": [6, 0, 3, 1], "conv2": [1, 2, 3, 8, 9], "conv3": [0, 1, 2, 3, 4, 5]}
WEIGHTS = {"conv2": list(range(0, 700, 7)), "conv4": list(range(0, 40, 2))}
W2A32 = QuantizedScheme("w2a32", {"conv2": 2, "conv3": 2, "conv4": 2})
W2A4 = QuantizedScheme("w2a4", W2A32.bits, activation_bits=4)
LABELS = torch.tensor([0, 3, 1, 2, 3, 0])
SGD = Proximal(steps=4, optimizer="sgd", momentum=0.5, projection="soft")
CD = fsc.CrossDistillation


def wide() -> nn.Module:
    """Layers of fewer pixels than inputs, and of more inputs than are eliminated one by one."""
    return nn.Sequential(nn.Conv2d(3, 80, 3, stride=4), nn.ReLU(), nn.Conv2d(80, 4, 3, padding=1))


def resnet() -> nn.Module:
    """Residual blocks."""
    return models.build("resnet14").eval()


def compressed(
    method: Method,
    scheme: AnyScheme = SCHEME,
    build: Callable[[], nn.Module] = chain,
    **options: object,
) -> Callable[[torch.device], Found]:
    """A case: the student that a method makes."""

    def case(device: torch.device) -> Found:
        teacher, images = build().eval(), torch.randn(6, 3, 8, 8)
        return student_of(teacher.to(device), images.to(device), method, scheme, **options)

    return case


def strict(device: torch.device) -> AbstractContextManager[object]:
    """Away from the CPU, tensors that are made without a word about where have no values."""
    return nullcontext() if device.type == "cpu" else torch.device("meta")


def student_of(
    teacher: nn.Module, images: Tensor, method: Method, scheme: AnyScheme, **options: object
) -> Found:
    with strict(images.device):
        result = fsc.compress(teacher, images, method=method, scheme=scheme, **options)
    json.dumps(result.report.to_dict())
    assert result.report.device == str(images.device)
    return result.student.state_dict()


def on_files(device: torch.device) -> Found:
    """A method that crops files, which threads do on the CPU."""
    method = fsc.KD(steps=4, batch_size=4, views="original-crops")
    with tempfile.TemporaryDirectory() as name:
        folder = ImageFolder(write_patterns(Path(name), [(12, 9), (8, 20), (9, 9), (15, 11)]), 8)
        teacher, example = chain().to(device), folder[0][0].to(device)
        with strict(example.device):
            made = fsc.compress(teacher, folder, method=method, scheme=SCHEME)
        return made.student.state_dict()


def spilled(device: torch.device) -> Found:
    return compressed(CD(), batch_size=2, memory_budget=0)(device)


def resumed(device: torch.device) -> Found:
    """Stopped after the second layer, and taken up again."""
    teacher, images = chain().to(device), torch.randn(6, 3, 8, 8).to(device)
    add = Journal.add

    def add_two(journal: Journal, name: str, solution: object) -> None:
        add(journal, name, solution)
        if len(list(journal.folder.glob("*.safetensors"))) == 2:
            raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as folder:
        Journal.add = add_two
        with pytest.raises(KeyboardInterrupt):
            student_of(teacher, images, CD(axis="output_filters"), SCHEME, journal=folder)
        Journal.add = add
        return student_of(teacher, images, CD(axis="output_filters"), SCHEME, journal=folder)


def augment(kind: str) -> Callable[[torch.device], Found]:
    def case(device: torch.device) -> Found:
        images = torch.randn(6, 3, 8, 8).to(device)
        with strict(device):
            return {kind: augmentation.augmented(images, kind)}

    return case


def fine_tuned(device: torch.device) -> Found:
    """A sparse student, from labelled images of the CPU."""
    model, images, labels = chain(), torch.randn(12, 3, 8, 8), torch.randint(4, (12,))
    with torch.no_grad():
        model.conv2.weight.mul_(model.conv2.weight > 0)
    with strict(device):
        tuned = FineTuning(epochs=2, batch_size=4).run(model.to(device), images, labels)
        again = recalibrate_batch_norm(tuned, images, batch_size=5)
    return tuned.state_dict() | {f"again {k}": v for k, v in again.state_dict().items()}


def trained(device: torch.device) -> Found:
    model, images, labels = chain(), torch.randn(12, 3, 8, 8), torch.randint(4, (12,))
    model.to(device)
    with strict(device):
        supervised.train(
            model, images, labels, epochs=2, batch_size=4, scale_penalty=1e-2, mirror=True
        )
        top1 = evaluate.accuracy(model, images, labels)
    return model.state_dict() | {"top1": torch.tensor(top1, device=device)}


def analysed(device: torch.device) -> Found:
    teacher, images = chain().to(device), torch.randn(6, 3, 8, 8)
    method = CD(fsc.Convex(0.7))
    result = fsc.compress(teacher, images.to(device), method=method, scheme=SPARSE)
    errors = analysis.layer_errors(teacher, result.student, images)
    bounds = analysis.estimation_bound(teacher, result.student, errors, 0.7)
    values = [e.imitation for e in errors] + [b.bound for b in bounds]
    return {"errors and bounds": torch.tensor(values, device=device)}


def targeted(device: torch.device) -> Found:
    """To a share of the cost, by what removing channels loses."""
    teacher, images = chain().to(device), torch.randn(6, 3, 8, 8)
    with strict(device):
        return fsc.compress(teacher, list(images), flops=0.6, method="cd-soft").student.state_dict()


def stored(device: torch.device) -> Found:
    """A student saved from the device, and read by a machine that lacks it."""
    teacher, images = chain().to(device), torch.randn(6, 3, 8, 8).to(device)
    student = fsc.compress(teacher, images, method=CD(), scheme=W2A4).student
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "student.safetensors"
        fsc.save(student, path)
        loaded = fsc.load(path, model=teacher)
        assert all(value.is_cpu for value in loaded.state_dict().values())
        torch.save(teacher.state_dict(), Path(folder) / "teacher.pt")
        load_pretrained(loaded_teacher := chain(), Path(folder) / "teacher.pt")
        load_pretrained(on_device := chain().to(device), Path(folder) / "teacher.pt")
    assert loaded_teacher.conv1.weight.is_cpu
    return loaded.to(device).state_dict() | {
        f"teacher {name}": value for name, value in on_device.state_dict().items()
    }


def mimicked(device: torch.device) -> Found:
    """A student by hand with a teacher's head."""
    body = nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1), nn.ReLU(), nn.Conv2d(5, 6, 1), nn.ReLU())
    teacher, images = chain().to(device), torch.randn(6, 3, 8, 8).to(device)
    with strict(device):
        made = fsc.MiR(steps=4, batch_size=4).mimic(teacher, body.to(device), images)
    return made.state_dict()


def aligned(device: torch.device) -> Found:
    """A student with layers of its own, in a teacher's place."""
    teacher, student = chain().to(device), chain().to(device)
    with torch.no_grad():
        student.conv2.weight.mul_(0.5)
    images = torch.randn(6, 3, 8, 8).to(device)
    with strict(device):
        return fsc.FSKD().align(teacher, student, images).state_dict()


def taught(device: torch.device) -> Found:
    """A student with weights of its own, trained and aligned by turns, and the last turn again."""
    teacher, student = chain().to(device), chain().to(device)
    images = torch.randn(6, 3, 8, 8).to(device)
    training = fsc.FitNet(steps=4, batch_size=4)
    # On many images, and damped: what few leave open is decided by rounding.
    method = fsc.Alternation(training=training, alignment=fsc.FSKD(damping=1.0), rounds=2)
    with strict(device), tempfile.TemporaryDirectory() as folder:
        method.teach(teacher, student, images, LABELS.to(device), journal=folder)
        forget_the_second_round(folder)
        again = method.teach(teacher, student, images, LABELS.to(device), journal=folder)
    return again.state_dict()


def by_turns(device: torch.device) -> Found:
    """Two rounds of pruning, the second one twice."""
    teacher, images = chain().to(device), torch.randn(6, 3, 8, 8).to(device)
    with strict(device), tempfile.TemporaryDirectory() as folder:
        given = {"pruning_ratios": [0.2], "rounds": 2, "journal": folder}
        fsc.prune_iteratively(teacher, images, **given)  # type: ignore[arg-type]
        forget_the_second_round(folder)
        again = fsc.prune_iteratively(teacher, images, **given)  # type: ignore[arg-type]
    return again.student.state_dict()


def forget_the_second_round(folder: str) -> None:
    (entry,) = Path(folder).glob("round-2-*")
    entry.unlink()


CASES: dict[str, Callable[[torch.device], Found]] = {
    "share of the cost": targeted,
    "l1": compressed(fsc.L1Norm()),
    "l1, single weights": compressed(fsc.L1Norm(), SPARSE),
    "fskd": compressed(fsc.FSKD()),
    "fskd, two iterations": compressed(fsc.FSKD(iterations=2)),
    "fskd, sgd": compressed(fsc.FSKD(sgd=fsc.methods.JointSGD(steps=4, batch_size=4))),
    "fskd, decoupled": compressed(fsc.FSKD(), schemes.Decoupling(2)),
    "fskd, any student": aligned,
    "fskd, student with random weights": taught,
    "fskd, pruned by turns": by_turns,
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
    "residual": compressed(CD(), schemes.named("res-50", "resnet14"), resnet),
    "steps": compressed(CD(solver=Proximal(steps=4))),
    "steps of sgd": compressed(CD(solver=SGD)),
    "steps of minibatches": compressed(CD(solver=Proximal(steps=4, batch_size=2))),
    "steps on filters": compressed(CD(solver=Proximal(steps=4), axis="output_filters")),
    "steps behind the relu": compressed(CD(solver=Proximal(steps=4), activation="relu")),
    "conjugate gradients": compressed(CD(activation="relu")),
    "conjugate gradients, convex": compressed(CD(fsc.Convex(), activation="relu")),
    "after addition, conjugate gradients": compressed(
        CD(solver=Accelerated(steps=4), activation="relu", after_addition=True),
        schemes.named("res-50", "resnet14"), resnet,
    ),
    "after addition, steps": compressed(
        CD(solver=Proximal(steps=2), activation="relu", after_addition=True),
        schemes.named("res-50", "resnet14"), resnet,
    ),
    "after addition, closed form": compressed(
        CD(after_addition=True, solve_on=20), schemes.named("res-50", "resnet14"), resnet
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
            "fskd": (fsc.FSKD(), EVERY_KIND),
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
