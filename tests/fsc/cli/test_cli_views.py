"""Crops drawn anew at every step, and N-way-K-shot, from the command line."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from image_folders import write_classes
from refusals import sentence

from fsc.cli import run
from fsc.images import sampling
from fsc.methods import mir, schedule
from fsc.methods.base import Task
from fsc.methods.training_state import TrainingState
from fsc.methods.views import views_of

TRIED = ("--test-images", 20, "--threads", 1)
NET = """
import torch
from torch import nn

def build(classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))
"""


@pytest.mark.parametrize("method", ["mir-before", "kd"])
def test_compress_trains_on_crops(fsc, small_on_digits, tmp_path: Path, method: str) -> None:
    tops, where = [], ("--shots", 1, "--mir-steps", 2, *TRIED)
    for views in ("crops", "mirrored"):
        given = ("compress", *small_on_digits, *where, "--method", method, "--views", views)
        result = fsc(*given, "--output", tmp_path / views)
        assert result.exit_code == 0, result.output
        report = json.loads((tmp_path / views / "report.json").read_text())
        assert report["hyper_parameters"]["views"] == views
        tops.append((tmp_path / views / "model.safetensors").read_bytes())
    assert tops[0] != tops[1]


def test_steps_and_precision_of_the_default_are_those_that_are_typed(
    fsc, small_on_digits, tmp_path: Path
) -> None:
    typed = ("--shots", 1, *TRIED, "--mir-steps", 3, "--precision", "bfloat16")
    result = fsc("compress", *small_on_digits, *typed, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    training = report["hyper_parameters"]["train"]
    assert (training["steps"], training["precision"]) == (3, "bfloat16")


def test_compare_says_so_and_keeps_the_runs_apart(fsc, small_on_digits, tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    given = ("compare", *small_on_digits, "--shots", 2, "--ways", 4, "--seeds", 1, *TRIED)
    given = (*given, "--method", "l1", "--method", "mir-before", "--mir-steps", 2, "--json", path)
    result = fsc(*given, "--views", "crops")
    assert result.exit_code == 0, result.output
    assert "2 images of each of 4 classes, 1 draw, trained on crops" in " ".join(
        result.stdout.split()
    )
    content = json.loads(path.read_text())
    assert (content["shots"], content["ways"], content["views"]) == (2, 4, "crops")
    assert fsc(*given, "--views", "crops", "--resume").exit_code == 0
    refused = sentence(fsc(*given, "--resume"))
    assert f"--views must be that of the runs in {path}, crops, got mirrored; name" in refused


@pytest.fixture
def pets(tmp_path: Path) -> list[object]:
    """A network and three classes, of which one has two images only."""
    net = tmp_path / "net.py"
    net.write_text(NET)
    root = tmp_path / "pets" / "train"
    write_classes(root, ("cat", "dog", "owl"), count=4)
    for path in sorted((root / "owl").iterdir())[2:]:
        path.unlink()
    scheme = tmp_path / "half.json"
    scheme.write_text('{"name": "half", "pruning_ratio": 0.5}')
    data = ("--data", f"folder:{root.parent}", "--size", "10:8", "--scheme", scheme)
    return ["--model", f"{net}:build", *data]


@pytest.mark.parametrize("method", ["l1", "kd"])
def test_classes_of_a_folder_are_drawn(fsc, pets, tmp_path: Path, monkeypatch, method) -> None:
    seen = []
    real = run.compress
    monkeypatch.setattr(
        run, "compress", lambda *a, **k: seen.append((a[1], k["labels"])) or real(*a, **k)
    )
    given = ("compress", *pets, "--method", method, "--no-evaluate", "--shots", 3, "--ways", 2)
    views = ("--views", "crops", "--mir-steps", 2) if method == "kd" else ()
    result = fsc(*given, *views, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    sample = sampling.FewShotSample.load(tmp_path / "out" / "samples.json")
    assert (sample.num_ways, sample.num_shots, sample.labels) == (2, 3, [0, 0, 0, 1, 1, 1])
    assert [name.partition("/")[0] for name in sample.files] == ["cat"] * 3 + ["dog"] * 3
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["shots"], report["ways"], report["num_images"]) == (3, 2, 6)
    ((images, labels),) = seen
    assert len(images) == 6
    assert labels is None if method == "l1" else labels.tolist() == sample.labels


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (
            ("--shots", 3, "--ways", 3),
            "--ways must not exceed the 2 classes that have 3 images or more, got 3",
        ),
        (("--images", 3, "--ways", 2), "--ways must go with --shots, got 2 with --images 3."),
        (("--ways", 2), "Give either --shots or --images, got none."),
    ],
)
def test_ways_that_cannot_be_are_refused(fsc, pets, tmp_path: Path, flags, told: str) -> None:
    given = ("compress", *pets, "--method", "l1", "--no-evaluate", *flags)
    assert sentence(fsc(*given, "--output", tmp_path / "out")) == told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "verb", [("analyse", "--method", "cd-nc"), ("grid", "--objective", "convex", "--intervals", 1)]
)
def test_analyse_and_grid_draw_classes_too(fsc, small_on_digits, tmp_path: Path, verb) -> None:
    draw = ("--shots", 1, "--ways", 3)
    result = fsc(*verb, *small_on_digits, *draw, *TRIED, "--json", tmp_path / "x.json")
    assert result.exit_code == 0, result.output
    assert "1 image of each of 3 classes" in result.stdout or verb[0] == "grid"
    found = json.loads((tmp_path / "x.json").read_text())
    assert (found["shots"], found["ways"], found["images"]) == (1, 3, None)


@pytest.mark.parametrize("method", ["mir-before", "kd"])
def test_files_are_cropped(fsc, pets, tmp_path: Path, monkeypatch, method: str) -> None:
    seen = []
    real = run.compress
    monkeypatch.setattr(run, "compress", lambda *a, **k: seen.append(a[1]) or real(*a, **k))
    given = ("compress", *pets, "--method", method, "--no-evaluate", "--images", 5)
    written = {}
    for views in ("original-crops", "crops"):
        out = tmp_path / views
        result = fsc(*given, "--views", views, "--mir-steps", 3, "--output", out)
        assert result.exit_code == 0, result.output
        written[views] = (out / "model.safetensors").read_bytes()
        report = json.loads((out / "report.json").read_text())
        assert report["hyper_parameters"]["views"] == views
    files, images = seen
    sample = sampling.FewShotSample.load(tmp_path / "crops" / "samples.json")
    assert [f"{file.parent.name}/{file.name}" for file in files.files] == sample.files
    assert torch.equal(files.decoded(), images)
    assert written["original-crops"] != written["crops"]


def test_a_run_on_files_is_taken_up_as_such_only(fsc, pets, tmp_path: Path, monkeypatch) -> None:
    def stopping(*given: object) -> None:
        real(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(schedule, "_STEPS_BETWEEN_LOOKS", 2)
    real = TrainingState.keep
    given = ("compress", *pets, "--method", "mir-before", "--no-evaluate", "--images", 5)
    given = (*given, "--mir-steps", 6, "--output", tmp_path / "out")
    crops = ("--views", "original-crops")
    with monkeypatch.context() as patched:
        patched.setattr(TrainingState, "keep", stopping)
        assert fsc(*given, *crops).exit_code != 0
    refused = sentence(fsc(*given, "--resume"))
    told = "--resume must go on with the same run, got --views mirrored instead of original-crops"
    assert told in refused and "give --views original-crops" in refused
    assert fsc(*given, *crops, "--resume").exit_code == 0


def test_compare_says_that_files_are_cropped(fsc, pets, tmp_path: Path) -> None:
    root = Path(str(pets[3]).removeprefix("folder:"))
    shutil.copytree(root / "train", root / "val")
    given = ("compare", *pets, "--images", 4, "--seeds", 1, "--mir-steps", 2)
    methods = ("--method", "l1", "--method", "mir-before")
    result = fsc(*given, *methods, "--views", "original-crops")
    assert result.exit_code == 0, result.output
    assert "1 draw, trained on crops of the files" in " ".join(result.stdout.split())


@pytest.mark.parametrize("verb", ["compress", "compare"])
def test_crops_of_files_without_files_are_refused(
    fsc, small_on_digits, pets, tmp_path, verb
) -> None:
    where = ("--output", tmp_path / "out") if verb == "compress" else ()
    typed = (*where, "--method", "mir-before", "--views", "original-crops", "--shots", 1)
    assert sentence(fsc(verb, *small_on_digits, *typed)) == (
        "--views original-crops must go with --data folder:PATH, whose files are cropped, got "
        "digits"
    )
    assert sentence(fsc(verb, *pets, *typed, "--augment", "mirror")) == (
        "--augment must be left out with --views original-crops: images that are added have no "
        "files, got mirror"
    )
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_gone_is_named(fsc, pets, tmp_path: Path, monkeypatch) -> None:
    lost: list[Path] = []

    def losing(method: object, task: Task) -> object:
        lost.append(task.originals.files[1])
        lost[0].unlink()
        return views_of(method, task)

    monkeypatch.setattr(mir, "views_of", losing)
    given = ("compress", *pets, "--method", "mir-before", "--no-evaluate", "--images", 4)
    result = fsc(*given, "--views", "original-crops", "--output", tmp_path / "out")
    assert sentence(result) == f"image {lost[0]} cannot be read: No such file or directory"
