"""Two processes do what one does: the same students, to rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import rank_work
import torch
from image_folders import write_patterns
from ranked import on_ranks
from shared_cases import CASES, all_compressed, compressed

from fsc import ranks


@pytest.fixture(scope="module")
def by_two() -> list[dict[str, Any]]:
    """What two processes give in every case, each with its own share of five images."""
    return on_ranks(all_compressed, list(CASES))


@pytest.mark.parametrize("name", CASES)
def test_two_processes_give_the_student_of_one(name: str, by_two: list[dict[str, Any]]) -> None:
    student, report = compressed(name)
    for found in by_two:
        assert not isinstance(found[name], Exception), found[name]
        tensors, told = found[name]
        assert told["kept"] == report["kept"]
        assert told["num_images"] == report["num_images"]
        torch.testing.assert_close(tensors, student, rtol=1e-9, atol=1e-11)
        for own, expected in zip(told["layers"], report["layers"], strict=True):
            assert own[:2] == expected[:2]
            assert own[2] == pytest.approx(expected[2], rel=1e-6, abs=1e-9)
    first, second = (found[name][0] for found in by_two)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_shares_come_together_in_the_order_of_ranks() -> None:
    first, second = on_ranks(rank_work.pieces)
    for found in (first, second):
        assert torch.equal(found["joined"], torch.ones(2, 1))
        assert torch.equal(found["summed"], torch.full((3,), 3.0))
        assert found["total"] == 3
        assert found["everyone"] == ["rank 0", "rank 1"]
        # To what the first computes alone there is nobody else.
        assert found["first"] == (0, 1)
        assert found["error"] == "nothing is there"
    assert (first["own"], second["own"]) == (slice(0, 2), slice(2, 5))
    assert torch.equal(torch.cat([first["share"], second["share"]]), torch.arange(5))


def test_without_a_group_nothing_is_shared() -> None:
    values = torch.randn(3)
    assert (ranks.count(), ranks.number(), ranks.is_first()) == (1, 0, True)
    assert ranks.share(values) is values and ranks.side_by_side(values, 0) is values
    body = torch.nn.Linear(2, 2)
    assert ranks.parallel(body) is body


def test_moments_of_two_ranks_are_those_of_all_images() -> None:
    seen = torch.randn(5, 3, 8, 8)
    expected = rank_work.moments(seen)
    for found in on_ranks(rank_work.moments, seen):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("batch_size", [3, 4])
def test_gradients_of_two_ranks_are_those_of_the_minibatch(batch_size: int) -> None:
    # Of four images the fifth is left over: one rank has nothing of the second step.
    expected = rank_work.gradients(batch_size)
    for found in on_ranks(rank_work.gradients, batch_size):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_every_rank_sees_its_own_images_alone() -> None:
    assert [walked for walked, _ in on_ranks(rank_work.seen_by_each, "moments")] == [[2], [3]]
    trained = [trained for _, trained in on_ranks(rank_work.seen_by_each, "mir")]
    assert trained == [[1, 1, 1, 1], [2, 1, 2, 1]]


def test_two_processes_crop_files_as_one_does(tmp_path: Path) -> None:
    sizes = [(20, 12), (9, 30), (16, 16), (8, 11), (25, 10)]
    folder = str(write_patterns(tmp_path, sizes))
    expected, whole = rank_work.cropping(folder)
    (first, own), (second, other) = on_ranks(rank_work.cropping, folder)
    assert [whole, own, other] == [[3, 2, 3, 2], [1, 1, 1, 1], [2, 1, 2, 1]]
    torch.testing.assert_close(first, expected, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_fewer_images_than_ranks_are_refused() -> None:
    for error in on_ranks(rank_work.too_few):
        assert str(error) == "compress: ranks must be at most as many as the images, 1, got 2"


def test_other_images_on_another_rank_are_refused() -> None:
    for error in on_ranks(rank_work.own_images):
        assert str(error).startswith("compress: images must be the same on every rank")


def test_another_choice_on_another_rank_is_refused() -> None:
    for error in on_ranks(rank_work.own_choice):
        assert str(error).startswith("compress: keep_batch_norm must be the same on every rank")


def test_two_processes_prune_and_teach_by_turns_as_one_does() -> None:
    expected, (first, second) = rank_work.by_turns(), on_ranks(rank_work.by_turns)
    assert first["scores"] == second["scores"] == expected["scores"]
    for name in ("pruned", "taught"):
        torch.testing.assert_close(first[name], expected[name], rtol=1e-7, atol=1e-9)
        for key, value in first[name].items():
            assert torch.equal(value, second[name][key]), (name, key)


def test_what_was_kept_by_turns_is_read_and_written_by_the_first_rank(tmp_path: Path) -> None:
    expected = rank_work.by_turns(str(tmp_path / "one"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert len(before) == 4
    found = on_ranks(rank_work.by_turns, str(tmp_path / "one"))  # which have nothing to do
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    first, _ = on_ranks(rank_work.by_turns, str(tmp_path / "two"))
    found += [first, rank_work.by_turns(str(tmp_path / "two"))]
    for one, other in ((expected, found[0]), (expected, found[1]), (found[2], found[3])):
        assert one["scores"] == other["scores"]
        for name in ("pruned", "taught"):
            for key, value in one[name].items():
                assert torch.equal(value, other[name][key]), (name, key)
    assert len(list((tmp_path / "two").rglob("*.safetensors"))) == 4


def test_other_arguments_and_too_few_images_by_turns_are_refused() -> None:
    for said in on_ranks(rank_work.refused_by_turns):
        for sentence, name in zip(said, ("ignored", "labels", "score_images"), strict=False):
            assert sentence.startswith(f"prune_iteratively: {name} must be the same on every rank")
        assert said[3:] == [
            "prune_iteratively: ranks must be at most as many as the images that are not held out, "
            "1, got 2"
        ]


def test_the_first_rank_alone_tells(tmp_path: Path) -> None:
    (said, told), nothing = on_ranks(rank_work.with_warnings, str(tmp_path / "journal"))
    assert len(said) == len(set(said)) == 2 and told > 0  # of scale, and of the student
    assert nothing == ([], 0)


@pytest.mark.parametrize("name", ["moments", "default"])
def test_a_rank_that_dies_is_named_and_the_rest_is_kept(name: str, tmp_path: Path) -> None:
    journal = str(tmp_path / "journal")
    layer = "conv4" if name == "moments" else ""
    error, nothing = on_ranks(rank_work.dying, name, journal, layer, dies=True)
    assert nothing is None
    assert isinstance(error, ranks.RankLost) and error.lost == [1]
    assert str(error) == "all processes of the group must run to the end, rank 1 no longer answers"
    solved = list((tmp_path / "journal").glob("*.safetensors"))
    assert solved
    student, _ = compressed(name, journal)  # by one process: what is there is taken up
    expected, _ = compressed(name)
    torch.testing.assert_close(student, expected, rtol=1e-6, atol=1e-8)


def test_two_ranks_go_on_where_one_process_stopped(tmp_path: Path) -> None:
    journal = str(tmp_path / "journal")
    expected, _ = compressed("moments", journal)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "journal").iterdir()}
    for found in on_ranks(compressed, "moments", journal):
        torch.testing.assert_close(found[0], expected, rtol=1e-6, atol=1e-8)
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "journal").iterdir()}


def test_ranks_end_alike_where_each_normalises_by_its_own_part() -> None:
    first, second = on_ranks(rank_work.normalising)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any("running_mean" in key for key in first)


def test_one_rank_may_work_alone() -> None:
    first, second = on_ranks(rank_work.alone)
    assert second == "elsewhere"
    expected, _ = compressed("moments")
    assert all(torch.equal(first[key], expected[key]) for key in expected)
