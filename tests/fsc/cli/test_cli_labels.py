"""Labels of the drawn images reach the methods that learn them."""

import json
from pathlib import Path

import pytest
import torch

from fsc import method_names
from fsc.cli import run
from fsc.images import augmentation


def _given(small_on_digits, tmp_path: Path, method: str, *more: object) -> tuple[object, ...]:
    where = ("--output", tmp_path / "out", "--shots", 2, "--test-images", 20, "--threads", 1)
    return ("compress", *small_on_digits, *where, "--method", method, *more)


@pytest.mark.parametrize(("augment", "times"), [(None, 1), ("mirror", 2), ("crop:3", 4)])
@pytest.mark.parametrize("method", method_names.WITH_LABELS)
def test_they_are_those_of_the_sample(
    fsc, small_on_digits, tmp_path, method, augment, times, monkeypatch
):
    seen = []
    real = run.compress
    monkeypatch.setattr(
        run, "compress", lambda *a, **k: seen.append((a[1], k["labels"])) or real(*a, **k)
    )
    more = () if augment is None else ("--augment", augment)
    result = fsc(*_given(small_on_digits, tmp_path, method, "--mir-steps", 2, *more))
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    sample = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert report["hyper_parameters"]["steps"] == 2
    ((images, labels),) = seen
    assert labels.tolist() == times * sample["labels"] and len(images) == len(labels)
    assert not any("had no labels" in each for each in report["warnings"])


def test_mixed_images_have_no_labels(fsc, small_on_digits, tmp_path):
    result = fsc(*_given(small_on_digits, tmp_path, "kd", "--augment", "mixup:2"))
    assert result.stderr.splitlines() == [
        "error: --augment must keep labels as they are for --method kd, got mixup:2"
    ]
    assert not (tmp_path / "out").exists()


def test_an_augmented_image_lies_as_far_behind_as_there_are_images():
    images = torch.randn(3, 1, 4, 4)
    assert torch.equal(augmentation.augmented(images, "mirror")[3:], images.flip(3))
