"""What a page is told beyond its report is shown, or refused in one sentence."""

import numpy as np
import pytest
import torch

import fsc
from fsc import models

IMAGES = torch.randn(6, 3, 16, 16)


@pytest.fixture(scope="module")
def report():
    torch.manual_seed(0)
    teacher = models.build("resnet14").eval()
    return fsc.compress(teacher, IMAGES, method="l1", pruning_ratio=0.4, progress=False).report


@pytest.mark.parametrize(
    ("known", "error", "sentence"),
    [
        ([1], TypeError, r"known must be a dict by the names of report.json, got \[1\]"),
        ("top1", TypeError, "known must be a dict by the names of report.json, got 'top1'"),
        ({"accuracy": 90.0}, ValueError, "known must hold none but model, .*, got 'accuracy'"),
        ({3: 4}, ValueError, "known must hold none but model, .*, got 3"),
        ({"top1": 90.0}, ValueError, "known must hold top1_teacher beside top1, got top1 alone"),
        ({"top5_teacher": 9}, ValueError, "hold top5 beside top5_teacher, got top5_teacher alone"),
        ({"top1": "a", "top1_teacher": 3}, TypeError, "top1 of known must be a number, got 'a'"),
        ({"top1": 500, "top1_teacher": 3}, ValueError, "must be from 0 to 100, got 500"),
        ({"top1": float("nan"), "top1_teacher": 3}, ValueError, "from 0 to 100, got nan"),
        ({"kilobytes": [3], "kilobytes_teacher": 2}, TypeError, r"a number, got \[3\]"),
        (
            {"milliseconds": -1, "milliseconds_teacher": 2},
            ValueError,
            "milliseconds of known must be finite and at least 0, got -1",
        ),
        ({"test_images": "a"}, TypeError, "test_images of known must be an integer, got 'a'"),
        ({"shots": 0}, ValueError, "shots of known must be at least 1, got 0"),
        ({"model": 3}, TypeError, "model of known must be a text, got 3"),
        ({"notes": "Said."}, TypeError, "notes of known must be a list of sentences, got 'Said.'"),
        ({"notes": [3]}, TypeError, r"notes of known must be a list of sentences, got \[3\]"),
    ],
)
def test_what_cannot_be_shown_is_refused(report, known, error, sentence):
    with pytest.raises(error, match=f"^page: .*{sentence}$"):
        fsc.report.page(report, known=known)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"mean": "a"}, TypeError, "mean must be a number for each channel, got 'a'"),
        ({"mean": 0.5}, TypeError, "mean must be a number for each channel, got 0.5"),
        ({"std": ["a"] * 3}, TypeError, "std must be a number for each channel, got"),
        (
            {"std": [0.5, 0.5, 0]},
            ValueError,
            r"std must be finite and above 0, got \[0.5, 0.5",
        ),
        ({"mean": [float("inf")] * 3}, ValueError, "mean must be finite, got"),
        ({"command": 3}, TypeError, "command must be a text, got 3"),
    ],
)
def test_other_arguments_of_another_kind_are_refused(report, arguments, error, sentence):
    given = {"mean": [0.5] * 3, "std": [0.5] * 3} | arguments
    with pytest.raises(error, match=f"^page: {sentence}"):
        fsc.report.page(report, IMAGES, **given)


def test_what_is_none_is_not_known(report):
    unknown = {"top1": None, "top1_teacher": None, "data": None, "shots": None, "notes": None}
    assert fsc.report.page(report, known=unknown) == fsc.report.page(report)


def test_numbers_of_numpy_are_shown_as_those_of_python(report):
    known = {"top1": 50.5, "top1_teacher": 60.25, "shots": 1}
    own = {"top1": np.float32(50.5), "top1_teacher": np.float64(60.25), "shots": np.int64(1)}
    assert fsc.report.page(report, known=own) == fsc.report.page(report, known=known)


def test_means_may_come_in_a_tensor(report):
    row = [0.5, 0.4, 0.3]
    pages = [
        fsc.report.page(report, IMAGES, mean=each, std=each) for each in (row, torch.tensor(row))
    ]
    assert pages[0] == pages[1]
