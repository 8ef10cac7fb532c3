"""The part `files`: a few cases come out well, and a reader that is broken is found."""

from random import Random

import files
import pytest
import readers
import run

from fsc.networks import pretrained


@pytest.mark.parametrize("number", [1, 20, 30, 113, 164])
def test_damaged_files_are_refused_or_read(number, tmp_path):
    assert files.case(number, tmp_path).rpartition(": ")[2] in (
        "equal",
        "refused",
        "read otherwise",
    )


@pytest.mark.parametrize("kind", readers.KINDS, ids=lambda kind: kind.name)
def test_a_kind_can_be_damaged_in_its_own_ways(kind, tmp_path):
    """A way that fails becomes bits that flip, so that nobody would see it."""
    for mutation in set(kind.mutations):
        assert any(_succeeds(kind, mutation, tmp_path / f"{mutation.__name__}-{seed}", seed)
                   for seed in range(8)), mutation.__name__  # fmt: skip


def _succeeds(kind, mutation, folder, seed):
    folder.mkdir()
    pattern, draw = kind.write(folder), Random(seed)
    path = draw.choice(sorted(each for each in folder.glob(pattern) if each.is_file()))
    try:
        mutation(path, draw)
    except Exception:
        return False
    return True


def _named(kind):
    """The kind of file of a name."""
    (found,) = (each for each in readers.KINDS if each.name == kind)
    return found


def test_a_reader_that_lets_errors_of_a_library_through_is_found(monkeypatch):
    def broken(path):
        raise KeyError("weight")

    # The good file must be read before its reader is broken.
    files._good(_named("safetensors"))
    monkeypatch.setattr(pretrained, "read_tensors", broken)
    kind = _named("safetensors")
    monkeypatch.setattr(files, "_KINDS", (kind,))
    monkeypatch.setattr(files, "_WEIGHTS", [1])
    assert "KeyError" in run.tried(files.PART, 5).fault
