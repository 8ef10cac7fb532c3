"""`fsc.sweep`: one student a value and seed, the same as `fsc.compress` makes."""

import pytest
import torch
from networks import chain
from torch import Tensor, nn

import fsc
from fsc import sweeping
from fsc.schemes import Scheme
from fsc.sweeping import settings_of, with_setting
from fsc.training.evaluate import accuracy

SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})
LABELS = torch.tensor([0, 1, 2, 3] * 3)
TEST_LABELS = torch.tensor([3, 1, 0, 2, 2, 1])


def _given() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(3)
    return chain(), torch.randn(12, 3, 8, 8), torch.randn(6, 3, 8, 8)


def _sweep(**changed: object) -> list[fsc.SweepRun]:
    teacher, images, test = _given()
    given = {"over": "steps", "values": [1, 3], "method": fsc.MiR(batch_size=4), "scheme": SCHEME}
    return fsc.sweep(teacher, images, test, TEST_LABELS, **given | changed)  # type: ignore[arg-type]


def test_every_run_is_that_of_one_compression() -> None:
    runs = _sweep(seeds=[0, 5])
    assert [(run.value, run.seed) for run in runs] == [(1, 0), (3, 0), (1, 5), (3, 5)]
    teacher, images, test = _given()
    student = fsc.compress(
        teacher, images, method=fsc.MiR(steps=3, batch_size=4), scheme=SCHEME, seed=5
    ).student
    assert runs[-1].top1 == accuracy(student, test, TEST_LABELS)
    assert all(run.seconds > 0 and run.learning_rate == 0.02 for run in runs)
    assert set(runs[0].to_dict()) == {"value", "seed", "top1", "seconds", "learning_rate"}


def _images_given(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor | None]]:
    found = []

    def watched(teacher: nn.Module, images: Tensor, **options: object) -> fsc.Result:
        found.append((images, options["labels"]))
        return fsc.compress(teacher, images, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(sweeping, "compress", watched)
    return found


@pytest.mark.parametrize("over", ["shots", "images"])
@pytest.mark.filterwarnings("ignore:student is farther")
def test_the_images_of_a_smaller_number_are_part_of_those_of_a_larger(
    monkeypatch: pytest.MonkeyPatch, over: str
) -> None:
    found = _images_given(monkeypatch)
    _sweep(over=over, values=[1, 3], method=fsc.KD(steps=1), labels=LABELS, seeds=[0, 1])
    for (few, _), (many, own) in (found[:2], found[2:]):
        assert len(many) == (12 if over == "shots" else 3)
        assert all(any(torch.equal(one, other) for other in many) for one in few)
        images = _given()[1]
        for image, label in zip(many, own, strict=True):
            (place,) = [n for n, other in enumerate(images) if torch.equal(image, other)]
            assert LABELS[place] == label
    assert not torch.equal(found[1][0], found[3][0])


def test_labels_that_only_draw_are_not_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _images_given(monkeypatch)
    runs = _sweep(over="shots", values=[1], method="l1", labels=LABELS)
    assert found[0][1] is None and runs[0].learning_rate is None


def test_a_rate_that_diverged_is_told() -> None:
    with pytest.warns(fsc.CompressionWarning, match="diverged"):
        (run,) = _sweep(over="learning_rate", values=[1e4], method=fsc.MiR(steps=3, max_retries=40))
    assert run.value == 1e4 and run.learning_rate < 1e4


def test_hyper_parameters_that_are_numbers() -> None:
    assert settings_of(fsc.Grail()) == ["ridge"]
    assert {"steps", "learning_rate", "batch_size"} <= set(settings_of(fsc.MiR()))
    assert "tune_head" not in settings_of(fsc.MiR())
    assert with_setting(fsc.Grail(), "ridge", 0.5) == fsc.Grail(ridge=0.5)


@pytest.mark.parametrize(
    ("changed", "kind", "sentence"),
    [
        ({"method": "cd-nc"}, ValueError,
         r"over must be one of .*shots, images for CrossDistillation, got 'steps'"),
        ({"method": 3}, TypeError, "method must be one of fsc.methods, .* got 3"),
        ({"seeds": 3}, TypeError, r"seeds must be several integers, such as range\(3\), got 3"),
        ({"over": "speed"}, ValueError, r"over must be one of steps, .* for MiR, got 'speed'"),
        ({"values": []}, ValueError, "values must not be empty"),
        ({"values": ["x"]}, TypeError, "values must be numbers, got 'x'"),
        ({"values": [1, float("nan")]}, ValueError, "values must be finite, got nan"),
        ({"values": [1.5]}, ValueError, "values must be whole numbers for steps, got 1.5"),
        ({"values": [1, 0]}, ValueError, "steps must be at least 1, got 0"),
        ({"over": "images", "values": [1, 13]}, ValueError,
         "values must be whole numbers from 1 to the 12 images there are for images, got 13"),
        ({"over": "shots", "values": [4], "labels": LABELS}, ValueError,
         "from 1 to the 3 images of the smallest class for shots, got 4"),
        ({"over": "shots"}, ValueError, "labels must be given to sweep over shots, got none"),
        ({"over": "shots", "labels": LABELS[:3]}, ValueError, r"labels must be \[12\]"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, object], kind: type, sentence: str
) -> None:
    monkeypatch.setattr(sweeping, "compress", lambda *arguments, **options: pytest.fail("ran"))
    with pytest.raises(kind, match=sentence):
        _sweep(**changed)


def test_test_images_without_labels_are_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweeping, "compress", lambda *arguments, **options: pytest.fail("ran"))
    teacher, images, test = _given()
    with pytest.raises(ValueError, match=r"test_labels must be \[N\], .* got 5 for 6"):
        fsc.sweep(teacher, images, test, TEST_LABELS[:5], over="images", values=[1])
