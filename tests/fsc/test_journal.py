"""Journals that were damaged: dropped with a sentence, solved again, the same bits."""

import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from networks import chain
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import fsc
from fsc.files import write_together
from fsc.layers.layer_problem import Solution
from fsc.methods.identity import AnotherCompression, as_json, described
from fsc.methods.journal import Journal
from fsc.methods.training_state import in_words
from fsc.networks.tensor_files import read_tensors, write_tensors
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


def of_another_layer(path: Path) -> None:
    path.write_bytes((path.parent / "conv2.safetensors").read_bytes())


@pytest.mark.parametrize(
    "damage", [truncated, emptied, flipped, flipped_in_the_header, of_another_layer]
)
def test_a_damaged_entry_is_dropped_and_solved_again(compress, added, tmp_path, damage) -> None:
    whole = compress()
    assert added == LAYERS
    damage(tmp_path / "journal" / "conv3.safetensors")
    why = ": it holds the entry of conv2" if damage is of_another_layer else ".*"
    with pytest.warns(
        UserWarning, match=f"conv3.safetensors is damaged{why}; it is dropped, and its"
    ):
        again = compress()
    assert added[3:] == ["conv3"] and equal(again, whole)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert equal(compress(), whole) and len(added) == 4


def other_value(path: Path) -> None:
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 8'))


def other_kind(path: Path) -> None:
    path.write_text("[]")


def journal(folder: Path, **identity: object) -> Journal:
    return Journal(folder, {"seed": 0, "method": {"type": "L1Norm"}} | identity)


@pytest.mark.parametrize("missing", ["weight", "error", "error_before"])
def test_an_entry_of_another_version_is_dropped_and_solved_again(
    compress, tmp_path: Path, missing: str
) -> None:
    whole, path = compress(), tmp_path / "journal" / "conv3.safetensors"
    tensors, header = read_tensors(path)
    header.pop("sha256")
    (tensors if missing == "weight" else header).pop(missing)
    if missing == "error_before":
        header[missing] = "low"
    write_tensors(path, tensors | {"a/b.bias": torch.zeros(3)}, header)
    with pytest.warns(fsc.CompressionWarning, match=f"another version of fsc, without {missing}"):
        again = compress()
    assert equal(again, whole)


@pytest.mark.parametrize("damage", [truncated, emptied, other_value, other_kind])
def test_a_damaged_signature_is_dropped(tmp_path, damage) -> None:
    write_together(journal(tmp_path).signature())
    with pytest.raises(AnotherCompression, match="seed 0, not 1"):
        journal(tmp_path, seed=1)
    (path,) = tmp_path.iterdir()
    damage(path)
    with pytest.warns(UserWarning, match="identity.json .*; it is dropped, and the entries"):
        journal(tmp_path, seed=1)
    assert not path.exists()


def test_every_entry_says_whose_it_is(compress, tmp_path) -> None:
    compress()
    folder = tmp_path / "journal"
    assert sorted(path.name for path in folder.iterdir()) == [f"{n}.safetensors" for n in LAYERS]
    for _ in LAYERS:
        with pytest.raises(ValueError, match=f"got {folder} of one with seed 0, not 1: pass what"):
            compress(seed=1)
        next(folder.iterdir()).unlink()
    compress(seed=1)


def test_a_journal_names_everything_that_differs(tmp_path) -> None:
    scheme, long = {"name": "half", "kept": {"conv1": 4}}, "f" * 64
    images = {"number": 6, "sha256": long}
    before = {"scheme": scheme, "images": images, "teacher": long, "versions": {"torch": "2.12.1"}}
    write_together(journal(tmp_path, **before).signature())
    now = {
        "scheme": {"name": "third", "kept": {"conv1": 3}},
        "images": images | {"number": 5},
        "method": {"type": "MiR", "steps": 9},
        "teacher": "e" * 64,
        "versions": {"torch": "2.13.0"},
    }
    with pytest.raises(AnotherCompression) as caught:
        journal(tmp_path, **before | now)
    assert str(caught.value) == (
        f"journal must belong to the same compression, got {tmp_path} of one with method L1Norm, "
        "not MiR; scheme half, not third; images 6, not 5; another teacher; versions.torch 2.12.1, "
        "not 2.13.0: pass what that one was given, or another folder"
    )
    kept = {"scheme": scheme | {"kept": {"conv1": 3}}}
    with pytest.raises(AnotherCompression, match=r"with scheme\.kept\.conv1 4, not 3: pass"):
        journal(tmp_path, **before | kept)


def test_sets_have_one_order_in_a_journal() -> None:
    method = fsc.CrossDistillation(crossing=frozenset({"conv3", "conv1", "conv2"}))
    assert as_json(described(method))["crossing"] == ["conv1", "conv2", "conv3"]


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
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="^file .*conv2.safetensors cannot be written: File too"):
            compress()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "journal").exists()
    assert equal(compress(), whole) and added == [*LAYERS, "conv2", *LAYERS]


def test_a_file_in_the_place_of_the_folder_is_refused_before_any_work(tmp_path) -> None:
    place = tmp_path / "journal"
    place.touch()
    for folder, got in ((place, "which"), (place / "inner", f"where {place}")):
        with pytest.raises(ValueError, match=rf"^journal must name a folder, .*, {got} is a file$"):
            Journal(folder, {})
    told: list[str] = []
    with pytest.raises(ValueError, match=f"got {place}, which is a file"):
        fsc.compress(
            chain(),
            torch.randn(6, 3, 8, 8),
            method="cd-nc",
            progress=lambda what, *_: told.append(what),
            journal=place,
        )
    assert not told


def test_methods_that_keep_nothing_leave_nothing(compress, tmp_path) -> None:
    for method in (fsc.L1Norm(), fsc.FSKD()):
        compress(method=method)
        assert not (tmp_path / "journal").exists()


def test_what_a_killed_process_was_writing_is_no_entry(tmp_path: Path) -> None:
    (tmp_path / ".training.0123abcd.safetensors").write_bytes(b"half of it")
    assert in_words(tmp_path) == ""
    Journal(tmp_path, {"seed": 0}).write("conv1", {"weight": torch.ones(2)}, {})
    (tmp_path / "conv1.safetensors").rename(tmp_path / ".conv1.0123abcd.safetensors")
    assert Journal(tmp_path, {"seed": 1}).read("conv1", "", {}) is None, "nobody's whole folder"


def test_only_layers_are_counted_as_layers(tmp_path: Path) -> None:
    journal = Journal(tmp_path, {"method": {"type": "Alternation"}})
    round_of_it = journal.within("round-1")
    journal.write("blocks", {}, {"blocks": ["layer1.0"]})
    assert in_words(tmp_path) == ""
    round_of_it.write("student", {"weight": torch.ones(2)}, {"loss": 0.5, "said": []})
    assert in_words(tmp_path) == "1 file"
    kept = torch.arange(2)
    solution = Solution(torch.ones(2, 2, 1, 1), None, kept, kept, 2.0, 1.0, 3.0)
    for name in ("conv1", "conv2"):
        journal.add(name, solution)
    assert in_words(tmp_path) == "2 solved layers and 1 other file"
    journal.write("training", {}, {"step": 1})
    (tmp_path / "conv2.safetensors").write_bytes(b"damaged")
    assert in_words(tmp_path) == "1 solved layer and 1 step of Alternation and 2 other files"


def test_names_of_layers_stay_within_the_folder(added: list[str], tmp_path: Path) -> None:
    names = [str(tmp_path / "outside"), "a/b", "q" * 300, "q" * 301, "\u5c64" * 60, "\u5c64"]
    layers = {name: nn.Conv2d(8, 8, 1) for name in names}
    teacher = nn.Sequential(OrderedDict(first=nn.Conv2d(3, 8, 3), **layers))
    images = torch.randn(6, 3, 9, 9)

    def run() -> dict[str, Tensor]:
        given = {"method": fsc.CrossDistillation(), "journal": tmp_path / "journal"}
        given |= {"scheme": Scheme("half", {"first": 4})}
        return fsc.compress(teacher, images, **given).student.state_dict()

    whole = run()
    assert len(added) == len(names) and equal(run(), whole) and len(added) == len(names)
    assert [path.name for path in tmp_path.iterdir()] == ["journal"]
    assert {path.is_file() for path in (tmp_path / "journal").iterdir()} == {True}
    assert (tmp_path / "journal" / "\u5c64.safetensors").is_file()
