"""Journals that were damaged: dropped with a sentence, solved again, the same bits."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from networks import chain
from safetensors.torch import load_file, save_file
from torch import Tensor

import fsc
from fsc.methods.journal import Journal
from fsc.schemes import Scheme

SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})
LAYERS = ["conv2", "conv3", "conv4"]


@pytest.fixture
def compress(tmp_path: Path) -> Callable[..., dict[str, Tensor]]:
    """Compresses with the journal; returns the student."""
    teacher, images = chain(), torch.randn(6, 3, 8, 8)

    def run(folder: Path | None = tmp_path / "journal", **options: object) -> dict[str, Tensor]:
        given = {"method": fsc.CrossDistillation(), "scheme": SCHEME, "journal": folder}
        return fsc.compress(teacher, images, **given | options).student.state_dict()

    return run


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The layers that were solved, not found."""
    names: list[str] = []
    add = Journal.add

    def watched(journal: Journal, name: str, solution: object) -> None:
        names.append(name)
        add(journal, name, solution)

    monkeypatch.setattr(Journal, "add", watched)
    return names


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return list(first) == list(second) and all(torch.equal(first[k], second[k]) for k in first)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)


def flipped_in_the_header(path: Path) -> None:
    content = path.read_bytes()
    assert content.count(b"0x1.") >= 1
    path.write_bytes(content.replace(b"0x1.", b"0x0.", 1))


@pytest.mark.parametrize("damage", [truncated, emptied, flipped, flipped_in_the_header])
def test_a_damaged_entry_is_dropped_and_solved_again(compress, added, tmp_path, damage) -> None:
    whole = compress()
    assert added == LAYERS
    damage(tmp_path / "journal" / "conv3.safetensors")
    with pytest.warns(UserWarning, match="conv3.safetensors is damaged.*; it is dropped, and"):
        again = compress()
    assert added[3:] == ["conv3"] and equal(again, whole)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert equal(compress(), whole) and len(added) == 4


def other_value(path: Path) -> None:
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 8'))


def other_kind(path: Path) -> None:
    path.write_text("[]")


@pytest.mark.parametrize("damage", [truncated, emptied, other_value, other_kind])
def test_a_damaged_identity_costs_no_layer(compress, added, tmp_path, damage) -> None:
    whole = compress()
    path = tmp_path / "journal" / "identity.json"
    before = path.read_bytes()
    damage(path)
    with pytest.warns(UserWarning, match="identity.json .*; it is dropped, and what it held"):
        assert equal(compress(), whole)
    assert added == LAYERS and path.read_bytes() == before


def test_entries_of_another_compression_are_not_taken_for_damaged(compress, tmp_path) -> None:
    compress()
    with pytest.raises(ValueError, match="journal must belong to the same .* differs in seed"):
        compress(seed=1)
    (tmp_path / "journal" / "identity.json").unlink()
    with pytest.raises(ValueError, match="same compression, got .*conv2.safetensors of another"):
        compress(seed=1)
    assert len(list((tmp_path / "journal").glob("*.safetensors"))) == 3


def test_entries_from_before_there_were_checksums(compress, added, tmp_path) -> None:
    whole = compress()
    path = tmp_path / "journal" / "conv3.safetensors"
    save_file(load_file(path), path, {"error": "0x0p+0"})
    with pytest.warns(UserWarning, match="conv3.safetensors is damaged: it holds no checksum"):
        assert equal(compress(), whole)


def test_a_full_disk_names_the_file_and_costs_nothing_before(compress, added, tmp_path) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    whole = compress(tmp_path / "whole")
    small, large = (
        (tmp_path / "whole" / name).stat().st_size
        for name in ("identity.json", "conv2.safetensors")
    )
    assert small < large
    resource.setrlimit(resource.RLIMIT_FSIZE, (small, limits[1]))
    try:
        with pytest.raises(OSError, match="^file .*conv2.safetensors cannot be written: File too"):
            compress()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in (tmp_path / "journal").iterdir()] == ["identity.json"]
    assert equal(compress(), whole) and added == [*LAYERS, "conv2", *LAYERS]


def test_a_finished_journal_is_signed_by_every_method(compress, tmp_path) -> None:
    compress(method=fsc.L1Norm())
    identity = json.loads((tmp_path / "journal" / "identity.json").read_text())
    assert identity["method"] == "L1Norm()"
    with pytest.raises(ValueError, match="differs in method"):
        compress()
