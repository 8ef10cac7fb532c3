"""What methods that train take their minibatches from: fixed views, and crops drawn anew."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from interruption import Interrupting
from networks import chain
from torch import Tensor, nn

import fsc
from fsc.channels.proof import channel_groups
from fsc.images.crops import random_crops
from fsc.methods import schedule
from fsc.methods.base import Task
from fsc.methods.features import TeacherFeatures, head_features
from fsc.methods.fixed_views import FixedViews
from fsc.methods.fresh_views import FreshViews
from fsc.methods.lesson import Learner, Lesson
from fsc.networks.tracing import trace
from fsc.schemes import Scheme

SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})
LABELS = torch.tensor([0, 3, 1, 2, 3, 0, 1, 1, 2, 0])
USUAL = torch.preserve_format
METHODS = {
    "mir": fsc.MiR(steps=20, batch_size=4, views="crops"),
    "hashing": fsc.MiR("after", loss="lsh+mse", steps=20, batch_size=4, views="crops"),
    "head": fsc.MiR(steps=10, batch_size=4, tune_head=True, views="crops"),
    "kd": fsc.KD(steps=20, batch_size=4, learning_rate=0.02, views="crops"),
    "fitnet": fsc.FitNet(steps=20, batch_size=4, learning_rate=0.02, views="crops"),
    "bp": fsc.BackProp(steps=20, batch_size=4, learning_rate=0.02, views="crops"),
}


def _given() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    return chain(), torch.randn(10, 3, 8, 8)


def _learned(name: str) -> Tensor | None:
    return LABELS if name in ("kd", "fitnet", "bp", "head") else None


def _run(name: str, **options: object) -> nn.Module:
    teacher, images = _given()
    options = {"labels": _learned(name), "method": METHODS[name], "scheme": SCHEME} | options
    return fsc.compress(teacher, images, **options).student  # type: ignore[arg-type]


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_what_goes_with_a_crop_is_what_the_teacher_gives_for_that_crop() -> None:
    teacher, images = _given()
    views = FreshViews(images, random_crops, 4).with_targets(teacher, LABELS)
    chosen = torch.tensor([7, 2, 2])
    seen, (scores, labels) = views.draw(chosen, _generator(), USUAL)
    assert torch.equal(seen, random_crops(images[chosen], _generator()))
    assert not torch.equal(seen[1], seen[2])
    with torch.no_grad():
        torch.testing.assert_close(scores, teacher(seen))
        assert not torch.allclose(scores, teacher(images[chosen]), atol=1e-3)
    assert torch.equal(labels, LABELS[chosen]) and not scores.requires_grad


@pytest.mark.parametrize(
    "make",
    [FixedViews.of, lambda images, size: FreshViews(images, random_crops, size)],
    ids=["fixed", "crops"],
)
def test_a_student_that_is_the_teacher_has_no_loss(make) -> None:
    teacher, images = _given()
    teacher.bn1 = nn.Identity()  # in train mode it would be another network
    views = make(images, 4).with_targets(teacher)
    losses = []

    def loss(found, wanted) -> Tensor:
        losses.append(float(F.mse_loss(found[0], wanted[0]).detach()))
        return F.mse_loss(found[0], wanted[0])

    student = copy.deepcopy(teacher)
    lesson = Lesson("learning", views, loss, 6, 0.01, fsc.KD(batch_size=4, weight_decay=0), 0)
    learner = Learner(student, student, lesson)
    for _ in range(6):
        learner.advance()
    assert len(losses) == 6 and max(losses) < 1e-12
    with torch.no_grad():
        student.head.bias += 1
    assert float(learner.advance()) == pytest.approx(1)


def test_the_features_of_a_crop_are_those_of_the_channels_that_stay() -> None:
    teacher, images = _given()
    groups = channel_groups(teacher, images[:1])
    task = Task(teacher, images, Scheme("narrow", {}), groups=groups)
    kept = {"conv4": torch.tensor([0, 2, 5])}
    nodes = head_features(teacher, trace(teacher), "before")
    wanted = TeacherFeatures(task, nodes, kept)
    views = FreshViews(images, random_crops, 4).with_targets(wanted)
    crops, (found,) = views.draw(torch.arange(4), _generator(), USUAL)
    every = TeacherFeatures(task, nodes, {})(crops)[0]
    assert found.shape == (4, 3, 4, 4) and every.shape == (4, 6, 4, 4)
    torch.testing.assert_close(found, every[:, kept["conv4"]])


def test_a_frozen_body_sees_the_crop_that_the_target_is_of() -> None:
    teacher, images = _given()
    body = nn.Sequential(teacher.conv1, nn.Dropout(0.5), nn.Flatten())
    views = FreshViews(images, random_crops, 4).with_targets(teacher, seen_through=body)
    seen, (scores,) = views.draw(torch.arange(5), _generator(4), USUAL)
    crops = random_crops(images[:5], _generator(4))
    with torch.no_grad():
        torch.testing.assert_close(seen, teacher.conv1(crops).flatten(1))
        torch.testing.assert_close(scores, teacher(crops))
    assert views.example.shape == (1, 8 * 8 * 8)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_crops_have_the_layout_that_is_asked_for(layout: torch.memory_format) -> None:
    teacher, images = _given()
    views = FreshViews(images, random_crops, 4).with_targets(teacher)
    seen, _ = views.draw(torch.arange(4), _generator(), layout)
    assert seen.is_contiguous(memory_format=layout)


def test_a_teacher_that_needs_the_usual_order_is_given_it() -> None:
    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).view(len(x), -1)

    teacher, images = Viewing().eval(), torch.randn(4, 3, 8, 8)
    views = FreshViews(images, random_crops, 4).with_targets(teacher)
    seen, (found,) = views.draw(torch.arange(4), _generator(), torch.channels_last)
    torch.testing.assert_close(found, teacher(seen.contiguous()))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.filterwarnings("ignore:student is farther", "ignore:MiR diverged")
def test_every_method_trains_on_crops(name: str) -> None:
    student = _run(name)
    assert student.conv1.out_channels == 4 and not student.training
    assert _same(student, _run(name))
    assert not _same(student, _run(name, seed=1))


def test_the_teachers_features_are_approached() -> None:
    teacher, images = _given()
    method = fsc.MiR(steps=80, batch_size=8, views="crops")
    report = fsc.compress(teacher, images, method=method, scheme=SCHEME).report
    assert report.distance < report.distance_start
    assert report.hyper_parameters["views"] == "crops"


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.filterwarnings("ignore:student is farther", "ignore:MiR diverged")
def test_interrupted_and_resumed_has_the_same_bits(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "_STEPS_BETWEEN_LOOKS", 4)
    progress = Interrupting(9)
    with pytest.raises(KeyboardInterrupt):
        _run(name, journal=tmp_path, progress=progress)
    parts = _run(name, journal=tmp_path, progress=progress)
    assert _same(_run(name), parts)
    with pytest.raises(ValueError, match=r"method\.views crops, not mirrored"):
        mirrored = type(METHODS[name])(**vars(METHODS[name]) | {"views": "mirrored"})
        _run(name, method=mirrored, journal=tmp_path)


@pytest.mark.filterwarnings("ignore:MiR diverged")
def test_a_divergence_starts_again_at_half_the_rate() -> None:
    teacher, images = _given()
    with torch.no_grad():
        teacher.conv4.weight *= 1000
        teacher.head.weight /= 1000
    method = fsc.MiR(steps=30, views="crops", max_retries=2)
    with pytest.warns(fsc.CompressionWarning):
        rates = fsc.compress(teacher, images, method=method, scheme=SCHEME).report.learning_rates
    assert rates[:2] == [0.02, 0.01]


def test_any_student_is_trained_on_crops() -> None:
    teacher, images = _given()
    student = nn.Sequential(nn.Conv2d(3, 6, 5, padding=2, stride=2), nn.ReLU())
    made = fsc.MiR(steps=6, views="crops").mimic(teacher, student, images)
    assert made(images).shape == (10, 4)
    assert torch.equal(made.head.head.weight, teacher.head.weight)


def _signals() -> tuple[nn.Module, object, str]:
    layers = [nn.Conv1d(3, 8, 3), nn.ReLU(), nn.Conv1d(8, 4, 3), nn.AdaptiveAvgPool1d(1)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 2)).eval()
    return network, torch.randn(6, 3, 12), r"got \[6, 3, 12\]"


def _several() -> tuple[nn.Module, object, str]:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 2)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.head((self.conv(x) * self.conv(y)).mean((2, 3)))

    return Two().eval(), (torch.randn(6, 3, 8, 8), torch.randn(6, 3, 8, 8)), "got several inputs"


@pytest.mark.parametrize("make", [_signals, _several])
@pytest.mark.parametrize("method", [fsc.MiR(views="crops"), fsc.KD(weight=1, views="crops")])
def test_what_is_no_image_is_not_cropped(make, method) -> None:
    teacher, inputs, got = make()
    kind = type(method).__name__
    rule = rf"compress: images must be \[N, C, H, W\] for {kind} with views='crops', {got}"
    with pytest.raises(ValueError, match=rule):
        fsc.compress(teacher, inputs, method=method, flops=0.5)


def test_signals_are_not_cropped_for_any_student() -> None:
    teacher, signals, got = _signals()
    with pytest.raises(ValueError, match=rf"mimic: images must be \[N, C, H, W\] .* {got}"):
        fsc.MiR(views="crops").mimic(teacher, copy.deepcopy(teacher), signals)


def test_unknown_views_are_refused() -> None:
    known = "mirrored, crops, hard, original-crops"
    with pytest.raises(ValueError, match=f"views must be one of {known}, got 'flips'"):
        fsc.BackProp(views="flips")  # type: ignore[arg-type]
