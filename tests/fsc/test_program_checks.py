"""Files whose outputs are not those of the student: none is written, and the sentence says why."""

from dataclasses import replace

import pytest
import torch
from exportable import Layer, Squeezed, Steep, needs_onnx

import fsc
from fsc import exporting
from fsc.networks.program_files import FORMATS, TorchProgram


@pytest.fixture(autouse=True)
def _quick(one_thread, monkeypatch):
    few = exporting.latencies
    monkeypatch.setattr(exporting, "latencies", lambda *given: few(*given, repeats=3))


class Off(TorchProgram):
    """A file that gives a little more than it should."""

    def forward(self, *images):
        found = super().forward(*images)
        return found + 1e-3 * found.abs().max()


def test_what_gives_something_else_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setitem(exporting.FORMATS, ".pt2", replace(FORMATS[".pt2"], opened=Off))
    path, images = tmp_path / "a.pt2", torch.randn(3, 3, 8, 8)
    path.write_text("before")
    with pytest.raises(ValueError, match=r"a.pt2 must give .* up to \S+e-05 .*, got 1.0e-03; noth"):
        fsc.export(Layer(), path, images)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
    # The same is rounding where the outputs move as far with the last places of images.
    assert fsc.export(Steep(), path, images).difference == pytest.approx(1e-3, rel=0.1)


@needs_onnx
def test_outputs_of_another_shape_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"got \[1, 5\] where the student gives \[5\] for one im"):
        fsc.export(Squeezed(), tmp_path / "a.onnx", torch.randn(3, 3, 8, 8))
    assert not list(tmp_path.iterdir())


class More(TorchProgram):
    def forward(self, *images):
        found = super().forward(*images)
        return found, found


class Wider(TorchProgram):
    def forward(self, *images):
        return super().forward(*images).double()


@pytest.mark.parametrize(
    ("opened", "sentence"),
    [
        (More, "got 2 tensors where the student gives 1 for one image; nothing"),
        (Wider, "got torch.float64 where the student gives torch.float32 for one image; nothing"),
    ],
)
def test_outputs_of_another_kind_are_named(opened, sentence, tmp_path, monkeypatch):
    monkeypatch.setitem(exporting.FORMATS, ".pt2", replace(FORMATS[".pt2"], opened=opened))
    with pytest.raises(ValueError, match=sentence):
        fsc.export(Layer(), tmp_path / "a.pt2", torch.randn(3, 3, 8, 8))


class Unread(TorchProgram):
    def __init__(self, path):
        raise RuntimeError("no program")


def test_a_comparison_that_fails_is_no_full_disk(tmp_path, monkeypatch):
    monkeypatch.setitem(exporting.FORMATS, ".pt2", replace(FORMATS[".pt2"], opened=Unread))
    with pytest.raises(ValueError, match="a.pt2 cannot be compared with student: no program$"):
        fsc.export(Layer(), tmp_path / "a.pt2", torch.randn(6, 3, 8, 8))
    assert not list(tmp_path.iterdir())
