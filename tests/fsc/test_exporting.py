"""Students as files of ONNX and torch.export: the same outputs for any number, or a sentence."""

from dataclasses import replace

import pytest
import torch
from exportable import (
    Branch,
    Count,
    Given,
    InAClass,
    Layer,
    Logarithm,
    Noise,
    Pair,
    Svd,
    Two,
    WithNumber,
    WithText,
    both,
    needs_onnx,
)
from torch import nn

import fsc
from fsc import exporting, models
from fsc.networks import surgery
from fsc.networks.program_files import FORMATS, Format
from fsc.networks.quantized_inputs import quantize_inputs
from fsc.networks.trace_failures import line_of


@pytest.fixture(autouse=True)
def _quick(one_thread, monkeypatch):
    few = exporting.latencies
    monkeypatch.setattr(exporting, "latencies", lambda *given: few(*given, repeats=3))


def run(path, *images):
    """Outputs of a file, without fsc."""
    if path.suffix == ".pt2":
        return torch.export.load(path).module()(*images)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    outputs = session.run(None, {n: x.numpy() for n, x in zip(names, images, strict=True)})
    return torch.from_numpy(outputs[0]) if len(outputs) == 1 else list(map(torch.tensor, outputs))


@both
def test_the_file_gives_what_the_student_gives_for_any_number_of_images(suffix, tmp_path):
    student = models.build("resnet14").eval()
    surgery.fold_batch_norm(student)
    student.train()
    path = tmp_path / f"student{suffix}"
    found = fsc.export(student, path, torch.randn(9, 3, 8, 8))
    assert student.training, "it is not changed"
    student.eval()
    for number in (1, 4):
        images = torch.randn(number, 3, 8, 8)
        torch.testing.assert_close(run(path, images), student(images), rtol=1e-4, atol=1e-4)
    assert found.path == path and found.format == FORMATS[suffix].name
    assert found.inputs == {"x": (3, 8, 8)} and found.num_images == (1, 7)
    assert 0 <= found.difference < 1e-5
    assert found.kilobytes == path.stat().st_size / 1000
    assert found.milliseconds > 0 and found.milliseconds_student > 0
    assert found.to_dict()["inputs"] == {"x": [3, 8, 8]}
    assert b"resnet.py" not in path.read_bytes(), "no place on the disk of whoever exported it"


@needs_onnx
def test_names_in_a_file_of_onnx(tmp_path):
    import onnx

    path = tmp_path / "two.onnx"
    fsc.export(Two(), path, (torch.randn(3, 3, 8, 8), torch.tensor([0, 1, 2])))
    graph = onnx.load(str(path)).graph
    assert [each.name for each in graph.input] == ["image", "index"]
    assert [each.name for each in graph.output] == ["output_0", "output_1", "output_2"]
    sizes = [each.type.tensor_type.shape.dim[0].dim_param for each in (*graph.input, *graph.output)]
    assert sizes == ["images"] * 5


@both
@pytest.mark.parametrize("by_name", [False, True])
def test_several_inputs_and_outputs(suffix, by_name, tmp_path):
    images = (torch.randn(3, 3, 8, 8), torch.tensor([0, 1, 2]))
    given = dict(zip(("image", "index"), images, strict=True)) if by_name else images
    path = tmp_path / f"two{suffix}"
    assert fsc.export(Two(), path, given).inputs == {"image": (3, 8, 8), "index": ()}


def test_signals_loaders_and_a_single_image(tmp_path):
    signals = [torch.randn(3, 12), torch.randn(3, 12)]
    assert fsc.export(Layer(1), tmp_path / "a.pt2", signals).num_images == (1, 2)
    assert fsc.export(Layer(1), tmp_path / "a.pt2", torch.randn(1, 3, 12)).num_images == (1, 2)


def test_a_forward_that_asks_for_the_number_of_images(tmp_path):
    student, path = Count(), tmp_path / "a.pt2"
    fsc.export(student, path, torch.randn(2, 3, 8, 8))
    assert run(path, torch.randn(5, 3, 8, 8)).shape == (5, 4 * 6 * 6)


def test_wrapped_students_go_without_their_wrapper(tmp_path):
    found = fsc.export(nn.DataParallel(Layer()), tmp_path / "a.pt2", torch.randn(2, 3, 8, 8))
    assert found.inputs == {"x": (3, 8, 8)}


def test_half_precision_stays(tmp_path):
    path = tmp_path / "a.pt2"
    fsc.export(Layer().bfloat16(), path, torch.randn(2, 3, 8, 8))
    assert run(path, torch.randn(2, 3, 8, 8).bfloat16()).dtype == torch.bfloat16


@needs_onnx
def test_onnx_takes_what_onnxruntime_computes_in(tmp_path):
    images = torch.randn(2, 3, 8, 8)
    assert fsc.export(Layer().half(), tmp_path / "a.onnx", images).difference < 1e-2
    with pytest.raises(ValueError, match=r"float32 or torch.float16 .* got torch.bfloat16; pass"):
        fsc.export(Layer().bfloat16(), tmp_path / "b.onnx", images)


@both
def test_quantized_activations_are_simulated_alike(suffix, tmp_path):
    student = nn.Sequential(Layer(), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    quantize_inputs(student, {"2": 0.7}, bits=3)
    images = torch.randn(5, 3, 8, 8)
    found = fsc.export(student, tmp_path / f"a{suffix}", images)
    assert found.difference < (1e-5 if suffix == ".onnx" else 1e-30)


@pytest.mark.parametrize(
    ("student", "sentence"),
    [
        (Branch(), r"fails at .*exportable.py:\d+, `if x.sum\(\) > 0:`, with: .* values of a"),
        (Pair(), "torch.export fails with: the forward does not take any number of images"),
        (InAClass(), "Scores'> in output, which is not a known type$"),
        (Noise(), "student must give the same outputs for the same images, got some that are"),
        (Logarithm(), "student must give finite numbers for images, got NaN or Inf"),
        (nn.Conv2d(5, 4, 3), r"images must be what forward of Conv2d, \(input\) takes, got \[2, 3"),
        (nn.Conv2d(3, 4, 3, device="meta"), "student must hold values, got weight on the meta"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_refuses_students_that_cannot_be_exported(student, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        fsc.export(student, tmp_path / "a.pt2", torch.randn(2, 3, 8, 8))
    assert not list(tmp_path.iterdir())


@needs_onnx
def test_says_what_onnx_has_no_operator_for(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be written as ONNX: .*svd.*\.pt2 may hold it"):
        fsc.export(Svd(), tmp_path / "a.onnx", torch.randn(2, 3, 8, 8))


@needs_onnx
def test_inputs_are_called_as_in_the_file(tmp_path):
    import onnxruntime

    path = tmp_path / "a.onnx"
    found = fsc.export(Given(), path, torch.randn(3, 3, 8, 8))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert list(found.inputs) == [each.name for each in session.get_inputs()]


@needs_onnx
def test_onnx_holds_tensors_alone(tmp_path):
    images = torch.randn(3, 3, 8, 8)
    with pytest.raises(ValueError, match="must give tensors alone for a file of ONNX, got 3 among"):
        fsc.export(WithNumber(), tmp_path / "a.onnx", images)
    fsc.export(WithNumber(), tmp_path / "a.pt2", images)


@both
def test_strings_among_the_outputs_are_refused(suffix, tmp_path):
    said = r"^export: student must give tensors, or numbers .*, got the string 'cat' among"
    with pytest.raises(ValueError, match=said):
        fsc.export(WithText(), tmp_path / f"a{suffix}", torch.randn(3, 3, 8, 8))
    assert not list(tmp_path.iterdir())


def test_what_exporters_say_is_cut():
    assert line_of(ValueError("\n first.\nsecond")) == "first"
    assert line_of(ValueError()) == "ValueError"
    assert len(line_of(ValueError("long " * 100))) <= 200


def test_refuses_weights_that_are_not_finite(tmp_path):
    student = Layer()
    with torch.no_grad():
        student.layer.bias[0] = torch.nan
    with pytest.raises(
        ValueError, match="student: weights must be finite, got NaN or Inf in layer"
    ):
        fsc.export(student, tmp_path / "a.pt2", torch.randn(2, 3, 8, 8))


@pytest.mark.parametrize("student", [3, torch.jit.script(nn.ReLU())], ids=["int", "script"])
def test_refuses_what_is_no_network_of_modules(student, tmp_path):
    with pytest.raises(TypeError, match="student must be a "):
        fsc.export(student, tmp_path / "a.pt2", torch.randn(2, 3, 8, 8))


def test_paths_are_looked_at_first(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"path must end in .onnx or .pt2, got .*a.pt$"):
        fsc.export(3, tmp_path / "a.pt", None)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="folder .*file cannot be written"):
        fsc.export(3, tmp_path / "file" / "a.pt2", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    needed = r"needs onnx and onnxscript and onnxruntime, which are not installed: pip .*\[onnx\]"
    with pytest.raises(ImportError, match=needed):
        fsc.export(3, tmp_path / "a.onnx", None)


def test_a_file_of_onnx_has_a_largest_size():
    kind: Format = replace(FORMATS[".onnx"], most_bytes=100)
    with pytest.raises(ValueError, match="at most 0 MB of weights for a file of ONNX, got 0 MB"):
        kind.check_holds(Layer())
