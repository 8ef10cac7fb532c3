import json

import numpy as np
import pytest
import torch
from networks import chain
from torch import Tensor, nn

import fsc
from fsc import models, schemes
from fsc.networks import checkpoint
from fsc.schemes import Scheme

SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})
METHODS = [fsc.L1Norm(), fsc.CrossDistillation(), fsc.FSKD(solve_on=20), fsc.MiR(steps=2)]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_report_states_what_was_done_and_is_plain_json(method: fsc.methods.Method) -> None:
    teacher, images = chain(), torch.randn(4, 3, 8, 8)
    report = fsc.compress(teacher, images, method=method, scheme=SCHEME, seed=7).report
    stated = json.loads(json.dumps(report.to_dict()))
    assert stated["method"] == type(method).__name__
    assert (stated["scheme"], stated["num_images"], stated["seed"]) == ("half", 4, 7)
    assert 0 < stated["parameters"] < stated["parameters_teacher"]
    assert 0 < stated["flops"] < stated["flops_teacher"]
    assert {name: len(kept) for name, kept in stated["kept"].items()} == SCHEME.kept
    assert stated["versions"]["torch"] == torch.__version__
    assert stated["versions"]["numpy"] == np.__version__
    assert {"python", "fsc", "fsc_ext", "numpy"} <= stated["versions"].keys()


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_saved_students_load_as_they_were(method: fsc.methods.Method, tmp_path) -> None:
    teacher = models.build("resnet20").eval()
    images = torch.randn(4, 3, 16, 16)
    scheme = schemes.named("res-50", "resnet20")
    student = fsc.compress(teacher, images, method=method, scheme=scheme).student
    checkpoint.save(student, tmp_path / "student.safetensors", name="resnet20", metadata={})
    loaded = fsc.load(tmp_path / "student.safetensors")
    assert loaded.layer1[0].conv1.out_channels == 9
    with torch.no_grad():
        assert torch.equal(loaded(images), student(images))


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_every_training_flag_of_the_teacher_is_restored(method: fsc.methods.Method) -> None:
    teacher = chain().train()
    teacher.bn1.eval()
    teacher.conv3.eval()
    before = {name: module.training for name, module in teacher.named_modules()}
    fsc.compress(teacher, torch.randn(2, 3, 8, 8), method=method, scheme=SCHEME)
    assert {name: module.training for name, module in teacher.named_modules()} == before


def test_a_stem_that_is_declared_late_tells_the_channels() -> None:
    class LateStem(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Conv2d(8, 4, 1)
            self.stem = nn.Conv2d(3, 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.relu(self.stem(x)))

    scheme = Scheme("half", {"stem": 4})
    images = torch.randn(2, 3, 8, 8)
    student = fsc.compress(LateStem(), images, method=fsc.L1Norm(), scheme=scheme).student
    assert student.last.in_channels == 4
    with pytest.raises(ValueError, match="3 input channels of the network, got 8"):
        fsc.compress(LateStem(), torch.randn(2, 8, 8, 8), method=fsc.L1Norm(), scheme=scheme)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"method": fsc.CrossDistillation}, "method must be one of .*, got <class"),
        ({"method": 1}, r"e\.g\. fsc\.CrossDistillation\(\), or its name, .* got 1"),
        ({"scheme": {"conv1": 4}}, r"scheme must be one of fsc\.schemes, .* got {'conv1': 4}"),
        (
            {"images": [[0.0]]},
            "images must come as tensors, alone or before their labels, got float",
        ),
        ({"batch_size": "64"}, "batch_size must be an integer, got '64'"),
        ({"memory_budget": 1e6}, "memory_budget must be an integer, got 1000000.0"),
        ({"seed": None}, "seed must be an integer, got None"),
    ],
)
def test_arguments_of_another_type_are_refused(change: dict, sentence: str) -> None:
    arguments = {"images": torch.randn(2, 3, 8, 8), "method": fsc.L1Norm(), "scheme": SCHEME}
    with pytest.raises(TypeError, match=sentence):
        fsc.compress(chain(), **(arguments | change))


def _with(value: float) -> Tensor:
    images = torch.randn(2, 3, 8, 8)
    images[0, 0, 0, 0] = value
    return images


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (torch.randn(3, 8, 8), r"must be floating point \[N, C, H, W\] .* got .* \[3, 8, 8\]"),
        (torch.randn(0, 3, 8, 8), r"\[N, C, H, W\] with N at least 1"),
        (torch.randn(2, 1, 8, 8), "must have the 3 input channels of the network, got 1"),
        (torch.randn(2, 3, 8, 8).double(), "must have the dtype of the network, torch.float32"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "must be floating point .* got torch.uint8"),
        (_with(float("nan")), "must be finite, got NaN or Inf in image 0"),
        (_with(float("inf")), "must be finite, got NaN or Inf in image 0"),
    ],
)
def test_unfit_images_are_refused(images: Tensor, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"compress: images .*{sentence}"):
        fsc.compress(chain(), images, method=fsc.L1Norm(), scheme=SCHEME)


def test_unfit_arguments_are_refused() -> None:
    images = torch.randn(2, 3, 8, 8)

    def attempt(teacher: object = None, **changed: object) -> None:
        arguments = {"method": fsc.L1Norm(), "scheme": SCHEME, **changed}
        fsc.compress(chain() if teacher is None else teacher, images, **arguments)

    with pytest.raises(TypeError, match=r"teacher must be a torch\.nn\.Module, got str"):
        attempt("resnet56")
    with pytest.raises(
        ValueError, match="a layer that can lose channels, a convolution or Linear, got"
    ):
        attempt(nn.ReLU())
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        attempt(batch_size=0)
    with pytest.raises(ValueError, match="memory_budget must be at least 0 bytes or None, got -1"):
        attempt(memory_budget=-1)
    with pytest.raises(ValueError, match="conv9"):
        attempt(scheme=Scheme("odd", {"conv9": 2}))
    with pytest.raises(ValueError, match="conv1"):
        attempt(scheme=Scheme("odd", {"conv1": 9}))
    scattered = chain()
    scattered.conv2.to("meta")
    with pytest.raises(ValueError, match=r"one device and hold values, got .* conv2\.\w+ on meta"):
        attempt(scattered)
    broken = chain()
    with torch.no_grad():
        broken.conv2.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"finite weights, got NaN or Inf in conv2\.weight"):
        attempt(broken)


def test_methods_and_schemes_by_name(tmp_path) -> None:
    teacher, images = models.build("resnet14").eval(), torch.randn(2, 3, 16, 16)
    found = fsc.compress(teacher, images, method="l1", scheme="res-70").report
    assert found.scheme == "res-70"
    found_soft = fsc.compress(teacher, images, method="cd-soft", scheme="res-50").report
    soft = {"type": "Soft", "alpha": 0.9, "beta": 0.5}
    assert found_soft.hyper_parameters["objective"] == soft
    scheme = schemes.find("res-70", teacher, images[:1])
    assert {n: len(kept) for n, kept in found.kept.items()} == scheme.kept
    path = tmp_path / "mine.json"
    path.write_text('{"name": "mine", "kept": {"conv1": 4}}')
    for scheme in (path, str(path)):
        report = fsc.compress(chain(), torch.randn(2, 3, 8, 8), method="l1", scheme=scheme).report
        assert (report.method, report.scheme) == ("L1Norm", "mine")
    report = fsc.compress(chain(), torch.randn(4, 3, 8, 8), method="cd-convex", scheme=path).report
    assert report.hyper_parameters["objective"] == {"type": "Convex", "mu": 0.9}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"method": "cd"},
            r"method must be one of seconds, default, .* or one of fsc\.methods, got 'cd'",
        ),
        ({"scheme": "res50"}, "scheme must be one of res-50, .* path of a JSON file, got 'res50'"),
        ({"scheme": "res-50"}, "one of sparse-50, .*, which fit Chain, or .*, got 'res-50'"),
    ],
)
def test_unknown_and_unfit_names_are_refused(arguments: dict, sentence: str) -> None:
    given = {"method": "l1", "scheme": SCHEME} | arguments
    with pytest.raises(ValueError, match=sentence):
        fsc.compress(chain(), torch.randn(2, 3, 8, 8), **given)


def test_names_in_any_collection_are_reported_in_one_order() -> None:
    method = fsc.CrossDistillation(crossing={"conv3", "conv2"})
    assert method == fsc.CrossDistillation(crossing=["conv2", "conv3"])
    assert method.crossing == ("conv2", "conv3")


def test_an_untraceable_model_is_named() -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    model = nn.Sequential(nn.Conv2d(3, 4, 1), Branch(), nn.Conv2d(4, 4, 1)).eval()
    with pytest.raises(ValueError, match=r"\b1\b.*control flow"):
        fsc.compress(
            model,
            torch.randn(2, 3, 8, 8),
            method=fsc.CrossDistillation(),
            scheme=Scheme("s", {"0": 2}),
        )


def test_a_parametrized_layer_is_compressed_as_what_it_computes() -> None:
    teacher, images = chain(), torch.randn(2, 3, 8, 8)
    nn.utils.parametrizations.weight_norm(teacher.conv3)
    result = fsc.compress(teacher, images, method=fsc.L1Norm(), scheme=SCHEME)
    assert "weight" in result.student.conv3._parameters
    assert result.student.conv3.weight.shape == (6, 5, 1, 1)
    assert [(r.name, r.was) for r in result.report.rewritten] == [("conv3", "WeightNorm")]
    assert nn.utils.parametrize.is_parametrized(teacher.conv3)
