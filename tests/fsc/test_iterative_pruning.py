"""Iterative pruning: which cut a round keeps, what it is scored on, and when it ends."""

import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from on_digits import digits, trained_vgg
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.data import DataLoader, TensorDataset

import fsc
from fsc.methods.soundness import Yardstick
from fsc.models.preactivation_resnet import preactivation_resnet
from fsc.networks import cost
from fsc.schemes import Scheme
from fsc.training.evaluate import accuracy

pytestmark = pytest.mark.usefixtures("one_thread")
METHOD = {"method": fsc.FSKD(solve_on=0)}
OPTIONS = {"pruning_ratios": (0.1, 0.4)} | METHOD


def _given(count: int = 60) -> tuple[nn.Module, Tensor]:
    return trained_vgg(1, 1, 2), digits("train")[0][:count]


def _run(**options: object) -> fsc.IterativeResult:
    return fsc.prune_iteratively(*_given(), **(OPTIONS | options))  # type: ignore[arg-type]


def _kept(result: fsc.IterativeResult) -> list[fsc.Candidate]:
    return [candidate for candidate in result.candidates if candidate.is_kept]


def test_the_highest_score_goes_on_and_the_smallest_of_equals() -> None:
    result = _run(rounds=3)
    assert result.scored_by == "agreement" and result.teacher_score == 100
    assert [(each.round, each.pruning_ratio) for each in result.candidates] == [
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


def _group_norms() -> nn.Module:
    """What normalises over all channels at once leaves the masked ones out."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3), nn.GroupNorm(1, 8), nn.ReLU(), nn.Conv2d(8, 10, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 10)),
    ).eval()


@pytest.mark.parametrize("make", [lambda: trained_vgg(1, 1, 2), _group_norms])
def test_the_paper_aligns_to_the_network_of_the_round_before(make: Callable[[], nn.Module]) -> None:
    teacher, images = make(), digits("train")[0][:60]
    given = {"pruning_ratios": [0.3], "rounds": 2, "score_images": images[:5]}
    result = fsc.prune_iteratively(teacher, images, align_to="previous", **given, **METHOD)  # type: ignore[arg-type]
    first = fsc.compress(teacher, images, pruning_ratio=0.3, method=OPTIONS["method"]).student
    second = fsc.compress(first, images, pruning_ratio=0.3, method=OPTIONS["method"]).student
    for name, value in second.state_dict().items():
        torch.testing.assert_close(value, result.student.state_dict()[name])


def test_towards_the_teacher_errors_do_not_add_up() -> None:
    teacher, images = _given()
    given = {"pruning_ratios": [0.2], "rounds": 3, "score_images": images[:5]}
    by_turns, drifting = (_run(align_to=each, **given).student for each in ("teacher", "previous"))
    widths = {n: m.out_channels for n, m in by_turns.named_modules() if isinstance(m, nn.Conv2d)}
    at_once = fsc.compress(
        teacher, images, scheme=Scheme("at once", widths), method=OPTIONS["method"]
    ).student
    others = Yardstick(teacher, digits("test")[0], 32)
    gaps = [others.distance(each) for each in (by_turns, at_once, drifting)]
    # Processors differ by the last bits, and a network of three rounds by a tenth: which is nearer.
    assert gaps[0] < (gaps[1] + gaps[2]) / 2


def test_scores_are_those_of_images_that_no_method_sees(monkeypatch) -> None:
    seen: list[Tensor] = []
    given = fsc.FSKD.passes

    def watched(method: fsc.FSKD, teacher: nn.Module, images: Tensor, seed: int) -> object:
        seen.append(images)
        return given(method, teacher, images, seed)

    monkeypatch.setattr(fsc.FSKD, "passes", watched)
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


def test_half_precision_is_scored_in_single_and_no_batch_is_larger_than_asked() -> None:
    teacher, images = copy.deepcopy(_given()[0]).half(), digits("train")[0][:10].half()
    sizes: list[int] = []
    handle = register_module_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
    given = {"pruning_ratios": [0.4], "rounds": 1, "batch_size": 4, "score_images": images}
    try:
        result = fsc.prune_iteratively(teacher, images, **given, **METHOD)  # type: ignore[arg-type]
    finally:
        handle.remove()
    assert next(result.student.parameters()).dtype == torch.float16
    assert result.teacher_score == 100 and max(sizes) == 4


def test_labels_of_a_loader_score_and_layers_are_left_whole() -> None:
    teacher, _ = _given()
    images, labels = (each[:60] for each in digits("train"))
    loader = DataLoader(TensorDataset(images, labels), batch_size=16)
    result = fsc.prune_iteratively(
        teacher, loader, rounds=2, pruning_ratios=[0.3], ignored=["0"], round_to=8, **METHOD
    )
    assert result.scored_by == "labels"
    widths = [m.out_channels for m in result.student.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [16, 16, 32, 32]


@pytest.mark.parametrize("align_to", ["teacher", "previous"])
def test_residual_networks_and_batch_norms_before_their_layer(
    align_to: str, tmp_path: Path
) -> None:
    teacher, images = preactivation_resnet(11).eval(), torch.randn(5, 3, 8, 8)
    given = {"pruning_ratios": [0.5], "rounds": 2, "align_to": align_to}
    result = fsc.prune_iteratively(teacher, images, **given, **METHOD)
    assert len(_kept(result)) == 2
    fsc.save(result.student, tmp_path / "student.safetensors")
    loaded = fsc.load(tmp_path / "student.safetensors", model=preactivation_resnet(11))
    with torch.no_grad():
        assert torch.equal(loaded.eval()(images), result.student(images))


def test_the_same_seed_gives_the_same_bits_and_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    one = _run(rounds=2, seed=3, progress=lambda *event: told.append(event))
    other = _run(rounds=2, seed=3)
    for name, value in one.student.state_dict().items():
        assert torch.equal(value, other.student.state_dict()[name]), name
    assert [each.score for each in one.candidates] == [each.score for each in other.candidates]
    places = {what.split(":")[0] for what, _, _ in told}
    assert places == {f"round {a} of 2, ratio {b}" for a in (1, 2) for b in (0.1, 0.4)}


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"pruning_ratios": []}, ValueError, "pruning_ratios must not be empty"),
        ({"pruning_ratios": 0.3}, TypeError, r"must be several shares, such .* 0\.3"),
        ({"pruning_ratios": [0.2, 1.0]}, ValueError, r"must be above 0 and below 1, got 1\.0"),
        ({"pruning_ratios": [0.001]}, ValueError, r"must remove a channel .* \[0\.001\]"),
        ({"pruning_ratios": [0.2, "x"]}, TypeError, "pruning_ratios must be a number, got 'x'"),
        ({"align_to": "teachers"}, ValueError, "align_to must be teacher or prev.* 'teachers'"),
        ({"method": fsc.L1Norm()}, TypeError, r"method must be a fsc\.FSKD or None, got L1Norm"),
        ({"method": fsc.FSKD}, TypeError, r"or None, got <class 'fsc.*FSKD'>; FSKD\(\) is one"),
        ({"method": fsc.FSKD(sgd=fsc.methods.JointSGD())}, ValueError, "layer by layer"),
        ({"ignored": ["nothing"]}, ValueError, "ignored must"),
        ({"rounds": 0}, ValueError, "rounds must be at least 1, got 0"),
        ({"rounds": 1.5}, TypeError, r"rounds must be an integer, got 1\.5"),
        ({"flops": 0}, ValueError, "flops must be above 0 and below 1, got 0"),
        ({"flops": 1.0}, ValueError, "flops must be above 0 and below 1, got 1.0"),
        ({"lowest_score": 101}, ValueError, "must be in percent, above 1 and at most 100, got 101"),
        ({"lowest_score": 0.9}, ValueError, r"lowest_score must be in percent, .*, got 0\.9"),
        ({"lowest_score": 1}, ValueError, "lowest_score must be in percent, .*, got 1$"),
        ({"lowest_score": 0}, ValueError, "lowest_score must be in percent, .*, got 0$"),
        ({"flops": True}, TypeError, "flops must be a number, got True"),
        ({"lowest_score": "9"}, TypeError, "lowest_score must be a number, got '9'"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"seed": "x"}, TypeError, "seed must be an integer, got 'x'"),
        (
            {"labels": digits("train")[1][:60], "score_images": digits("test")[0]},
            ValueError,
            "labels must be left out beside score_images, whose classes are score_labels, got both",
        ),
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
            {"pruning_ratios": [0.95], "lowest_score": 100},
            ValueError,
            r"lowest_score must be reached by a ratio of the first round, got 100 where the best",
        ),
    ],
)  # fmt: skip
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
