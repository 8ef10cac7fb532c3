"""Iterative pruning: which cut a round keeps, what it is scored on, and when it ends."""

import json
import warnings

import pytest
import torch
from on_digits import digits, trained_vgg
from torch import Tensor, nn

import fsc
from fsc.networks import cost
from fsc.training.evaluate import accuracy

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:student is farther"),
]
OPTIONS = {"ratios": (0.1, 0.4), "method": fsc.FSKD(solve_on=0)}


def _given(count: int = 60) -> tuple[nn.Module, Tensor]:
    return trained_vgg(1, 1, 2), digits("train")[0][:count]


def _run(**options: object) -> fsc.IterativeResult:
    return fsc.prune_iteratively(*_given(), **(OPTIONS | options))  # type: ignore[arg-type]


def _kept(result: fsc.IterativeResult) -> list[fsc.Candidate]:
    return [candidate for candidate in result.candidates if candidate.is_kept]


def test_the_highest_score_goes_on_and_the_smallest_of_equals() -> None:
    result = _run(rounds=3)
    assert result.scored_by == "agreement" and result.teacher_score == 100
    assert [(each.round, each.ratio) for each in result.candidates] == [
        (number, ratio) for number in (1, 2, 3) for ratio in (0.1, 0.4)
    ]
    for number, kept in enumerate(_kept(result), 1):
        scores = [each for each in result.candidates if each.round == number]
        assert kept.round == number
        assert kept.score == max(each.score for each in scores)
        assert kept.flops == min(each.flops for each in scores if each.score == kept.score)
    assert cost.parameters(result.student) == _kept(result)[-1].parameters
    assert not result.student.training
    json.dumps(result.to_dict())


def test_with_a_lowest_score_the_smallest_good_one_goes_on_until_none_is_good() -> None:
    result = _run(rounds=20, lowest_score=90)
    for number, kept in enumerate(_kept(result), 1):
        good = [each for each in result.candidates if each.round == number and each.score >= 90]
        assert kept.flops == min(each.flops for each in good)
    last = result.candidates[-1].round
    assert last < 20 and _kept(result)[-1].round == last - 1
    assert all(each.score < 90 for each in result.candidates if each.round == last)


def test_it_ends_once_the_share_is_reached_and_says_where_it_is_not() -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the .* rounds were over|round . gave")
        kept = _kept(_run(rounds=9, flops=0.5))
    shares = [each.flops / cost.flops(*_given(1)) for each in kept]
    assert shares[-1] <= 0.5 and all(share > 0.5 for share in shares[:-1])
    with pytest.warns(fsc.CompressionWarning, match=r"^the 1 rounds were over at 0\.\d+ of the"):
        _run(rounds=1, flops=0.05)
    with pytest.warns(fsc.CompressionWarning, match=r"^round \d gave nothing good enough at 0\."):
        _run(rounds=9, flops=0.05, lowest_score=80)


def test_every_round_begins_with_what_the_one_before_made() -> None:
    teacher, images = _given()
    result = _run(ratios=[0.3], rounds=2, score_images=images[:5])
    first = fsc.compress(teacher, images, pruning_ratio=0.3, method=OPTIONS["method"]).student
    second = fsc.compress(first, images, pruning_ratio=0.3, method=OPTIONS["method"]).student
    for name, value in second.state_dict().items():
        assert torch.equal(value, result.student.state_dict()[name]), name


def test_scores_are_those_of_images_that_no_method_sees(monkeypatch) -> None:
    seen: list[Tensor] = []
    given = fsc.iterative_pruning.compress

    def watched(teacher: nn.Module, images: Tensor, **options: object) -> fsc.Result:
        seen.append(images)
        return given(teacher, images, **options)

    monkeypatch.setattr(fsc.iterative_pruning, "compress", watched)
    teacher, images = _given()
    labels, (test_images, test_labels) = digits("train")[1][:60], digits("test")
    held_out = _run(rounds=1, labels=labels)
    assert held_out.scored_by == "labels"
    assert {len(each) for each in seen} == {48}
    rest = [each for each in images if not any(torch.equal(each, other) for other in seen[0])]
    assert len(rest) == 12
    elsewhere = _run(rounds=1, score_images=test_images, score_labels=test_labels)
    assert len(seen[-1]) == 60 and elsewhere.scored_by == "labels"
    assert elsewhere.teacher_score == accuracy(teacher, test_images, test_labels)
    assert _kept(elsewhere)[0].score == accuracy(elsewhere.student, test_images, test_labels)
    agreement = _run(rounds=1, score_images=test_images)
    wanted = teacher(test_images).argmax(1)
    assert _kept(agreement)[0].score == accuracy(agreement.student, test_images, wanted)


def test_labels_go_to_methods_that_learn_them() -> None:
    labels = digits("train")[1][:60]
    method = fsc.BackProp(steps=4, batch_size=8)
    result = _run(rounds=1, ratios=[0.3], labels=labels, method=method)
    assert len(_kept(result)) == 1
    with pytest.raises(ValueError, match="labels must be given for BackProp"):
        _run(rounds=1, ratios=[0.3], method=method)


def test_the_same_seed_gives_the_same_bits_and_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    one = _run(rounds=2, seed=3, progress=lambda *event: told.append(event))
    other = _run(rounds=2, seed=3)
    for name, value in one.student.state_dict().items():
        assert torch.equal(value, other.student.state_dict()[name]), name
    assert [each.score for each in one.candidates] == [each.score for each in other.candidates]
    places = {what.split(":")[0] for what, _, _ in told}
    assert places == {f"round {a} of 2, cut {b} of 2" for a in (1, 2) for b in (1, 2)}


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"ratios": []}, ValueError, "ratios must not be empty"),
        ({"ratios": 0.3}, TypeError, r"ratios must be several shares, such as .* got 0\.3"),
        ({"ratios": [0.2, 1.0]}, ValueError, r"each of ratios: .* below 1, got 1\.0"),
        ({"ratios": [0.001]}, ValueError, r"ratios must remove a channel .* got \[0\.001\]"),
        ({"rounds": 0}, ValueError, "rounds must be at least 1, got 0"),
        ({"rounds": 1.5}, TypeError, r"rounds must be an integer, got 1\.5"),
        ({"flops": 0}, ValueError, "flops must be above 0 and at most 1, got 0"),
        ({"lowest_score": 101}, ValueError, "lowest_score must be above 0 and at most 100"),
        ({"lowest_score": "9"}, TypeError, "lowest_score must be a number, got '9'"),
        ({"score_labels": torch.zeros(3)}, ValueError, "score_labels must go with score_images"),
        (
            {"score_images": torch.zeros(2, 3, 8, 8)},
            ValueError,
            "score_images: images must have the 1 input channels",
        ),
        (
            {"score_images": torch.zeros(2, 1, 8, 8), "score_labels": torch.tensor([1, 12])},
            ValueError,
            r"score_labels: labels must be in \[0, 10\), got 1 to 12",
        ),
        (
            {"score_images": digits("test")[0][:20], "score_labels": torch.full((20,), 3),
             "lowest_score": 90},
            ValueError,
            r"lowest_score must be at most the teacher's own, \d+, got 90",
        ),
        (
            {"ratios": [0.95], "lowest_score": 100},
            ValueError,
            r"lowest_score must be reached by a ratio of the first round, got 100 where the best",
        ),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:scheme removes")
def test_what_does_not_fit_is_refused(
    options: dict[str, object], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        _run(**options)


def test_one_image_alone_cannot_be_held_out() -> None:
    teacher, images = _given(1)
    with pytest.raises(ValueError, match="images must be at least 2, of which one is held out"):
        fsc.prune_iteratively(teacher, images)
    assert fsc.prune_iteratively(teacher, images, rounds=1, score_images=images).candidates
