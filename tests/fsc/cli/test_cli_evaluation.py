"""Fewer test images, none at all, and the teacher's accuracy kept between runs."""

import json
import os
import tempfile

import pytest
import torch

from fsc.cli import evaluation, inputs, known_accuracy
from fsc.report.interval import wilson


@pytest.fixture
def compress(fsc, on_digits, tmp_path):
    def run(*arguments, output="out"):
        result = fsc("compress", *on_digits, "--method", "l1", "--shots", 1,
                     "--output", tmp_path / output, *arguments)  # fmt: skip
        report = tmp_path / output / "report.json"
        return result, json.loads(report.read_text()) if report.exists() else None

    return run


@pytest.fixture
def evaluated(monkeypatch):
    """The titles of all evaluations, with how many images they saw."""
    seen, real = [], evaluation.accuracy_on_test

    def watched(model, given, reporter, title):
        seen.append((title, len(given.test_images)))
        return real(model, given, reporter, title)

    monkeypatch.setattr(evaluation, "accuracy_on_test", watched)
    return seen


def test_fewer_test_images_are_said_and_give_an_interval(compress, evaluated):
    result, report = compress("--test-images", 60)
    assert result.exit_code == 0, result.output
    assert evaluated == [("student", 60), ("teacher", 60)]
    assert "60 of the 500 test images of digits" in " ".join(result.stderr.split())
    assert "60 of the 500 test images of digits" in result.stdout
    assert report["test_images"] == 60
    assert report["top1_interval"] == pytest.approx(wilson(report["top1"], 60))
    low, high = report["top1_interval"]
    assert f"{low:.1f}–{high:.1f}" in result.stdout and "19 times in 20" in result.stdout


def test_the_size_of_the_teacher_takes_no_file(compress, tmp_path, monkeypatch):
    """One would be left behind by a run that is killed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    result, _ = compress("--test-images", 60)
    assert result.exit_code == 0, result.output


def test_more_test_images_than_there_are_are_refused_before_any_work(compress, evaluated, fsc):
    sentence = "--test-images must not exceed the 500 test images of digits, got 501"
    result, report = compress("--test-images", 501)
    assert result.exit_code == 2 and sentence in result.stderr and report is None
    assert not evaluated


def test_no_evaluation_writes_the_student_and_says_so(compress, evaluated):
    result, report = compress("--no-evaluate")
    assert result.exit_code == 0, result.output
    assert not evaluated and not known_accuracy.folder().exists()
    assert "nothing is evaluated" in result.stderr and "top-1" not in result.stdout
    assert "not evaluated" in result.stdout and "95 %" not in result.stdout
    assert "top1" not in report and "top1_teacher" not in report
    assert report["milliseconds"] > 0 and report["kilobytes"] < report["kilobytes_teacher"]


def test_no_evaluation_and_test_images_exclude_each_other(compress):
    result, _ = compress("--no-evaluate", "--test-images", 10)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        "error: Give either --test-images or --no-evaluate, got --test-images 10 and --no-evaluate."
    )


def test_kilobytes_are_those_of_files_that_fsc_writes(compress, tmp_path, teacher_file):
    _, report = compress("--no-evaluate")
    assert report["kilobytes"] == (tmp_path / "out/model.safetensors").stat().st_size / 1000
    assert report["kilobytes_teacher"] == pytest.approx(teacher_file.stat().st_size / 1000, 0.01)


def test_the_teacher_is_evaluated_once_and_what_is_kept_is_said(compress, evaluated):
    first, report = compress()
    second, again = compress(output="again")
    assert [title for title, _ in evaluated] == ["student", "teacher", "student"]
    assert report["top1_teacher"] == again["top1_teacher"]
    assert "earlier run" not in first.stderr
    said = f"The teacher's {report['top1_teacher']:.2f} % were measured in an earlier run"
    assert said in second.stderr and str(known_accuracy.folder()) in second.stderr


def test_other_images_are_another_accuracy(compress, evaluated):
    compress("--test-images", 60)
    compress("--test-images", 61, output="again")
    assert [title for title, _ in evaluated].count("teacher") == 2


def loaded(images=None):
    torch.manual_seed(0)
    teacher = inputs.build("resnet14", "digits").eval()
    return inputs.with_teacher("resnet14", "digits", None, teacher).evaluated_on(images)


def test_the_identity_tells_weights_images_and_normalization_apart():
    def key(given):
        return json.dumps(known_accuracy.identity(given), sort_keys=True)

    same, other, fewer, shifted = loaded(), loaded(), loaded(100), loaded()
    assert key(same) == key(other)
    with torch.no_grad():
        other.teacher.linear.bias[3] += 1e-6
    shifted.test_images[0, 0, 0, 0] += 1e-6
    assert len({key(given) for given in (same, other, fewer, shifted)}) == 4


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "{}", '{"correct": 400}', '{"identity": {}, "correct": 400}',
        "IDENTITY-0.5", "IDENTITY501", "IDENTITY-1", 'IDENTITY"400"', "IDENTITYtrue",
        "IDENTITYnull",
    ],
)  # fmt: skip
def test_a_damaged_entry_is_as_good_as_none(content):
    key = known_accuracy.identity(loaded())
    known_accuracy.keep(key, 400)
    assert known_accuracy.find(key) == 80.0
    (path,) = known_accuracy.folder().iterdir()
    start = f'{{"identity": {json.dumps(key)}, "correct": '
    path.write_text(content.replace("IDENTITY", start) + ("}" if "IDENTITY" in content else ""))
    assert known_accuracy.find(key) is None
    known_accuracy.keep(key, 401)
    assert known_accuracy.find(key) == 100 * 401 / 500


def test_a_cache_that_cannot_be_written_costs_a_sentence_only(compress, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    result, report = compress()
    assert result.exit_code == 0 and report["top1_teacher"] > 0
    assert "The teacher's accuracy is not kept for later runs: file " in result.stderr


def test_the_folder_follows_the_platform(monkeypatch, tmp_path):
    assert known_accuracy.folder().is_relative_to(os.environ["XDG_CACHE_HOME"])
    monkeypatch.setenv("HOME", str(tmp_path))
    for ignored in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert known_accuracy.folder() == tmp_path / ".cache" / "fsc" / "accuracy"


def test_evaluate_takes_fewer_images_too(fsc, teacher_file):
    arguments = ("evaluate", teacher_file, "--data", "digits", "--test-images")
    result = fsc(*arguments, 40)
    assert result.exit_code == 0, result.output
    assert "40 of the 500 test images of digits" in result.stdout
    assert fsc(*arguments, 501).exit_code == 2


def test_compare_keeps_fewer_images_apart(fsc, on_digits, tmp_path, evaluated):
    arguments = ["compare", *on_digits, "--shots", 1, "--seeds", 1, "--method", "l1",
                 "--json", tmp_path / "runs.json"]  # fmt: skip
    result = fsc(*arguments, "--test-images", 50)
    assert result.exit_code == 0, result.output
    assert "50 of the 500 test images of digits" in result.stdout
    assert "19 times in 20" in result.stdout
    assert json.loads((tmp_path / "runs.json").read_text())["test_images"] == 50
    resumed = fsc(*arguments, "--test-images", 50, "--resume")
    assert resumed.exit_code == 0 and "1 run is there already" in resumed.stderr
    other = fsc(*arguments, "--resume")
    assert other.exit_code == 2
    assert (
        f"--test-images must be that of the runs in {tmp_path / 'runs.json'}, 50, got 500; "
        in other.stderr
    )
    assert evaluated == [("teacher", 50)], "the students are evaluated by their runs"
