"""MiR for single weights: what goes when, that it stays away, and that it goes on with its bits."""

from pathlib import Path

import pytest
import torch
from interruption import Interrupting
from networks import chain
from torch import Tensor, nn

import fsc
from fsc import schemes
from fsc.methods import progressive_mir, schedule
from fsc.methods.training_state import in_words
from fsc.schemes import Scheme, SparseScheme
from fsc.schemes.sparse import counts_on_the_way

KEPT = {"conv2": 72, "conv3": 60, "conv4": 100}
SCHEME = SparseScheme("mine", KEPT)
METHOD = fsc.ProgressiveMiR(steps=12, steps_between=6, batch_size=4)


def _given() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    return chain(), torch.randn(10, 3, 8, 8)


def _run(method: fsc.ProgressiveMiR = METHOD, **options: object) -> fsc.Result:
    teacher, images = _given()
    return fsc.compress(teacher, images, **{"method": method, "scheme": SCHEME} | options)  # type: ignore[arg-type]


def _weight(model: nn.Module, name: str) -> Tensor:
    return model.get_submodule(name).get_parameter("weight")


def test_the_defaults_are_those_of_the_paper() -> None:
    method = fsc.ProgressiveMiR()
    assert (method.share, method.steps_between, method.steps) == (0.2, 400, 4000)
    assert (method.learning_rate, method.features, method.batch_size) == (0.02, "before", 64)


def test_twenty_percent_go_at_a_time_until_ninety_are_gone() -> None:
    teacher = chain()
    scheme = schemes.sparse(teacher, 0.9)
    stages = counts_on_the_way(scheme, teacher, 0.2)
    assert [stage["conv2"] for stage in stages] == [576, 432, 288, 144, 72]
    assert stages[-1] == scheme.kept
    assert counts_on_the_way(scheme, teacher, 1.0) == [scheme.kept]


def test_as_many_weights_stay_as_the_scheme_says_and_all_others_are_zero() -> None:
    teacher, _ = _given()
    result = _run()
    for name, count in KEPT.items():
        assert int(_weight(result.student, name).count_nonzero()) == count
    assert torch.equal(result.student.head.weight, teacher.head.weight)
    gone = sum(_weight(teacher, name).numel() - count for name, count in KEPT.items())
    assert result.report.nonzero == result.report.parameters - gone
    assert not torch.equal(result.student.conv1.weight, teacher.conv1.weight)
    assert not result.student.training and not result.student.conv2.weight._backward_hooks


def test_features_come_closer_than_without_training() -> None:
    report = _run(fsc.ProgressiveMiR(steps=60, steps_between=20, batch_size=8)).report
    assert report.distance < 0.7 * report.distance_start
    assert report.learning_rates == [0.02]


def test_a_mask_grows_and_what_is_gone_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros: list[Tensor] = []
    advance = schedule.Learner.advance

    def watched(learner: schedule.Learner) -> Tensor:
        loss = advance(learner)
        zeros.append(_weight(learner.student, "conv2") == 0)
        return loss

    monkeypatch.setattr(schedule.Learner, "advance", watched)
    _run()
    counts = [int(each.sum()) for each in zeros]
    assert counts == [144] * 6 + [288] * 6 + [432] * 6 + [576] * 6 + [648] * 12
    assert all(bool(later[earlier].all()) for earlier, later in zip(zeros, zeros[1:], strict=False))


def test_progress_says_what_is_gone() -> None:
    said: dict[str, int] = {}
    scheme = schemes.sparse(chain(), 0.9)
    _run(scheme=scheme, progress=lambda what, done, total: said.update({what: total}))
    assert said == {
        "preparing images, image": 20,
        "mimicking features, 20 % pruned, step": 6,
        "mimicking features, 40 % pruned, step": 6,
        "mimicking features, 60 % pruned, step": 6,
        "mimicking features, 80 % pruned, step": 6,
        "mimicking features, 90 % pruned, step": 12,
    }


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_weights_are_trained_and_frozen_again(frozen: bool) -> None:
    teacher, images = _given()
    teacher.requires_grad_(not frozen)
    student = fsc.compress(teacher, images, method=METHOD, scheme=SCHEME).student
    assert all(weight.requires_grad != frozen for weight in student.parameters())
    assert int(student.conv2.weight.count_nonzero()) == KEPT["conv2"]


@pytest.mark.parametrize("stop_after", [3, 5, 11, 17, 26, 33])
def test_interrupted_and_resumed_has_the_same_bits(
    tmp_path: Path, stop_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "_STEPS_BETWEEN_LOOKS", 4)
    progress = Interrupting(stop_after)
    whole = _run().student
    with pytest.raises(KeyboardInterrupt):
        _run(journal=tmp_path, progress=progress)
    kept = {3: 0, 5: 4, 11: 10, 17: 16, 26: 22, 33: 32}[stop_after]  # of all parts
    assert in_words(tmp_path) == (f"{kept} steps of ProgressiveMiR" if kept else "")
    parts = _run(journal=tmp_path, progress=progress).student
    assert progress.told < 36 + stop_after or stop_after == 3
    for key, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[key]), key


def test_weights_that_were_zero_already_may_be_among_those_that_stay() -> None:
    teacher, images = _given()
    teacher.conv2.weight.data[:, 1:] = 0  # 90 of 720 are left
    scheme = SparseScheme("mine", {"conv2": 300})
    student = fsc.compress(teacher, images, method=METHOD, scheme=scheme).student
    assert 90 < int(student.conv2.weight.count_nonzero()) <= 300


def test_what_diverges_is_run_again_from_the_teacher() -> None:
    with pytest.warns(fsc.CompressionWarning, match="ProgressiveMiR diverged at a learning rate"):
        result = _run(
            fsc.ProgressiveMiR(
                steps=12, steps_between=6, batch_size=4, learning_rate=100, max_retries=20
            )
        )
    assert result.report.learning_rates[-1] < 100
    assert int(result.student.conv2.weight.count_nonzero()) == KEPT["conv2"]


def test_a_student_no_worse_than_an_untrained_one_has_not_diverged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    run = progressive_mir.trained

    def watched(*arguments: object, **options: object) -> list[float]:
        seen.append(options["start"])
        return run(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(progressive_mir, "trained", watched)
    _run()
    assert int(_weight(seen[0], "conv2").count_nonzero()) == KEPT["conv2"]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"share": 0}, r"share must be in \[0.01, 1\], got 0"),
        ({"share": 1.5}, r"share must be in \[0.01, 1\], got 1.5"),
        ({"share": float("nan")}, r"share must be in \[0.01, 1\], got nan"),
        ({"steps_between": 0}, "steps_between must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"features": "beside"}, "features must be before or after, got 'beside'"),
        ({"loss": "l3"}, "loss must be .* got 'l3'"),
    ],
)
def test_values_out_of_range_are_refused(changed: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        fsc.ProgressiveMiR(**changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ({"scheme": Scheme("half", {"conv1": 4})}, "'half'"),
        ({"scheme": None, "flops": 0.4}, "flops=0.4"),
        ({"scheme": None}, "no scheme"),
    ],
)
def test_other_schemes_are_refused_before_any_work(
    asked: dict[str, object], got: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsc.goal.Goal, "plan", lambda *arguments: pytest.fail("planned"))
    told = rf"scheme must remove single weights for ProgressiveMiR, as sparse-90 does, got {got}$"
    with pytest.raises(ValueError, match=told):
        _run(**asked)


def test_mir_says_who_removes_single_weights() -> None:
    with pytest.raises(ValueError, match="cross distillation and ProgressiveMiR take it"):
        _run(fsc.MiR(steps=1))  # type: ignore[arg-type]
