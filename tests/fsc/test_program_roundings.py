"""Files of students that round what layers read: right ones are written, others are not."""

from dataclasses import replace

import pytest
import torch
from exportable import needs_onnx
from torch import nn

import fsc
from fsc import exporting, models
from fsc.networks import program_checks, surgery
from fsc.networks.calls import record_calls
from fsc.networks.program_files import FORMATS, TorchProgram
from fsc.networks.quantized_inputs import QuantizedInputConv2d, quantize_inputs


@pytest.fixture(autouse=True)
def _quick(one_thread, monkeypatch):
    few = exporting.latencies
    monkeypatch.setattr(exporting, "latencies", lambda *given: few(*given, repeats=3))


def rounding_student(bits):
    """A resnet14 whose outputs move by far more than a last place, and images."""
    images = torch.randn(7, 3, 16, 16)
    student = models.build("resnet14").eval()
    surgery.fold_batch_norm(student)
    names = [n for n, m in student.named_modules() if isinstance(m, nn.Conv2d)][1:]
    calls = record_calls(student, names, ((images,), {}))
    limits = {name: 0.9 * float(calls[name][0][0][0].max()) for name in names}
    quantize_inputs(student, limits, bits)
    return student, images


def unrounded(self, features):
    return features.clamp(min=0).minimum(self.input_limit)


def rounded_down(self, features):
    step = self.input_limit / self.largest
    return (features * (1 / step)).floor().clamp(0, self.largest) * step


# With fewer bits the two differ by more.
@pytest.mark.parametrize("otherwise", [unrounded, rounded_down])
def test_a_file_that_does_not_round_is_not_written(otherwise, tmp_path, monkeypatch):
    student, images = rounding_student(8)
    right = QuantizedInputConv2d.quantized

    def quantized(self, features):
        of = otherwise if torch.compiler.is_exporting() else right
        return of(self, features)

    monkeypatch.setattr(QuantizedInputConv2d, "quantized", quantized)
    with pytest.raises(
        ValueError, match=r"round what layers read .* got \d+.\d% of those of .* by"
    ):
        fsc.export(student, tmp_path / "a.pt2", images)
    assert not list(tmp_path.iterdir())


class Shaken(TorchProgram):
    """A file that adds up in another order."""

    def forward(self, images):
        if images.dim() == 2:  # what layers read
            return super().forward(images)
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
        return super().forward(images * (1 + 4e-6 * noise))


@pytest.mark.parametrize("bits", [4, 8])
def test_a_file_may_round_some_activations_the_other_way(bits, tmp_path, monkeypatch):
    student, images = rounding_student(bits)
    monkeypatch.setitem(exporting.FORMATS, ".pt2", replace(FORMATS[".pt2"], opened=Shaken))
    assert fsc.export(student, tmp_path / "a.pt2", images).difference > 1e-4


@needs_onnx
def test_right_files_round_as_students_do():
    student, images = rounding_student(4)
    kind = FORMATS[".onnx"]
    program_checks._check_roundings("a.onnx", kind, student, images)
    program_checks._check_roundings("a.pt2", FORMATS[".pt2"], student.bfloat16(), images.bfloat16())
