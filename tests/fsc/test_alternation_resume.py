"""Training and aligning by turns, interrupted and resumed: the bits of an uninterrupted run."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fsc
from fsc.methods import JointSGD, schedule

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:the loss had not|student is farther"),
]
STEPS = 10
TRAINING = fsc.BackProp(steps=STEPS, batch_size=5, learning_rate=0.02)
JOINT = fsc.FSKD(solve_on=0, sgd=JointSGD(steps=9, batch_size=5, learning_rate=0.003))


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_STEPS_BETWEEN_LOOKS", 4)


def _network(*widths: int, seed: int) -> nn.Module:
    """Dropout, and one BatchNorm behind another, of which each alignment folds one."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    before = 3
    for width in widths:
        layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
        layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.1)]
        before = width
    layers += [nn.Conv2d(before, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


def _run(
    journal: Path | None,
    stop_at: tuple[int, str, int] | None = None,
    seed: int = 0,
    **fields: Any,
) -> tuple[nn.Module, list[tuple[int, str, int]]]:
    """The student, and what was told: round, what was done, step."""
    told: list[tuple[int, str, int]] = []

    def progress(what: str, done: int, total: int) -> None:
        place, _, what = what.partition(": ")
        told.append((int(place.split()[1]), what, done))
        if told[-1] == stop_at:
            raise KeyboardInterrupt

    method = fsc.Alternation(**{"training": TRAINING, "rounds": 3, "tolerance": 1e-9} | fields)
    teacher, student = _network(6, 6, 6, seed=1), _network(6, seed=2)
    images = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    given = (teacher.eval(), student, images, torch.arange(12) % 4)
    asked: dict[str, Any] = {"seed": seed, "progress": progress, "journal": journal}
    return method.teach(*given, **asked), told


def _assert_same(one: nn.Module, other: nn.Module) -> None:
    values = one.state_dict(), other.state_dict()
    assert list(values[0]) == list(values[1])
    for name, value in values[0].items():
        assert torch.equal(value, values[1][name]), name


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.iterdir())


# In the first round, in the next before its state was kept once, and at its last step.
STOPS = ((1, 3), (1, 7), (2, 2), (2, STEPS), (3, 6))


@pytest.mark.parametrize(
    ("alignment", "stops"), [(fsc.FSKD(solve_on=0), STOPS), (JOINT, ((3, 6),)), (None, ((3, 6),))]
)
def test_interrupted_and_resumed_has_the_bits_of_an_uninterrupted_run(
    tmp_path: Path, alignment: fsc.FSKD | None, stops: tuple[tuple[int, int], ...]
) -> None:
    whole, told = _run(None, alignment=alignment)
    for number, step in stops:
        folder = tmp_path / f"{number}-{step}"
        torch.rand(1)  # what others draw does not matter
        with pytest.raises(KeyboardInterrupt):
            _run(folder, (number, "fine-tuning, step", step), alignment=alignment)
        resumed, told = _run(folder, alignment=alignment)
        assert told[0][0] == number
        first = next(each for each in told if each[1] == "fine-tuning, step")
        assert first == (number, "fine-tuning, step", (step - 1) // 4 * 4 + 1)
        _assert_same(whole, resumed)
        assert _names(folder) == [f"round-{number}-student" for number in (1, 2, 3)]


@pytest.mark.parametrize(
    "training",
    [
        fsc.FitNet(steps=STEPS, batch_size=5, learning_rate=0.01),
        fsc.KD(steps=STEPS, batch_size=5, learning_rate=0.01),
    ],
    ids=["FitNet", "KD"],
)
def test_other_trainings_go_on_too(tmp_path: Path, training: Any) -> None:
    whole, _ = _run(None, training=training)
    last = (2, "distilling, step", 5)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path, last, training=training)
    resumed, told = _run(tmp_path, training=training)
    assert (2, "hints, step", 1) not in told and {number for number, _, _ in told} == {2, 3}
    _assert_same(whole, resumed)


def test_a_joint_alignment_goes_on_where_it_was(tmp_path: Path) -> None:
    whole, _ = _run(None, alignment=JOINT)
    stop = (2, "aligning all blocks, step", 7)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path, stop, alignment=JOINT)
    assert _names(tmp_path) == ["round-1-student", "round-2-alignment-training"]
    resumed, told = _run(tmp_path, alignment=JOINT)
    assert told[0] == (2, "aligning all blocks, step", 5)
    _assert_same(whole, resumed)


def test_what_is_over_is_said_again_and_nothing_is_written(tmp_path: Path) -> None:
    training = fsc.BackProp(steps=STEPS, batch_size=5, learning_rate=1e18)
    said = []
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with pytest.raises(ValueError, match="learning_rate must be small enough"):
                _run(tmp_path, training=training)
        said.append([str(each.message) for each in caught])
    assert said[0] == said[1]
    folder = tmp_path / "settled"
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            student, told = _run(folder, training=TRAINING, alignment=None, rounds=3)
        said.append([str(each.message) for each in caught])
        before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert said[2] == said[3] and any("had not settled" in each for each in said[2])
    assert not told and len(before) == 3


@pytest.mark.parametrize("damage", ["cut", "flipped"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_damaged_round_is_dropped_and_made_again(
    tmp_path: Path, number: int, damage: str
) -> None:
    whole, _ = _run(tmp_path)
    path = tmp_path / f"round-{number}-student.safetensors"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    sentence = f"student.safetensors is damaged.* dropped, and round {number} is made again"
    with pytest.warns(fsc.CompressionWarning, match=sentence):
        resumed, told = _run(tmp_path)
    assert {each for each, _, _ in told} == {number}
    _assert_same(whole, resumed)
    assert _names(tmp_path) == [f"round-{number}-student" for number in (1, 2, 3)]


def test_a_damaged_training_is_dropped(tmp_path: Path) -> None:
    whole, _ = _run(None)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path, (2, "fine-tuning, step", 7))
    assert _names(tmp_path) == ["round-1-student", "round-2-training"]
    path = tmp_path / "round-2-training.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.warns(fsc.CompressionWarning, match="the training starts from the beginning"):
        resumed, told = _run(tmp_path)
    assert (2, "fine-tuning, step", 1) in told and told[0][0] == 2
    _assert_same(whole, resumed)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"seed": 1}, "seed 0, not 1"),
        ({"rounds": 4}, r"method\.rounds 3, not 4"),
        ({"training": fsc.KD(steps=STEPS)}, r"method\.training BackProp, not KD"),
        ({"alignment": None}, r"another method\.alignment"),
    ],
)
def test_the_journal_of_another_call_is_refused(
    tmp_path: Path, fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path, (2, "fine-tuning, step", 7))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    sentence = f"^journal must belong to .* of one with {told}: pass what .*, or another folder$"
    with pytest.raises(ValueError, match=sentence):
        _run(tmp_path, **fields)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}
