import json

import numpy as np
import pytest
import torch

from fsc.cli import inputs, run as cli_run
from fsc.images import data
from fsc.methods import schedule


def test_a_doubt_is_one_line_and_stands_in_the_report(fsc, on_digits, tmp_path, monkeypatch):
    real = data.to_tensor
    monkeypatch.setattr(data, "to_tensor", lambda *arguments: 255 * real(*arguments))
    monkeypatch.setattr(inputs, "test_split", lambda *_: small_test_split())
    result = fsc("compress", *on_digits, "--method", "l1", "--shots", 1, "--output", tmp_path)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stderr.splitlines() if "warning" in line.lower()]
    assert len(lines) == 1 and lines[0].startswith("warning: images seem to be on another scale")
    assert json.loads((tmp_path / "report.json").read_text())["warnings"] == [
        lines[0].removeprefix("warning: ")
    ]


def small_test_split():
    split = data.load("digits", "test")
    images = data.to_tensor(split.images[:20], (0.305,), (0.376,))
    return images, torch.from_numpy(np.asarray(split.labels[:20]))


def test_the_right_images_raise_no_doubt(fsc, on_digits, tmp_path):
    for method in ("l1", "cd-soft"):
        result = fsc("compress", *on_digits, "--method", method, "--shots", 1,
                     "--output", tmp_path / method)  # fmt: skip
        assert result.exit_code == 0 and "warning:" not in result.stderr, result.stderr


def test_an_interrupted_mir_goes_on_with_the_same_bits(fsc, on_digits, tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "_STEPS_BETWEEN_LOOKS", 2)
    arguments = ["compress", *on_digits, "--mir-steps", 7, "--method", "mir-before",
                 "--shots", 1, "--output"]  # fmt: skip
    assert fsc(*arguments, tmp_path / "whole").exit_code == 0
    real, stages = cli_run.compress, []

    def interrupted(*positional, progress, **keywords):
        def stop(what, done, total):
            stages.append(done)
            if done == 5:
                raise KeyboardInterrupt

        return real(*positional, progress=stop, **keywords)

    monkeypatch.setattr(cli_run, "compress", interrupted)
    result = fsc(*arguments, tmp_path / "parts")
    journal = tmp_path / "parts" / "unfinished"
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == (
        f"interrupted: 4 steps of MiR are in {journal}; go on with --resume"
    )
    monkeypatch.setattr(cli_run, "compress", real)
    result = fsc(*arguments, tmp_path / "parts", "--resume")
    assert result.exit_code == 0 and not journal.exists()
    assert "Going on after 4 steps of MiR" in result.stderr
    whole, parts = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts")
    )
    assert whole == parts


@pytest.mark.parametrize("content", [b"", b"no tensors"])
def test_a_damaged_state_of_mir_starts_anew(fsc, on_digits, tmp_path, content):
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "training.safetensors").write_bytes(content)
    result = fsc("compress", *on_digits, "--method", "mir-before", "--mir-steps", 2,
                 "--shots", 1, "--output", tmp_path, "--resume")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "and the training starts from the" in result.stderr
