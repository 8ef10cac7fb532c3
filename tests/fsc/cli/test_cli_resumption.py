"""Another run than the interrupted one: refused before a word, with what differs and a way out."""

import errno
import os
import shutil
import subprocess
import sys

import pytest
import torch

from fsc import models
from fsc.cli import outputs
from fsc.methods import journal, schedule
from fsc.networks import checkpoint


def interrupted(*arguments, **keywords):
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def compress_into(fsc, on_digits):
    def run(folder, *arguments, method="l1"):
        steps = {
            "mir-before": ("--mir-steps", 2),
            "mir-progressive": ("--mir-steps", 20, "--scheme", "sparse-90"),
            "default": ("--mir-steps", 2),
        }.get(method, ())
        return fsc("compress", *on_digits, "--method", method, *steps, "--shots", 2,
                   "--threads", 1, "--test-images", 9, "--output", folder, *arguments)  # fmt: skip

    return run


@pytest.fixture(scope="module")
def unfinished(compress_into, tmp_path_factory):
    """One run of each method, left before it was evaluated; nothing may change them."""
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fsc.cli.evaluation.accuracy_on_test", interrupted)
        for method in ("l1", "mir-before", "mir-progressive", "default"):
            folders[method] = tmp_path_factory.mktemp("unfinished") / method
            assert compress_into(folders[method], method=method).exit_code == 130
    return folders


@pytest.fixture
def compress(compress_into, tmp_path):
    return lambda *arguments, **keywords: compress_into(tmp_path / "out", *arguments, **keywords)


def refusal(result):
    """What is said, which is nothing but the refusal."""
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    beginning = "error: --resume must go on with the same run, got "
    assert line.startswith(beginning) and line.endswith("--overwrite to start anew")
    return line.removeprefix(beginning).removesuffix("--overwrite to start anew")


@pytest.mark.parametrize(
    ("method", "flags", "expected"),
    [
        ("l1", ("--seed", 1), "--seed 1 instead of 0: give --seed 0, or "),
        ("l1", ("--shots", 3), "30 images instead of 20: give the earlier --shots, --ways, "
         "--images or --augment, or "),
        ("l1", ("--augment", "mirror", "--seed", 1), "--seed 1 instead of 0, 40 images instead of "
         "20: give --seed 0 and the earlier --shots, --ways, --images or --augment, or "),
        ("l1", ("--ways", 9), "18 images instead of 20: give the earlier --shots, --ways, --images "
         "or --augment, or "),
        ("l1", ("--ways", 5, "--shots", 4), "other images: give the earlier --data, --size, "
         "--normalize, --shots, --ways, --images or --augment, or "),
        ("l1", ("--method", "kd"), "--method kd instead of l1: give --method l1, or "),
        ("l1", ("--method", "cd-soft"), "--method cd-soft instead of l1: give --method l1, or "),
        ("mir-before", ("--mir-steps", 3), "--mir-steps 3 instead of 2: give --mir-steps 2, or "),
        ("mir-before", ("--views", "crops"), "--views crops instead of mirrored: give --views "
         "mirrored, or "),
        ("mir-progressive", ("--mir-steps", 30), "--mir-steps 30 instead of 20: give --mir-steps "
         "20, or "),
        ("mir-before", ("--precision", "bfloat16"), "--precision bfloat16 instead of float32: give "
         "--precision float32, or "),
        ("default", ("--mir-steps", 3), "--mir-steps 3 instead of 2: give --mir-steps 2, or "),
        ("default", ("--method", "mir-before"), "--method mir-before instead of "
         "default: give --method default, or "),
        ("mir-before", ("--method", "mir-after", "--mir-steps", 3), "--method mir-after instead of "
         "mir-before: give --method mir-before, or "),
        ("l1", ("--scheme", "res-60"), "--scheme res-60 instead of res-50: give --scheme res-50, "
         "or "),
        ("l1", ("--threads", 2), "--threads 2 instead of 1: give --threads 1, or "),
        ("l1", ("--keep-batch-norm",), "--keep-batch-norm: give no --keep-batch-norm, or "),
    ],
)  # fmt: skip
def test_another_run_is_refused_in_flags(compress_into, unfinished, method, flags, expected):
    folder = unfinished[method]
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    assert refusal(compress_into(folder, "--resume", *flags, method=method)) == expected
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before


@pytest.fixture(scope="module")
def unfinished_goal(fsc, on_digits, tmp_path_factory):
    """The arguments of a run to a share of the cost, left before it was evaluated."""
    where = tuple(each for each in on_digits if each not in ("--scheme", "res-50"))
    run = ("compress", *where, "--method", "l1", "--shots", 2, "--test-images", 9)
    run = (*run, "--output", tmp_path_factory.mktemp("goal") / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fsc.cli.evaluation.accuracy_on_test", interrupted)
        assert fsc(*run, "--flops", 0.8).exit_code == 130
    return run


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--flops", 0.7), "--flops 0.7 instead of 0.8: give --flops 0.8, or "),
        (("--flops", 0.8, "--round-to", 4), "--round-to 4 instead of 1: give --round-to 1, or "),
        (
            ("--flops", 0.8, "--style", "normal"),
            "--style normal instead of residual: give --style residual, or ",
        ),
        (
            ("--flops", 0.8, "--ignore", "linear"),
            "another --ignore: give the earlier --ignore, or ",
        ),
        (("--scheme", "res-50"), "another scheme: give the earlier --scheme, or "),
    ],
)
def test_another_goal_is_refused_in_flags(fsc, unfinished_goal, flags, expected):
    assert refusal(fsc(*unfinished_goal, "--resume", *flags)) == expected


def test_a_run_that_keeps_batch_norm_does_not_go_on_without(compress, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("fsc.cli.evaluation.accuracy_on_test", interrupted)
        assert compress("--keep-batch-norm").exit_code == 130
    said = "no --keep-batch-norm: give --keep-batch-norm, or "
    assert refusal(compress("--resume")) == said
    assert compress("--resume", "--keep-batch-norm").exit_code == 0


def test_another_teacher_or_torch_is_refused(compress_into, unfinished, tmp_path, monkeypatch):
    folder = unfinished["l1"]
    with monkeypatch.context() as patch:
        versions = journal.versions() | {"torch": "2.99.0"}
        patch.setattr(journal, "versions", lambda: versions)
        assert refusal(compress_into(folder, "--resume")) == (
            f"torch 2.99.0 instead of {torch.__version__}: go back to torch {torch.__version__}, "
            "or give "
        )
    path = tmp_path / "other.safetensors"
    checkpoint.save(models.build("resnet14", in_channels=1), path, name="resnet14")
    assert refusal(compress_into(folder, "--resume", "--checkpoint", path)) == (
        "another teacher: give the earlier --model and --checkpoint, or "
    )


@pytest.mark.parametrize("way_out", [("--seed", 0), ("--seed", 1, "--overwrite")])
def test_both_ways_out_lead_out(compress, unfinished, tmp_path, way_out):
    shutil.copytree(unfinished["l1"], tmp_path / "out")
    assert compress("--resume", *way_out).exit_code == 0
    assert not (tmp_path / "out" / "unfinished").exists()


def test_overwrite_says_what_it_drops(compress, monkeypatch):
    monkeypatch.setattr(schedule, "_STEPS_BETWEEN_LOOKS", 1)
    with monkeypatch.context() as patch:
        patch.setattr("fsc.cli.evaluation.accuracy_on_test", interrupted)
        compress(method="mir-before")
    result = compress("--resume", "--seed", 1, "--overwrite", method="mir-before")
    assert result.exit_code == 0
    assert "Starting anew, as --overwrite says, in spite of 1 step of MiR in" in result.stderr


@pytest.mark.parametrize("method", ["l1", "fskd", "mir-before", "cd-soft"])
def test_what_cannot_be_written_leaves_nothing_behind(compress, tmp_path, monkeypatch, method):
    def full(path, content, **keywords):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    monkeypatch.setattr("pathlib.Path.write_text", full)
    monkeypatch.setattr(schedule, "_STEPS_BETWEEN_LOOKS", 1)
    assert "No space left on device" in compress(method=method).stderr
    assert not (tmp_path / "out").exists()


def test_a_reader_that_is_gone_costs_nothing(on_digits, tmp_path):
    """`fsc compress ... | true`: the table goes nowhere, the folder is complete."""
    reading, writing = os.pipe()
    os.close(reading)
    given = ("compress", *on_digits, "--method", "l1", "--shots", 1, "--output", tmp_path / "out")
    command = [sys.executable, "-m", "fsc", *map(str, given)]
    subprocess.run(command, stdout=writing, stderr=subprocess.DEVNULL, check=False)
    os.close(writing)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(outputs.STUDENT)
    assert "top1" in (tmp_path / "out" / "report.json").read_text()
