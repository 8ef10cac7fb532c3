"""--compiled: times of what torch.compile makes of teacher and student."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fsc.cli import timing
from fsc.cli.progress import Reporter

TIMES = {False: ((0.75, 30.0), (1.0, 40.0)), True: ((0.5, 20.0), (0.5, 25.0))}


@pytest.fixture
def timed(monkeypatch):
    """Nothing is compiled, what is measured is known."""

    def times(inputs, student, reporter, *, is_compiled):
        return timing.Times(*TIMES[is_compiled], ((0.7, 0.8), (0.7, 0.8)))

    monkeypatch.setattr(timing, "times", times)
    monkeypatch.setattr(timing, "times_when_folded", times)
    monkeypatch.setattr(timing, "check_compiles", lambda: None)


@pytest.fixture
def on_small(fsc, small_on_digits):
    """A command on the small teacher, without a scheme."""

    def run(command, *flags):
        return fsc(command, *small_on_digits[:-2], "--method", "l1", "--shots", 1, *flags)

    return run


def tiny():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()).eval()


def test_compiled_networks_are_timed_and_are_the_same():
    student, teacher = tiny(), tiny()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    inputs = SimpleNamespace(teacher=teacher, example=torch.randn(1, 1, 6, 6))
    found = timing.times(inputs, student, Reporter(), is_compiled=True)
    assert min(*found.student, *found.teacher) > 0
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert type(student) is nn.Sequential


class Uncompilable(nn.Module):
    """What comes of a network that torch has no code for."""

    def __init__(self, network):
        super().__init__()

    def forward(self, images):
        raise RuntimeError("no code for this\nand pages more")


def test_a_network_that_cannot_be_compiled_is_named_in_one_sentence(monkeypatch):
    monkeypatch.setattr(timing, "compiled", Uncompilable)
    inputs = SimpleNamespace(teacher=tiny(), example=torch.randn(1, 1, 6, 6))
    sentence = "--compiled must have networks that torch.compile can take, got no code for this"
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        timing.times(inputs, tiny(), Reporter(), is_compiled=True)


def test_without_a_compiler_it_is_refused_before_any_work(on_small, tmp_path, monkeypatch):
    def missing(network):
        raise RuntimeError("No working C++ compiler found\nin many words")

    monkeypatch.setattr(timing, "compiled", missing)
    result = on_small("compress", "--flops", 0.5, "--compiled", "--output", tmp_path / "out")
    sentence = "--compiled must find what torch.compile needs, got No working C++ compiler found"
    assert result.exit_code == 2 and sentence in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_compress_has_both_times(on_small, tmp_path, timed):
    page = tmp_path / "page.html"
    asked = ("--flops", 0.5, "--no-evaluate", "--compiled", "--report", page)
    result = on_small("compress", *asked, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    said = (
        "compiled by torch.compile, for one image and for 64: teacher 0.50 and 25 ms, student 0.50 "
        "and 20"
    )
    assert said in " ".join(result.stdout.split())
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["milliseconds"], report["milliseconds_batch"]) == (0.75, 30)
    assert (report["milliseconds_compiled"], report["milliseconds_compiled_teacher"]) == (0.5, 0.5)
    assert report["milliseconds_batch_compiled_teacher"] == 25
    warning = "0.50 ms for one image when compiled where the teacher takes 0.50; what may help"
    assert warning in " ".join(result.stderr.split())
    text = page.read_text()
    assert "time for 64 images at once when compiled" in text and "Nothing is compiled" not in text


def test_comparisons_have_the_compiled_times_instead(on_small, tmp_path, timed):
    asked = ("--flops", 0.5, "--seeds", 1, "--test-images", 20)
    file = tmp_path / "runs.json"
    result = on_small("compare", *asked, "--compiled", "--json", file)
    assert result.exit_code == 0, result.output
    assert "on one thread, compiled by torch.compile" in " ".join(result.stdout.split())
    found = json.loads(file.read_text())
    assert found["compiled"] is True and found["runs"][0]["milliseconds"] == [0.5, 20]
    again = on_small("compare", *asked, "--latency", "--json", file, "--resume")
    assert again.exit_code == 2 and "compiled" in again.stderr


def test_tradeoff_has_them_too(on_small, tmp_path, timed):
    asked = ("--seeds", 1, "--test-images", 20, "--flops", "0.5")
    files = ("--json", tmp_path / "runs.json", "--output", tmp_path / "figure.svg")
    result = on_small("tradeoff", *asked, "--compiled", *files)
    assert result.exit_code == 0, result.output
    assert "both compiled by torch.compile" in " ".join(result.stdout.split())
    assert "compiled (% of the teacher" in (tmp_path / "figure.svg").read_text()
