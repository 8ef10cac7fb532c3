"""Methods trained on crops of the files of a folder."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from image_folders import SEVERAL_SIZES, write_patterns
from interruption import Interrupting
from networks import chain
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Subset

import fsc
from fsc.images.folder import ImageFolder
from fsc.images.original_crops import OriginalCrops
from fsc.methods import schedule
from fsc.methods.solve_then_train import solving
from fsc.schemes import Scheme

SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})
FEW = {"steps": 10, "batch_size": 4, "views": "original-crops"}
METHODS = {
    "mir": fsc.MiR(**FEW),
    "head": fsc.MiR(tune_head=True, **FEW),
    "kd": fsc.KD(learning_rate=0.02, **FEW),
    "fitnet": fsc.FitNet(learning_rate=0.02, **FEW),
    "bp": fsc.BackProp(learning_rate=0.02, **FEW),
    "default": fsc.SolveThenTrain(solving(8), fsc.MiR(precondition=0.3, **FEW)),
}


@pytest.fixture
def folder(tmp_path: Path) -> ImageFolder:
    return ImageFolder(write_patterns(tmp_path / "images", SEVERAL_SIZES), size=(10, 8))


def _run(name: str, images: object, **options: object) -> nn.Module:
    torch.manual_seed(3)
    options = {"method": METHODS[name], "scheme": SCHEME} | options
    return fsc.compress(chain(), images, **options).student  # type: ignore[arg-type]


def _same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.filterwarnings("ignore:student is farther", "ignore:MiR diverged", "ignore:layers are")
def test_every_method_trains_on_them(folder: ImageFolder, name: str) -> None:
    student = _run(name, folder)
    assert student.conv1.out_channels == 4 and not student.training
    assert _same(student, _run(name, Subset(folder, range(6)), memory_budget=3000))
    assert not _same(student, _run(name, folder, seed=1))


@pytest.mark.filterwarnings("ignore:student is farther", "ignore:MiR diverged")
def test_how_far_ahead_changes_nothing(
    folder: ImageFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    students = []
    for ahead in (0, 1, 5):
        monkeypatch.setattr(OriginalCrops, "ahead", ahead)
        students.append(_run("mir", folder))
    assert _same(students[0], students[1]) and _same(students[0], students[2])


@pytest.mark.parametrize("name", ["mir", "head", "fitnet"])
@pytest.mark.filterwarnings("ignore:student is farther", "ignore:MiR diverged")
def test_interrupted_and_resumed_has_the_same_bits(
    tmp_path: Path, folder: ImageFolder, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "_STEPS_BETWEEN_LOOKS", 4)
    journal, progress = tmp_path / "journal", Interrupting(9)
    with pytest.raises(KeyboardInterrupt):
        _run(name, folder, journal=journal, progress=progress)
    parts = _run(name, folder, journal=journal, progress=progress)
    assert _same(_run(name, folder), parts)
    changed = type(METHODS[name])(**vars(METHODS[name]) | {"views": "crops"})
    with pytest.raises(ValueError, match=r"method\.views original-crops, not crops"):
        _run(name, folder, method=changed, journal=journal)
    # The middle, which is what the images were made from, stays.
    file = folder.files[0]
    pixels = np.array(Image.open(file))
    pixels[:, 0] = 255
    before = folder.decoded()
    Image.fromarray(pixels).save(file)
    assert torch.equal(before, folder.decoded())
    with pytest.raises(ValueError, match="journal must belong to the same .* another images.files"):
        _run(name, folder, journal=journal)


def test_any_student_is_trained_on_them(folder: ImageFolder) -> None:
    torch.manual_seed(3)
    teacher = chain()
    student = nn.Sequential(nn.Conv2d(3, 6, 5, padding=2, stride=2), nn.ReLU())
    made = fsc.MiR(**FEW).mimic(teacher, student, folder)
    assert made(folder.decoded()).shape == (6, 4)
    with pytest.raises(ValueError, match="mimic: images must be an ImageFolder, .* got Tensor"):
        fsc.MiR(**FEW).mimic(teacher, student, folder.decoded())


@pytest.mark.parametrize("name", ["mir", "default"])
@pytest.mark.parametrize("kind", ["Tensor", "DataLoader", "list"])
def test_images_without_files_are_refused(folder: ImageFolder, name: str, kind: str) -> None:
    made = {"Tensor": folder.decoded(), "DataLoader": DataLoader(folder), "list": list(folder)}
    rule = (
        "^compress: images must be an ImageFolder, or a Subset of one, for MiR with "
        f"views='original-crops', got {kind}$"
    )
    with pytest.raises(ValueError, match=rule):
        _run(name, made[kind])


def test_methods_that_are_not_told_of_files_refuse() -> None:
    teacher = chain()
    rule = (
        "^teach: views must be mirrored, crops or hard for KD where the files of the images are "
        "not known, got 'original-crops'$"
    )
    with pytest.raises(ValueError, match=rule):
        fsc.Alternation(training=fsc.KD(weight=1, **FEW)).teach(
            teacher, copy.deepcopy(teacher), torch.randn(6, 3, 8, 8)
        )


@pytest.mark.parametrize("budget", [None, 0])
def test_a_file_that_is_gone_is_named(folder: ImageFolder, budget: int | None) -> None:
    gone = folder.files[3]

    def progress(what: str, done: int, total: int) -> None:
        # Whatever is kept is decoded by then; what is not is decoded at every step.
        if what == "mimicking features, step" and done == 3:
            gone.unlink()

    if budget is None:
        assert _run("mir", folder, progress=progress, memory_budget=None)
    else:
        pattern = f"^image {gone} cannot be read: No such file or directory$"
        with pytest.raises(OSError, match=pattern):
            _run("mir", folder, progress=progress, memory_budget=budget)
    with pytest.raises(OSError, match=f"image {gone} cannot be read: No such file or directory"):
        _run("mir", folder)
