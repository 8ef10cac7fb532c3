"""The part `files`: a few cases come out well, and a reader that is broken is found."""

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
