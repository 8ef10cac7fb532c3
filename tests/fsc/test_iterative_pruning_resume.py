"""Pruning by turns, interrupted and resumed: the bits of an uninterrupted run."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import chain
from torch import Tensor, nn

import fsc
from fsc.models.preactivation_resnet import preactivation_resnet
from fsc.networks.tensor_files import read_tensors

pytestmark = pytest.mark.usefixtures("one_thread")
RATIOS = (0.2, 0.4)
FILES = [f"round-{number}-ratio-{ratio}.safetensors" for number in (1, 2) for ratio in RATIOS]


def layer_norms() -> nn.Module:
    """What normalises over all channels at once is another module where some are masked."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.GroupNorm(1, 8), nn.ReLU(), nn.Conv2d(8, 10, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 4)),
    )


def batch_norms() -> nn.Module:
    """BatchNorm before convolutions, whose statistics are taken anew."""
    return preactivation_resnet(11)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "chain": chain,
    "layer norms": layer_norms,
    "batch norms": batch_norms,
}


def _run(
    teacher: nn.Module, journal: Path | None, stop_at: str | None = None, **options: Any
) -> tuple[fsc.IterativeResult, list[str]]:
    """The result, and the candidates that were made for it."""
    made: list[str] = []

    def progress(what: str, done: int, total: int) -> None:
        place = what.split(":")[0]
        made.extend([place] if place not in made else [])
        if place == stop_at:
            raise KeyboardInterrupt

    images = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    given = {"pruning_ratios": RATIOS, "rounds": 2, "method": fsc.FSKD(solve_on=0, iterations=2)}
    given |= {"progress": progress, "journal": journal} | options
    return fsc.prune_iteratively(teacher, images, **given), made  # type: ignore[arg-type]


def _assert_same(one: fsc.IterativeResult, other: fsc.IterativeResult) -> None:
    assert one.candidates == other.candidates
    values = one.student.state_dict(), other.student.state_dict()
    assert list(values[0]) == list(values[1])
    for name, value in values[0].items():
        assert torch.equal(value, values[1][name]), name


def _places(first: int) -> list[str]:
    return [f"round {n} of 2, ratio {ratio:g}" for n in (1, 2) for ratio in RATIOS][first:]


@pytest.mark.parametrize(
    ("name", "align_to", "stops"),
    [
        ("chain", "teacher", (1, 2, 3)),
        ("chain", "previous", (1, 2, 3)),
        ("layer norms", "teacher", (3,)),
        ("layer norms", "previous", (3,)),
        ("batch norms", "previous", (3,)),
    ],
)
def test_interrupted_and_resumed_has_the_bits_of_an_uninterrupted_run(
    tmp_path: Path, name: str, align_to: str, stops: tuple[int, ...]
) -> None:
    teacher = NETWORKS[name]().eval()
    whole, made = _run(teacher, None, align_to=align_to)
    assert made == _places(0)
    for first in stops:  # of those that are still to be made
        with pytest.raises(KeyboardInterrupt):
            _run(teacher, tmp_path / str(first), _places(first)[0], align_to=align_to)
        torch.rand(1)  # what others draw does not matter
        resumed, made = _run(teacher, tmp_path / str(first), align_to=align_to)
        assert made == _places(first)
        _assert_same(whole, resumed)


def test_of_those_that_do_not_go_on_the_numbers_alone_stay(tmp_path: Path) -> None:
    teacher = chain()
    with pytest.raises(KeyboardInterrupt):
        _run(teacher, tmp_path, _places(1)[0])
    assert _values(tmp_path / FILES[0])
    whole, _ = _run(teacher, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    for file, candidate in zip(FILES, whole.candidates, strict=True):
        assert bool(_values(tmp_path / file)) == candidate.is_kept
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again, made = _run(teacher, tmp_path)
    _assert_same(whole, again)
    assert not made
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def _values(path: Path) -> dict[str, Tensor]:
    return read_tensors(path)[0]


def test_equal_ratios_are_one_candidate_made_once(tmp_path: Path) -> None:
    teacher, given = chain(), {"pruning_ratios": (0.2, 0.2)}
    whole, _ = _run(teacher, None, **given)
    for _ in range(2):
        _assert_same(whole, _run(teacher, tmp_path, **given)[0])
    assert len(list(tmp_path.iterdir())) == 2


def test_a_run_that_ended_early_ends_there_again(tmp_path: Path) -> None:
    teacher = chain()
    options = {"rounds": 9, "pruning_ratios": [0.5], "round_to": 4}
    with pytest.warns(fsc.CompressionWarning, match="gave nothing smaller at") as said:
        whole, _ = _run(teacher, tmp_path, **options)
    with pytest.warns(fsc.CompressionWarning, match="gave nothing smaller at") as again:
        resumed, made = _run(teacher, tmp_path, **options)
    assert [str(each.message) for each in said] == [str(each.message) for each in again]
    assert not made
    _assert_same(whole, resumed)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)


def of_another(path: Path) -> None:
    (other,) = (each for each in FILES if each != path.name and each[:7] == path.name[:7])
    path.write_bytes((path.parent / other).read_bytes())


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[nn.Module, Path, fsc.IterativeResult]:
    """A teacher, the journal of a run with it, and what came out."""
    torch.manual_seed(0)
    teacher, folder = chain(), tmp_path_factory.mktemp("finished")
    return teacher, folder, _run(teacher, folder)[0]


@pytest.mark.parametrize("damage", [cut, flipped, of_another])
@pytest.mark.parametrize("index", range(4))
def test_a_damaged_entry_is_dropped_and_that_candidate_made_again(
    finished: tuple[nn.Module, Path, fsc.IterativeResult],
    tmp_path: Path,
    index: int,
    damage: Callable[[Path], None],
) -> None:
    teacher, folder, whole = finished
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / FILES[index])
    number, ratio = index // 2 + 1, RATIOS[index % 2]
    sentence = f"dropped, and the cut by {ratio} of round {number} is made again"
    with pytest.warns(fsc.CompressionWarning, match=sentence):
        resumed, made = _run(teacher, tmp_path)
    assert made == _places(index)[:1]
    _assert_same(whole, resumed)
    for file, candidate in zip(FILES, whole.candidates, strict=True):
        assert bool(_values(tmp_path / file)) == candidate.is_kept


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A teacher, and the journal of a run with it that is not over."""
    torch.manual_seed(0)
    teacher, folder = chain(), tmp_path_factory.mktemp("interrupted")
    with pytest.raises(KeyboardInterrupt):
        _run(teacher, folder, _places(2)[0])
    return teacher, folder


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"seed": 1}, "seed 0, not 1"),
        ({"rounds": 3}, "rounds 2, not 3"),
        ({"align_to": "previous"}, "align_to teacher, not previous"),
        ({"pruning_ratios": [0.2]}, "another pruning_ratios"),
        ({"lowest_score": 9}, "another lowest_score"),
        ({"ignored": ["conv1"]}, "another ignored"),
        ({"method": fsc.FSKD(solve_on=0)}, r"method\.iterations 2, not 1"),
        ({"labels": torch.arange(12) % 4}, "another labels"),
        ({"score_images": torch.randn(3, 3, 8, 8)}, "another score_images"),
    ],
)
def test_the_journal_of_another_call_is_refused(
    interrupted: tuple[nn.Module, Path], options: dict[str, Any], told: str
) -> None:
    teacher, folder = interrupted
    before = {path: path.read_bytes() for path in folder.iterdir()}
    sentence = f"^journal must belong to .* of one with {told}: pass what .*, or another folder$"
    with pytest.raises(ValueError, match=sentence):
        _run(teacher, folder, **options)
    assert before == {path: path.read_bytes() for path in folder.iterdir()}


def test_the_journal_of_another_teacher_is_refused_and_goes_on_with_its_own(
    interrupted: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    teacher, folder = interrupted
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    other = copy.deepcopy(teacher)
    other.head.bias.data.add_(1)
    with pytest.raises(ValueError, match="of one with another teacher: pass"):
        _run(other, tmp_path)
    _, made = _run(teacher, tmp_path)
    assert made == _places(2)


def test_what_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must remove a channel"):
        _run(chain(), tmp_path / "journal", pruning_ratios=[0.001])
    assert not (tmp_path / "journal").exists()
