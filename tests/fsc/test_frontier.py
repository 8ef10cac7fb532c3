import mmap
import tempfile
from pathlib import Path

import pytest
import torch

from fsc.walking import heap
from fsc.walking.frontier import AT_WORK, Frontier


@pytest.fixture
def spill_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_without_a_budget_nothing_is_copied_or_written(spill_folder: Path) -> None:
    value = torch.randn(100)
    with Frontier() as frontier:
        frontier.put("layer", 3, value)
        assert frontier.get("layer", 3) is value
        assert list(spill_folder.iterdir()) == []


@pytest.mark.parametrize("budget", [None, 0, 50])
def test_nested_values_come_back(spill_folder: Path, budget: int | None) -> None:
    first, second = torch.randn(3, 4), torch.arange(6).reshape(2, 3).t()
    with Frontier(budget) as frontier:
        frontier.put("tuple", 0, (first, 7, [second, "text"]))
        frontier.put("shape", 0, torch.Size([2, 3]))
        frontier.put("number", 1, 5)
        found_first, seven, (found_second, text) = frontier.get("tuple", 0)
        assert torch.equal(found_first, first) and torch.equal(found_second, second)
        assert found_second.stride() == second.stride()
        assert (seven, text) == (7, "text")
        assert tuple(frontier.get("shape", 0)) == (2, 3)
        assert frontier.get("number", 1) == 5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_every_dtype_survives_a_file(spill_folder: Path, dtype: torch.dtype) -> None:
    value = torch.arange(4).to(dtype)
    with Frontier(0) as frontier:
        frontier.put("layer", 0, value)
        assert len(files(spill_folder)) == 1
        found = frontier.get("layer", 0)
        assert found.dtype == dtype and torch.equal(found, value)


def test_a_budget_holds_what_steps_work_with_too(spill_folder: Path) -> None:
    with Frontier(1000 + AT_WORK * 400) as frontier:
        for batch in range(5):
            frontier.put("layer", batch, torch.full((100,), float(batch)))  # 400 bytes
        assert frontier.peak_bytes == frontier.bytes_held == 800
        assert len(files(spill_folder)) == 3
        for batch in range(5):
            assert torch.equal(frontier.get("layer", batch), torch.full((100,), float(batch)))


def test_what_is_held_makes_room_for_larger_steps(spill_folder: Path) -> None:
    base = torch.arange(200.0)  # 800 bytes
    with Frontier(1600 + AT_WORK * 800) as frontier:
        frontier.put("whole", 0, base)
        frontier.put("view", 0, base[:100])
        frontier.put("shape", 0, torch.Size([2]))
        assert files(spill_folder) == []
        frontier.put("larger", 0, torch.ones(300))
        assert frontier.bytes_held == 0
        assert len(files(spill_folder)) == 3
        assert torch.equal(frontier.get("whole", 0), base)
        assert torch.equal(frontier.get("view", 0), base[:100])
        assert torch.equal(frontier.get("larger", 0), torch.ones(300))
    assert list(spill_folder.iterdir()) == []


def test_views_of_the_images_take_nothing(spill_folder: Path) -> None:
    images = torch.randn(100, 4)  # 16 bytes each
    with Frontier(200 + AT_WORK * 32, (images,)) as frontier:
        for batch, part in enumerate(images.split(2)):
            frontier.put("identity", batch, part)
            frontier.put("layer", batch, part + 1)
            frontier.drop("identity", batch)
        assert frontier.peak_bytes == 192  # as many of 32 as fit


@pytest.mark.parametrize(("budget", "told"), [(0, 0), (AT_WORK * 400 - 1, 1), (AT_WORK * 400, 0)])
def test_a_budget_that_holds_nothing_is_told_once(
    spill_folder: Path, budget: int, told: int, recwarn: pytest.WarningsRecorder
) -> None:
    with Frontier(budget) as frontier:
        for batch in range(3):
            frontier.put("layer", batch, torch.zeros(100))
    assert len(recwarn) == told
    if told:
        assert f"budget of {budget:,} bytes is less than the 2,400 that" in str(recwarn[0].message)


def test_a_shared_storage_counts_once_until_its_last_value_goes() -> None:
    base = torch.randn(4, 25)
    with Frontier() as frontier:
        frontier.put("base", 0, base)
        frontier.put("view", 0, base.flatten())
        frontier.put("pair", 0, (base[0], base[1]))
        assert frontier.bytes_held == 400
        frontier.drop("base", 0)
        frontier.drop("pair", 0)
        assert frontier.bytes_held == 400
        frontier.drop("view", 0)
        assert frontier.bytes_held == 0
        assert frontier.peak_bytes == 400


def test_a_spilled_view_does_not_take_its_storage_along(spill_folder: Path) -> None:
    with Frontier(0) as frontier:
        frontier.put("view", 0, torch.zeros(1_000_000)[:2])
        assert files(spill_folder)[0].stat().st_size < 100_000


def test_dropping_frees_memory_and_files(spill_folder: Path) -> None:
    with Frontier(400 + AT_WORK * 400) as frontier:
        frontier.put("held", 0, torch.zeros(100))
        frontier.put("spilled", 0, torch.zeros(100))
        frontier.drop("spilled", 0)
        assert files(spill_folder) == []
        frontier.drop("held", 0)
        assert frontier.bytes_held == 0
        frontier.drop("never put", 0)
        with pytest.raises(KeyError):
            frontier.get("held", 0)


@pytest.mark.parametrize("budget", [None, 0])
def test_putting_again_replaces(spill_folder: Path, budget: int | None) -> None:
    with Frontier(budget) as frontier:
        frontier.put("layer", 0, torch.zeros(100))
        frontier.put("layer", 0, torch.ones(10))
        assert torch.equal(frontier.get("layer", 0), torch.ones(10))
        assert frontier.bytes_held == (40 if budget is None else 0)
        assert len(files(spill_folder)) == (0 if budget is None else 1)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_files_are_gone_whatever_happens(spill_folder: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), Frontier(0) as frontier:
        frontier.put("layer", 0, torch.zeros(100))
        assert len(files(spill_folder)) == 1
        raise error
    assert list(spill_folder.iterdir()) == []


def test_a_missing_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with Frontier(0) as frontier, pytest.raises(OSError, match=r"400 bytes.*missing.*TMPDIR"):
        frontier.put("layer", 0, torch.zeros(100))


def test_without_any_folder_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk, where nothing can be written into any of them."""

    def nowhere(*arguments: object, **keywords: object) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    monkeypatch.setattr(tempfile, "mkdtemp", nowhere)
    with Frontier(0) as frontier, pytest.raises(OSError, match="400 bytes.*No usable .*TMPDIR"):
        frontier.put("layer", 0, torch.zeros(100))


def test_a_file_that_was_damaged_or_removed_is_one_sentence(spill_folder: Path) -> None:
    with Frontier(0) as frontier:
        frontier.put("layer", 0, torch.zeros(100))
        frontier.put("other", 0, torch.zeros(100))
        first, second = sorted(files(spill_folder))
        first.write_bytes(first.read_bytes()[:100])
        second.unlink()
        for key in ("layer", "other"):
            with pytest.raises(OSError, match="file .*pt was removed or damaged before") as error:
                frontier.get(key, 0)
            assert "\n" not in str(error.value)


def test_a_full_disk_is_one_sentence(spill_folder: Path) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Frontier(0) as frontier:
        # A limit on the size of files makes writing fail half-way, as a full disk does.
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, limits[1]))
        try:
            with pytest.raises(OSError, match="to .* .File too large.; free space") as error:
                frontier.put("layer", 0, torch.zeros(1_000_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(error.value)
    assert list(spill_folder.iterdir()) == []


def test_a_negative_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="memory_budget must be at least 0 bytes, got -1"):
        Frontier(-1)


def test_memory_is_given_back_once_files_are_written(
    spill_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    monkeypatch.setattr("fsc.walking.frontier.give_back", lambda: given.append(None))
    monkeypatch.setattr("fsc.walking.frontier._LOOSE", 2000)
    with Frontier(1000 + AT_WORK * 800) as frontier:
        frontier.put("held", 0, torch.zeros(200))
        for number in range(5):
            frontier.put("file", number, torch.zeros(200))  # 800 bytes
        assert len(given) == 1
    with Frontier(100_000) as frontier:
        for _ in range(100):
            frontier.put("held", 0, torch.zeros(200))
    assert len(given) == 1


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


@pytest.mark.skipif(heap._TRIM is None, reason="needs the GNU C library")
def test_what_is_dropped_is_free_when_memory_is_given_back(spill_folder: Path) -> None:
    def blocks() -> list[torch.Tensor]:
        return [torch.ones(1 << 14) for _ in range(1000)]  # 64 kB each

    # What is put last is larger than all before it together.
    with Frontier((1 << 28) * (1 + AT_WORK)) as frontier:
        values = blocks(), blocks()
        for number, (first, second) in enumerate(zip(*values, strict=True)):
            frontier.put("held", number, second)
            frontier.put("dropped", number, first)
        frontier.put("file", 0, torch.ones(1 << 26))
        full = resident()
        del values, first, second
        assert frontier.bytes_held == 2000 << 16
        for number in range(1000):
            frontier.drop("dropped", number)
        frontier.put("small", 0, torch.ones(1))
        assert full - resident() > 0.8 * (1000 << 16)


@pytest.mark.skipif(heap._TRIM is None, reason="needs the GNU C library")
def test_what_lies_between_held_blocks_is_given_back() -> None:
    blocks = [torch.ones(1 << 14) for _ in range(2000)]  # 64 kB each
    full = resident()
    del blocks[:-1:2]
    heap.give_back()
    assert full - resident() > 0.4 * (2000 << 16)
