"""Students as files of ONNX and torch.export: the same outputs for any number, or a sentence."""

from dataclasses import dataclass, replace
from importlib.util import find_spec

import pytest
import torch
from torch import nn

import fsc
from fsc import exporting, models
from fsc.networks import program_checks, surgery
from fsc.networks.calls import record_calls
from fsc.networks.program_files import FORMATS, Format, TorchProgram
from fsc.networks.programs import line_of
from fsc.networks.quantized_inputs import QuantizedInputConv2d, quantize_inputs

HAS_ONNX = all(find_spec(name) for name in FORMATS[".onnx"].packages)
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="the extra onnx is not installed")
both = pytest.mark.parametrize("suffix", [".pt2", pytest.param(".onnx", marks=needs_onnx)])


@pytest.fixture(autouse=True)
def _quick(one_thread, monkeypatch):
    few = exporting.latencies
    monkeypatch.setattr(exporting, "latencies", lambda *given: few(*given, repeats=3))


class Layer(nn.Module):
    """One convolution; the others of this file do something with it."""

    def __init__(self, dimensions=2):
        super().__init__()
        kinds = {1: nn.Conv1d, 2: nn.Conv2d}
        self.layer = kinds[dimensions](3, 4, 3)

    def forward(self, x):
        return self.layer(x)


class Two(Layer):
    def forward(self, image, index):
        scores = self.layer(image).mean((2, 3))
        return {"scores": scores + index[:, None], "best": (scores.argmax(1), scores > 0)}


class Count(Layer):
    def forward(self, x):
        return self.layer(x).view(len(x), -1)


class Pair(Layer):
    def forward(self, x):
        return self.layer(x).view(2, -1)


class Branch(Layer):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return self.layer(x)


class Noise(Layer):
    def forward(self, x):
        return self.layer(x) + torch.rand_like(x[:, :1, 1:-1, 1:-1])


class Logarithm(Layer):
    def forward(self, x):
        return self.layer(x).log()


class Steep(Layer):
    def forward(self, x):
        return (1e6 * self.layer(x)).sin()


class Squeezed(Layer):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        return self.head(nn.functional.adaptive_avg_pool2d(self.layer(x), 1).squeeze())


class Given(Layer):
    def forward(self, x):
        return x, self.layer(x)


class WithNumber(Layer):
    def forward(self, x):
        return self.layer(x), 3


class Svd(Layer):
    def forward(self, x):
        return torch.linalg.svd(self.layer(x))[1]


@dataclass
class Scores:
    scores: torch.Tensor


class InAClass(Layer):
    def forward(self, x):
        return Scores(self.layer(x))


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


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("otherwise", [unrounded, rounded_down])
def test_a_file_that_does_not_round_is_not_written(bits, otherwise, tmp_path, monkeypatch):
    student, images = rounding_student(bits)
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


@pytest.mark.parametrize(
    ("student", "sentence"),
    [
        (Branch(), r"fails at .*test_exporting.py:\d+, `if x.sum\(\) > 0:`, with: .* values of a"),
        (Pair(), "torch.export fails with: the forward does not take any number of images"),
        (InAClass(), "Scores'> in output, which is not a known type$"),
        (Noise(), "student must give the same outputs for the same images, got some that are"),
        (Logarithm(), "student must give finite numbers for images, got NaN or Inf"),
        (nn.Conv2d(5, 4, 3), r"images must be what forward of Conv2d, \(input\) takes, got \[2, 3"),
        (nn.Conv2d(3, 4, 3, device="meta"), "student must hold values, got weights on the meta"),
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


@needs_onnx
def test_onnx_holds_tensors_alone(tmp_path):
    images = torch.randn(3, 3, 8, 8)
    with pytest.raises(ValueError, match="must give tensors alone for a file of ONNX, got 3 among"):
        fsc.export(WithNumber(), tmp_path / "a.onnx", images)
    fsc.export(WithNumber(), tmp_path / "a.pt2", images)


def test_what_exporters_say_is_cut():
    assert line_of(ValueError("\n first.\nsecond")) == "first"
    assert line_of(ValueError()) == "ValueError"
    assert len(line_of(ValueError("long " * 100))) <= 200


class Unread(TorchProgram):
    def __init__(self, path):
        raise RuntimeError("no program")


def test_a_comparison_that_fails_is_no_full_disk(tmp_path, monkeypatch):
    monkeypatch.setitem(exporting.FORMATS, ".pt2", replace(FORMATS[".pt2"], opened=Unread))
    with pytest.raises(ValueError, match="a.pt2 cannot be compared with student: no program$"):
        fsc.export(Layer(), tmp_path / "a.pt2", torch.randn(6, 3, 8, 8))
    assert not list(tmp_path.iterdir())


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
