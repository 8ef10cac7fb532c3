"""--compiled: times of what torch.compile makes of teacher and student."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from fsc.cli import gains, timing
from fsc.cli.progress import Reporter
from fsc.networks import latency

TIMES = {False: ((0.75, 30.0), (1.0, 40.0)), True: ((0.5, 20.0), (0.5, 25.0))}


@pytest.fixture
def timed(monkeypatch):
    """Nothing is compiled, what is measured is known."""

    def times(inputs, student, reporter, *, is_compiled):
        return timing.Times(*TIMES[is_compiled], ((0.7, 0.8), (0.7, 0.8)))

    monkeypatch.setattr(timing, "times", times)
    monkeypatch.setattr(timing, "times_when_folded", times)
    monkeypatch.setattr(timing, "check_compiles", lambda inputs, **_: None)


@pytest.fixture
def on_small(fsc, small_on_digits):
    """A command on the small teacher, without a scheme."""

    def run(command, *flags):
        return fsc(command, *small_on_digits[:-2], "--method", "l1", "--shots", 1, *flags)

    return run


def tiny(width=2):
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU()).eval()


@pytest.fixture
def graphs(monkeypatch):
    """How many graphs had been compiled whenever all was forgotten."""
    found, reset = [], torch.compiler.reset

    def counted():
        found.append(counters["stats"]["unique_graphs"])
        counters.clear()
        reset()

    monkeypatch.setattr(torch.compiler, "reset", counted)
    counters.clear()
    return found


def inputs_of(teacher):
    return SimpleNamespace(teacher=teacher, example=torch.randn(1, 1, 6, 6))


@pytest.mark.parametrize("measure", [timing.times, timing.times_when_folded])
def test_compiled_networks_are_timed_and_are_the_same(measure, graphs):
    student, teacher = tiny(width=1), tiny()
    student.train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    found = measure(inputs_of(teacher), student, Reporter(), is_compiled=True)
    assert min(*found.student, *found.teacher) > 0
    assert graphs == [4]  # of two networks, for one image and for a batch
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert type(student) is nn.Sequential and student.training and not teacher.training


class Broken(nn.Module):
    """What torch.compile would leave to Python in part."""

    def forward(self, images):
        torch._dynamo.graph_break()
        return images.relu()


def test_a_network_that_cannot_be_compiled_as_a_whole_is_refused():
    sentence = "^--compiled must have networks that torch.compile can take as a whole, got Unsupp"
    with pytest.raises(ValueError, match=sentence) as refused:
        timing.times(inputs_of(tiny()), Broken(), Reporter(), is_compiled=True)
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match=sentence):
        timing.check_compiles(inputs_of(Broken()))


def test_what_is_tried_before_any_work_is_what_is_timed(monkeypatch):
    tried = []

    def kept(network):
        tried.append(network)
        return latency.compiled(network)

    monkeypatch.setattr(timing, "compiled", kept)
    for when_folded in (False, True):
        timing.check_compiles(inputs_of(tiny()), when_folded=when_folded)
        assert any(isinstance(m, nn.BatchNorm2d) for m in tried[-1].modules()) is not when_folded


def test_a_compiler_that_is_disabled_is_no_compiler(monkeypatch):
    monkeypatch.setattr(timing, "compiled", lambda network: network)
    with pytest.raises(ValueError, match="--compiled must find torch.compile at work, got it dis"):
        timing.check_compiles(inputs_of(tiny()))


def test_without_a_compiler_it_is_refused_before_any_work(on_small, tmp_path, monkeypatch):
    def missing(network):
        def fail(images):
            raise RuntimeError("No working C++ compiler found\nin many words")

        network.forward = fail
        return network

    monkeypatch.setattr(timing, "compiled", missing)
    flags = ("--flops", 0.5, "--compiled")
    result = on_small("compress", *flags, "--output", tmp_path / "out")
    sentence = "got RuntimeError: No working C++ compiler found"
    assert result.exit_code == 2 and sentence in " ".join(result.stderr.split())
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_what_else_was_measured_stays_where_the_student_is_not_compiled(
    on_small, tmp_path, timed, monkeypatch
):
    def times(inputs, student, reporter, *, is_compiled):
        if is_compiled:
            raise ValueError("--compiled must have other networks")
        return timing.Times(*TIMES[False], ((0.7, 0.8), (0.7, 0.8)))

    monkeypatch.setattr(timing, "times", times)
    asked = ("--flops", 0.5, "--no-evaluate", "--compiled", "--output", tmp_path / "out")
    result = on_small("compress", *asked)
    assert result.exit_code == 0, result.output
    assert "--compiled must have other networks" in result.stdout
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["milliseconds"] == 0.75 and "milliseconds_compiled" not in report


def test_without_room_for_a_batch_nothing_is_compiled_and_said(
    on_small, tmp_path, timed, monkeypatch
):
    monkeypatch.setattr(gains, "_free", lambda device: 1000)
    asked = ("--flops", 0.5, "--no-evaluate", "--compiled", "--output", tmp_path / "out")
    result = on_small("compress", *asked)
    assert "are free; nothing is compiled" in " ".join(result.stdout.split())


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
    assert again.exit_code == 2 and "--compiled" in again.stderr
    content = {key: value for key, value in found.items() if key != "compiled"}
    file.write_text(json.dumps(content))  # as files of before are
    again = on_small("compare", *asked, "--latency", "--json", file, "--resume")
    assert again.exit_code == 0, again.output


def test_tradeoff_has_them_too(on_small, tmp_path, timed):
    asked = ("--seeds", 1, "--test-images", 20, "--flops", "0.5")
    files = ("--json", tmp_path / "runs.json", "--output", tmp_path / "figure.svg")
    result = on_small("tradeoff", *asked, "--compiled", *files)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "runs.json").read_text())
    assert found["runs"][0]["milliseconds"] == [0.5, 20]
    assert "both compiled by torch.compile" in " ".join(result.stdout.split())
    assert "compiled (% of the teacher" in (tmp_path / "figure.svg").read_text()
