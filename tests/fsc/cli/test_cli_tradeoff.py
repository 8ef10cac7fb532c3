"""`fsc tradeoff` on a small teacher."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fsc.cli import repeated, timing
from fsc.cli.progress import Reporter
from fsc.cli.run import execute
from fsc.cli.tradeoff import Targets
from fsc.methods.schedule import NeverFinite


@pytest.fixture
def teacher(small_on_digits):
    """Its arguments, without a scheme."""
    return small_on_digits[:-2]


@pytest.fixture
def residual(on_digits):
    """Those of a network with blocks that can be dropped."""
    return [each for each in on_digits if each not in ("--scheme", "res-50")]


@pytest.fixture
def tradeoff(fsc, teacher, tmp_path):
    def run(*arguments, given=teacher):
        return fsc("tradeoff", *given, "--shots", 1, "--test-images", 100,
                   "--json", tmp_path / "runs.json", *arguments)  # fmt: skip

    return run


def read(tmp_path: Path):
    return json.loads((tmp_path / "runs.json").read_text())


def sentence(result):
    assert result.exit_code == 2, result.output
    return result.stderr.splitlines()[-1].removeprefix("error: ")


def test_targets_of_two_kinds_in_one_table_and_figure(tradeoff, residual, tmp_path):
    figure = tmp_path / "figure.png"
    result = tradeoff("--pruning-ratio", "0.5,0.25", "--drop-blocks", "1", "--method", "l1",
                      "--seeds", 2, "--output", figure, given=residual)  # fmt: skip
    assert result.exit_code == 0, result.output
    content = read(tmp_path)
    assert (content["over"], content["scheme"], content["latency"]) == ("targets", None, True)
    targets = ["--pruning-ratio 0.25", "--pruning-ratio 0.5", "--drop-blocks 1"]
    order = [(run["seed"], run["target"]) for run in content["runs"]]
    assert order == [(seed, target) for seed in (0, 1) for target in targets]
    flops = [run["flops"] for run in content["runs"][:2]]
    assert flops[0] > flops[1]
    for run in content["runs"]:
        assert len(run["milliseconds"]) == 2
        assert all(0 < low <= high for low, high in run["shares_of_time"])
    assert figure.read_bytes().startswith(b"\x89PNG")
    for words in (
        *targets,
        "BatchNorm folded in both",
        "ms for 1 image",
        "95 %",
        "of the measurements",
    ):
        assert words in result.stdout
    worst = [
        max(abs(share - run["milliseconds"][i] / run["milliseconds_teacher"][i])
            for run in content["runs"] for share in run["shares_of_time"][i])
        for i in (0, 1)
    ]  # fmt: skip
    said = re.search(
        r"within (\S+) of what stands here for 1 image, and within (\S+) for 64",
        " ".join(result.stdout.split()),
    )
    assert said is not None
    assert [float(each) for each in said.groups()] == pytest.approx(
        [100 * w for w in worst], abs=0.06
    )
    lines = [line for line in result.stdout.splitlines() if str(tmp_path) not in line]
    assert max(map(len, lines)) <= 80


def test_resumes_with_another_target(tradeoff, tmp_path, monkeypatch):
    made = []

    def watched(method, inputs, sample, settings, *arguments):
        made.append(settings.goal.pruning_ratio)
        return execute(method, inputs, sample, settings, *arguments)

    monkeypatch.setattr(repeated, "execute", watched)
    given = ("--method", "l1", "--seeds", 1)
    assert tradeoff("--pruning-ratio", "0.5", *given).exit_code == 0
    assert tradeoff("--pruning-ratio", "0.5,0.25", *given, "--resume").exit_code == 0
    assert made == [0.5, 0.25]
    again = tradeoff("--pruning-ratio", "0.5", *given, "--style", "normal", "--resume")
    assert "definition" in sentence(again)


def test_ruined_students_are_marked(tradeoff, tmp_path):
    result = tradeoff("--pruning-ratio", "0.9,0.05", "--method", "l1", "--seeds", 1)
    assert [run["ruined"] for run in read(tmp_path)["runs"]] == [False, True]
    assert "--pruning-ratio 0.9 †" in result.stdout and "†: ruined in some draw" in result.stdout
    assert "--pruning-ratio 0.05 †" not in result.stdout


def test_methods_without_steps_join_those_with_some(tradeoff, tmp_path):
    ratio, steps = ("--pruning-ratio", "0.25", "--seeds", 1), ("--mir-steps", 2)
    assert tradeoff(*ratio, *steps, "--method", "mir-before").exit_code == 0
    result = tradeoff(*ratio, *steps, "--method", "l1", "--resume")
    assert result.exit_code == 0, result.output
    assert [run["method"] for run in read(tmp_path)["runs"]] == ["mir-before", "l1"]


def test_a_comparison_is_none_of_its_files(tradeoff, fsc, teacher, tmp_path):
    assert tradeoff("--pruning-ratio", "0.5", "--method", "l1", "--seeds", 1).exit_code == 0
    result = fsc("compare", *teacher, "--shots", 1, "--test-images", 100, "--method", "l1",
                 "--json", tmp_path / "runs.json", "--resume")  # fmt: skip
    assert "must go on with runs of fsc compare, got" in sentence(result)
    assert "of fsc tradeoff" in sentence(result)


def test_images_that_choose_make_other_students(fsc, teacher, tmp_path):
    """One evaluation serves all draws only where the student is the same in all of them."""
    for goal, same in ((("--pruning-ratio", 0.5), True), (("--flops", 0.4), False)):
        path = tmp_path / f"{same}.json"
        result = fsc("compare", *teacher, *goal, "--shots", 1, "--seeds", 6, "--method", "l1",
                     "--json", path)  # fmt: skip
        assert result.exit_code == 0, result.output
        runs = json.loads(path.read_text())["runs"]
        assert (len({run["top1"] for run in runs}) == 1) is same


def test_targets_that_are_nearly_equal_are_two():
    targets = Targets((0.3333333, 0.3333334, 1.0), (), (2.0,), (), 1, "residual").each()
    assert [each.words for each in targets] == [
        "--flops 0.3333333", "--flops 0.3333334", "--flops 1", "--drop-blocks 2"
    ]  # fmt: skip


def test_a_training_that_is_never_finite_costs_one_target(tradeoff, tmp_path, monkeypatch):
    def failing(method, inputs, sample, settings, *arguments):
        if settings.goal.pruning_ratio == 0.5:
            raise NeverFinite("no rate was small enough")
        return execute(method, inputs, sample, settings, *arguments)

    monkeypatch.setattr(repeated, "execute", failing)
    result = tradeoff("--pruning-ratio", "0.5,0.25", "--method", "l1", "--seeds", 1)
    assert result.exit_code == 0, result.output
    assert [run["target"] for run in read(tmp_path)["runs"]] == ["--pruning-ratio 0.25"]
    assert "left out: no rate was small enough" in result.output
    result = tradeoff("--pruning-ratio", "0.5", "--method", "l1", "--seeds", 1, "--overwrite")
    assert sentence(result) == "--method must have one whose students stay finite, got none"


@pytest.mark.parametrize("has_statistics", [True, False])
def test_both_are_timed_with_their_norms_folded_or_neither(monkeypatch, capsys, has_statistics):
    timed = []

    def watched(networks, images, repeats=50, *, progress):
        progress("turn", len(images), 64)
        timed.append([sum(isinstance(m, nn.BatchNorm2d) for m in n.modules()) for n in networks])
        return [[1.0, 1.0, 1.0, 2.0, 3.0], [2.0, 2.0, 2.0, 2.0, 2.0]]

    monkeypatch.setattr(timing, "timings", watched)
    student, teacher = (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=tracked))
        for tracked in (has_statistics, True)
    )
    inputs = SimpleNamespace(teacher=teacher, example=torch.randn(1, 3, 8, 8))
    monkeypatch.setattr("fsc.cli.progress.SECONDS_BETWEEN_LINES", 0.0)
    found = timing.times_when_folded(inputs, student, Reporter(), is_compiled=False)
    said = capsys.readouterr().err
    assert "timing one image: turn 1 of 64" in said and "timing 64 images: turn 64 of 64" in said
    assert found.student == (1.0, 1.0) and found.teacher == (2.0, 2.0)
    assert found.shares == ((0.5, 1.0), (0.5, 1.0))
    assert timed == [[0, 0] if has_statistics else [1, 1]] * 2
    assert isinstance(student[1], nn.BatchNorm2d) and isinstance(teacher[1], nn.BatchNorm2d)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "Give --flops, --pruning-ratio or --drop-blocks, or several."),
        (("--flops", "0.5,x"), "--flops must be positive numbers between commas, as in "
         "0.8,0.6,0.5, got 0.5,x"),
        (("--flops", "0.5,1.5"), "--flops must be above 0 and at most 1, got 1.5"),
        (("--pruning-ratio", "1"), "--pruning-ratio must be"),
        (("--drop-blocks", "1.5"), "--drop-blocks must be whole numbers, got 1.5"),
        (("--drop-blocks", "1", "--method", "fskd"), "--drop-blocks must go with --method"),
        (("--drop-blocks", "9"), "--drop-blocks must fit"),
        (("--drop-blocks", "1", "--round-to", 4), "--round-to must go with --flops or "
         "--pruning-ratio, got --round-to 4 with --drop-blocks alone."),
    ],
)  # fmt: skip
def test_what_is_no_target_is_refused(tradeoff, residual, flags, said):
    assert said in sentence(tradeoff(*flags, given=residual))


def test_runs_whose_spread_was_not_kept_are_shown_without(tradeoff, tmp_path):
    given = ("--pruning-ratio", "0.5", "--method", "l1", "--seeds", 1)
    assert tradeoff(*given).exit_code == 0
    content = read(tmp_path)
    del content["runs"][0]["shares_of_time"]
    (tmp_path / "runs.json").write_text(json.dumps(content))
    result = tradeoff(*given, "--resume")
    assert result.exit_code == 0, result.output
    assert "of the measurements" not in result.stdout
