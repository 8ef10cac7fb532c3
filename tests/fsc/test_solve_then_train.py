"""The default: layers solved on augmented images, then trained together."""

import dataclasses

import pytest
import torch
from networks import chain
from torch import Tensor, nn

import fsc
from fsc import method_names, schemes
from fsc.images.augmentation import filled_up
from fsc.methods import Task
from fsc.methods.fresh_views import FreshViews
from fsc.methods.solve_then_train import SolveThenTrain, solving, training
from fsc.methods.soundness import Yardstick
from fsc.methods.views import views_of
from fsc.schemes import Scheme

SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})


def short(steps: int = 30, **settings: object) -> SolveThenTrain:
    """The default with little work: few images of each kind and few steps."""
    train = dataclasses.replace(training(steps), warm_up=2, **settings)
    return SolveThenTrain(fsc.CrossDistillation(after_addition=True, solve_on=40), train)


def given() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    return chain(), torch.randn(12, 3, 8, 8)


def test_layers_are_solved_and_then_come_closer_together() -> None:
    teacher, images = given()
    solved = fsc.compress(
        teacher, images, method=dataclasses.replace(short(), train=None), scheme=SCHEME
    )
    trained = fsc.compress(teacher, images, method=short(), scheme=SCHEME)
    others = filled_up(images, 200, seed=9)[24:]
    with torch.no_grad():
        gaps = [
            (each.student(others) - teacher(others)).square().mean() for each in (trained, solved)
        ]
    assert gaps[0] < gaps[1]
    assert len(trained.report.layers) == len(solved.report.layers) > 0
    assert trained.report.learning_rates == [0.02] and not solved.report.learning_rates
    # Of a network of random weights, which tells few images from others.
    assert all("no better than a constant" in each for each in trained.report.warnings)


def test_the_head_stays_the_teachers_where_it_lost_nothing() -> None:
    teacher, images = given()
    method = SolveThenTrain(fsc.CrossDistillation(solve_on=20), short().train)
    scheme = Scheme("first", {"conv1": 4})
    student = fsc.compress(teacher, images, method=method, scheme=scheme).student
    assert torch.equal(student.head.weight, teacher.head.weight)


def test_the_seed_decides_the_bits() -> None:
    teacher, images = given()
    first, again, other = (
        fsc.compress(teacher, images, method=short(5), scheme=SCHEME, seed=seed).student
        for seed in (0, 0, 1)
    )
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert not torch.equal(first.conv2.weight, other.conv2.weight)


def test_an_interrupted_training_goes_on_with_the_same_bits(tmp_path) -> None:
    teacher, images = given()
    whole = fsc.compress(teacher, images, method=short(120), scheme=SCHEME).student

    def stop(what: str, done: int, total: int) -> None:
        if what == "mimicking features, step" and done == 70:
            raise KeyboardInterrupt

    arguments = {"method": short(120), "scheme": SCHEME, "journal": tmp_path / "journal"}
    with pytest.raises(KeyboardInterrupt):
        fsc.compress(teacher, images, progress=stop, **arguments)
    seen: list[tuple[str, int]] = []
    resumed = fsc.compress(
        teacher, images, progress=lambda what, done, total: seen.append((what, done)), **arguments
    ).student
    steps = [done for what, done in seen if what == "mimicking features, step"]
    assert steps[0] > 50
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize(
    ("rate", "sentence"),
    [
        (
            30.0,
            "layers are as they were solved: training led away from the teacher, on new images ",
        ),
        (1e30, "layers are as they were solved: learning_rate must be small enough"),
    ],
)
def test_a_training_that_leads_away_is_undone_and_said(rate: float, sentence: str) -> None:
    teacher, images = given()
    method = short(40, learning_rate=rate, max_retries=0, clip_norm=None)
    solved = fsc.compress(
        teacher, images, method=dataclasses.replace(method, train=None), scheme=SCHEME
    )
    with pytest.warns(fsc.CompressionWarning, match=sentence):
        result = fsc.compress(teacher, images, method=method, scheme=SCHEME)
    assert result.report.distance == solved.report.distance


def test_the_teacher_runs_once_on_the_images_that_students_are_judged_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[tuple[int, ...]] = []
    init = Yardstick.__init__

    def watched(yardstick: Yardstick, network: nn.Module, images: Tensor, batch: int) -> None:
        made.append(tuple(images.shape))
        init(yardstick, network, images, batch)

    monkeypatch.setattr(Yardstick, "__init__", watched)
    teacher, images = given()
    fsc.compress(teacher, images, method=short(2), scheme=SCHEME)
    assert made == [(12, 3, 8, 8), (36, 3, 8, 8)]  # the given ones, then hard ones


def test_weights_and_bits_are_solved_alone() -> None:
    teacher, images = given()
    sparse = schemes.sparse(teacher, 0.5)
    result = fsc.compress(teacher, images, method=short(), scheme=sparse)
    assert result.report.nonzero < result.report.parameters
    assert not result.report.learning_rates


def test_blocks_are_dropped_and_trained() -> None:
    teacher = fsc.models.build("resnet14").eval()
    images = torch.randn(6, 3, 16, 16)
    scheme = schemes.DropBlocks(count=1)
    result = fsc.compress(teacher, images, method=short(3), scheme=scheme)
    assert len(result.report.dropped) == 1 and result.report.learning_rates


def test_signals_are_taken_as_they_are() -> None:
    model = nn.Sequential(
        nn.Conv1d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv1d(8, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 3),
    ).eval()  # fmt: skip
    result = fsc.compress(model, torch.randn(10, 2, 16), method=short(), pruning_ratio=0.5)
    assert result.report.learning_rates
    assert result.student(torch.randn(2, 2, 16)).shape == (2, 3)


def test_it_is_what_compress_takes_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[object] = []

    def compress(self: object, task: object) -> None:
        taken.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(SolveThenTrain, "compress", compress)
    teacher, images = given()
    with pytest.raises(KeyboardInterrupt):
        fsc.compress(teacher, images, scheme=SCHEME)
    assert taken == [SolveThenTrain()] == [method_names.named("default")]
    assert method_names.named("seconds") == SolveThenTrain(train=None)
    longer = method_names.named("quarter-hour").train
    assert (
        longer == dataclasses.replace(training(), steps=longer.steps)
        and longer.steps > training().steps
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"train": fsc.KD()}, r"train must be a MiR or None, got KD\("),
        ({"train": fsc.MiR}, r"train must be a MiR or None, got <class '.*'>; MiR\(\) is one"),
        ({"solve": fsc.FSKD()}, r"solve must be a CrossDistillation, got FSKD\("),
    ],
)
def test_other_parts_are_refused_before_any_work(arguments: dict, sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        SolveThenTrain(**arguments)


def test_blocks_cannot_be_dropped_without_training() -> None:
    teacher = fsc.models.build("resnet14").eval()
    with pytest.raises(ValueError, match="keep all blocks for SolveThenTrain"):
        fsc.compress(
            teacher,
            torch.randn(2, 3, 16, 16),
            method="seconds",
            scheme=schemes.DropBlocks(count=1),
        )


def test_where_nothing_was_lost_nothing_is_trained() -> None:
    teacher, images = given()
    report = fsc.compress(teacher, images, method=short(), flops=1.0).report
    assert not report.learning_rates and not report.warnings


def test_views_of_its_training_are_checked_before_layers_are_solved() -> None:
    model = nn.Sequential(nn.Conv1d(2, 8, 3), nn.ReLU(), nn.Conv1d(8, 3, 3)).eval()
    with pytest.raises(ValueError, match="images must be .* with views='crops'"):
        fsc.compress(model, torch.randn(4, 2, 16), method=short(views="crops"), pruning_ratio=0.5)


def test_hard_images_are_made_anew_at_every_step() -> None:
    teacher, images = given()
    fresh = views_of(training(), Task(teacher, images, SCHEME))
    assert isinstance(fresh, FreshViews)
    draws = [
        fresh.draw(torch.arange(12), torch.Generator().manual_seed(n), torch.contiguous_format)
        for n in (0, 0, 1)
    ]
    assert torch.equal(draws[0][0], draws[1][0]) and not torch.equal(draws[0][0], draws[2][0])


def test_a_minibatch_of_hard_images_is_whole_however_few_are_given() -> None:
    teacher, images = given()
    fresh = views_of(training(), Task(teacher, images[:1], SCHEME))
    assert fresh.count >= training().batch_size == 25
    chosen, generator = torch.arange(25), torch.Generator().manual_seed(0)
    drawn, _ = fresh.draw(chosen, generator, torch.contiguous_format)
    assert len(drawn.flatten(1).unique(dim=0)) == 25


def test_large_images_are_not_filled_up_beyond_what_fits() -> None:
    method = solving()
    assert method.walks_on(50, 3 * 32**2) == 400 and method.walks_on(500, 3 * 32**2) == 500
    assert method.walks_on(10, 3 * 224**2) == 111 and method.walks_on(200, 3 * 224**2) == 200
