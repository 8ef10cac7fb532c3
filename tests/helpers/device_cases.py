"""What fsc does on any device, as cases that make tensors there: compressing, training, saving."""

import json
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
from image_folders import write_patterns
from networks import chain
from shared_cases import Residual
from torch import Tensor, nn

import fsc
from fsc.images import augmentation
from fsc.images.folder import ImageFolder
from fsc.methods import Method
from fsc.methods.journal import Journal
from fsc.networks.pretrained import load_pretrained
from fsc.report import analysis
from fsc.schemes import AnyScheme, QuantizedScheme, Scheme, SparseScheme
from fsc.solvers import Proximal
from fsc.training import evaluate, supervised
from fsc.training.finetuning import FineTuning, recalibrate_batch_norm

# What a case makes on a device: tensors that must be there, and be those that the CPU makes.
Found = dict[str, Tensor]
SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})
EVERY_KIND = Scheme("half", {"first": 4})
BLOCKS = Scheme("blocks", {"blocks.0.conv1": 4, "blocks.1.conv1": 5})
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


def residual() -> nn.Module:
    """Residual blocks."""
    return Residual().eval()


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
