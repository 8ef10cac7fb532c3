"""Convolutions as depthwise and pointwise ones: the sum, the layers, the students."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fsc
from fsc import models, schemes
from fsc.networks import cost, decoupling, tensor_files
from fsc.networks.decoupling import decoupled, decoupled_of, energy_lost
from fsc.schemes import Decoupling

pytestmark = pytest.mark.filterwarnings("ignore::fsc.CompressionWarning")

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
_LAYERS = {
    "plain": nn.Conv2d(5, 4, 3, padding=1, dtype=torch.float64),
    "few filters": nn.Conv2d(3, 2, 5, stride=2, padding=2, bias=False, dtype=torch.float64),
    "same": nn.Conv2d(4, 6, (1, 3), padding="same", dilation=2, dtype=torch.float64),
    "reflecting": nn.Conv2d(
        2, 9, (5, 3), (2, 1), (3, 1), padding_mode="reflect", dtype=torch.float64
    ),
}


@pytest.mark.parametrize("kind", _LAYERS)
def test_all_terms_give_the_convolution(kind: str) -> None:
    layer = _LAYERS[kind]
    image = torch.randn(2, layer.in_channels, 9, 8, dtype=torch.float64)
    taps = layer.kernel_size[0] * layer.kernel_size[1]
    with torch.no_grad():
        torch.testing.assert_close(decoupled(layer, taps)(image), layer(image), rtol=0, atol=1e-12)


def test_fewer_terms_lose_what_the_singular_values_say() -> None:
    layer = nn.Conv2d(4, 12, 3, dtype=torch.float64)
    for terms in range(1, 9):
        made = decoupled(layer, terms)
        filters = made.depthwise.weight.view(4, terms, 9)
        factors = made.pointwise.weight.view(12, 4, terms)
        with torch.no_grad():
            sums = torch.einsum("oit,itk->oik", factors, filters)
            squares = torch.linalg.svdvals(layer.weight.flatten(2).transpose(0, 1)).square()
            lost = float((sums - layer.weight.flatten(2)).square().sum())
        assert lost == pytest.approx(float(squares[:, terms:].sum()), rel=1e-9)
        share = energy_lost(layer, terms)
        assert share == pytest.approx(lost / float(layer.weight.square().sum()), rel=1e-9)


@pytest.mark.parametrize(
    ("layer", "terms", "sentence"),
    [
        (nn.Conv2d(4, 4, 3, groups=2), 1, "must have one group to be decoupled, got 2"),
        (nn.Conv2d(4, 4, 3), 10, "terms must be from 1 to 9, the taps of the kernel, got 10"),
        (nn.Conv2d(4, 4, 3), 0, "terms must be from 1 to 9, the taps of the kernel, got 0"),
    ],
)
def test_layers_that_cannot_be_decoupled(layer: nn.Conv2d, terms: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        decoupled(layer, terms)


class Mixed(nn.Module):
    """Layers of every kind that matters here."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.twice = nn.Conv2d(16, 16, 3, padding=1)
        self.narrow = nn.Conv2d(16, 2, 3, padding=1)
        self.pointwise = nn.Conv2d(2, 16, 1)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.grouped(self.body(self.stem(x)).relu()).relu()).relu()
        x = self.pointwise(self.narrow(self.twice(self.twice(x).relu()).relu())).relu()
        return self.head(x.mean((2, 3)))


def test_layers_that_stay_whole_have_a_reason() -> None:
    torch.manual_seed(0)
    teacher = Mixed().eval()
    scheme = Decoupling(terms=2)
    report = fsc.compress(teacher, IMAGES, method="l1", scheme=scheme).report
    assert report.decoupled == {"body.0": 2} and report.scheme == "decoupled-2"
    assert report.left == {
        "stem": "'stem' stays whole: it reads the network's input",
        "grouped": "'grouped' stays whole: it has 2 groups",
        "twice": "'twice' stays whole: layer 'twice' is called more than once; give each call a "
        "copy of it",
        "narrow": "'narrow' stays whole: decoupled it would cost more",
    }
    report = fsc.compress(
        teacher, IMAGES, method="l1", scheme=Decoupling(terms=2, first=True, ignored=["body"])
    ).report
    assert report.decoupled == {"stem": 2} and "body.0" not in report.left


def test_one_mixed_gives_two_terms_where_more_is_lost() -> None:
    torch.manual_seed(0)
    teacher = models.build("resnet14").eval()
    terms = fsc.compress(teacher, IMAGES, method="l1", scheme=Decoupling("1mix")).report.decoupled
    lost = {name: energy_lost(teacher.get_submodule(name), 1) for name in terms}
    single = [lost[name] for name in terms if terms[name] == 1]
    double = [lost[name] for name in terms if terms[name] == 2]
    assert len(single) == len(double) == 6
    assert max(single) <= min(double)


@pytest.mark.parametrize(
    "method",
    [
        fsc.L1Norm(),
        fsc.MiR(steps=2, learning_rate=1e-5),
        fsc.KD(steps=2, learning_rate=1e-5),
        fsc.FitNet(steps=2, learning_rate=1e-5, hint_learning_rate=1e-5),
        fsc.BackProp(steps=2, learning_rate=1e-5),
        fsc.SolveThenTrain(train=fsc.MiR(steps=2, learning_rate=1e-5)),
        fsc.FSKD(solve_on=8),
        fsc.SolveThenTrain(fsc.CrossDistillation(solve_on=8), train=None),
    ],
)
def test_students_are_trained_saved_and_loaded(method: object, tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = models.build("resnet14").eval()
    labels = torch.tensor([0, 1, 2, 3]) if isinstance(method, fsc.BackProp) else None
    result = fsc.compress(teacher, IMAGES, labels=labels, method=method, scheme=Decoupling(2))
    student, report = result.student, result.report
    assert report.decoupled == decoupled_of(student) and decoupled_of(teacher) == {}
    assert report.flops < report.flops_teacher and report.parameters < report.parameters_teacher
    assert isinstance(student.layer1[0].conv1.pointwise, nn.Conv2d)
    for path, name in ((tmp_path / "a.safetensors", "resnet14"), (tmp_path / "b.safetensors", "")):
        fsc.save(student, path, name=name)
        for loaded in (
            fsc.load(path) if name else fsc.load(path, model=teacher),
            fsc.load(path, model=student),
        ):
            with torch.no_grad():
                assert torch.equal(loaded(IMAGES), student(IMAGES))
            assert decoupled_of(loaded) == report.decoupled


def test_hints_where_a_stage_ends_in_a_decoupled_layer() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)]
    teacher = nn.Sequential(*layers, *head).eval()
    method = fsc.FitNet(steps=4, learning_rate=1e-4, hint_learning_rate=1e-4)
    student = fsc.compress(teacher, IMAGES, method=method, scheme=Decoupling(2)).student
    assert decoupled_of(student) == {"2": 2}


def test_a_student_can_be_pruned_and_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = models.build("resnet14").eval()
    student = fsc.compress(teacher, IMAGES, method="l1", scheme=Decoupling(2)).student
    smaller = fsc.compress(student, IMAGES, method="l1", pruning_ratio=0.5).student
    assert cost.parameters(smaller) < 0.5 * cost.parameters(student)
    fsc.save(smaller, tmp_path / "s.safetensors", name="resnet14")
    with torch.no_grad():
        assert torch.equal(fsc.load(tmp_path / "s.safetensors")(IMAGES), smaller(IMAGES))


def test_alignment_recovers_what_the_terms_left_out() -> None:
    torch.manual_seed(0)
    teacher = models.build("resnet14").eval()
    images = torch.randn(40, 3, 16, 16)
    results = {
        method: fsc.compress(teacher, images, method=method, scheme=Decoupling(3))
        for method in ("l1", "fskd", "seconds")
    }
    distances = {method: result.report.distance for method, result in results.items()}
    assert distances["fskd"] < 0.5 * distances["l1"]
    assert distances["seconds"] == distances["fskd"]
    names = [layer.name for layer in results["fskd"].report.layers]
    assert "layer1.0.conv1.pointwise" in names and "layer1.0.conv1.depthwise" not in names


@pytest.mark.parametrize("method", [fsc.CrossDistillation(), fsc.ThiNet(), fsc.Grail()])
def test_layerwise_methods_say_who_takes_decoupled_layers(method: object) -> None:
    with pytest.raises(ValueError, match="must leave every layer whole .* and L1Norm take it"):
        fsc.compress(models.build("resnet14"), IMAGES, method=method, scheme=Decoupling())


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ({"terms": 0}, ValueError, "terms must be at least 1, got 0"),
        ({"terms": "2mix"}, ValueError, "must be an integer, '1mix' or a dict of layers, got"),
        ({"terms": 1.5}, TypeError, "must be an integer, '1mix' or a dict of layers, got 1.5"),
        ({"terms": True}, TypeError, "must be an integer, '1mix' or a dict of layers, got True"),
        ({"terms": {}}, ValueError, "terms must name a layer, got none"),
        ({"terms": {"a": "1mix"}}, ValueError, "terms must be an integer, got '1mix'"),
        ({"terms": {"a": 1}, "ignored": ["b"]}, ValueError, "ignored must not be given beside"),
        ({"ignored": "head"}, TypeError, "ignored must be a list of names, patterns or types"),
        ({"terms": 2, "name": 3}, TypeError, "name must be a text, got 3"),
        ({"first": 1}, TypeError, "first must be True or False, got 1"),
    ],
)
def test_schemes_that_make_no_sense(given: dict, error: type, sentence: str) -> None:
    with pytest.raises(error, match=f"Decoupling: .*{sentence}"):
        Decoupling(**given)


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ({"body.0": 10}, "terms of 'body.0' must be at most 9, the taps of its kernel, got 10"),
        ({"head": 2}, "layer 'head' must be a 2-D convolution .* got Linear"),
        ({"nowhere": 2}, "layer 'nowhere' must be a 2-D convolution .* got none"),
        ({"grouped": 2}, "layer 'grouped' must be one that can go: .* it has 2 groups"),
        (8, "model must have convolutions .* cheaper .* got none; commonest reason"),
    ],
)
def test_schemes_that_do_not_fit(terms: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"scheme 'decoupled.*': {sentence}"):
        schemes.check(Decoupling(terms), Mixed(), IMAGES[:1])


def test_schemes_from_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"

    def read(**content: object) -> object:
        path.write_text(json.dumps({"name": "mine", "kind": "decoupled", **content}))
        return schemes.find(path, Mixed(), IMAGES[:1])

    assert read(terms=3) == Decoupling(3, name="mine")
    assert read(terms={"body.0": 4}) == Decoupling({"body.0": 4}, name="mine")
    assert read(terms="1mix", ignored=["stem"], first=True).first
    for content, sentence in (
        ({"terms": 2.5}, "terms must be an integer, '1mix' or a dict of layers, got 2.5"),
        ({"count": 2}, "a decoupled scheme must hold terms, ignored, first, got count"),
    ):
        with pytest.raises(ValueError, match=sentence):
            read(**content)


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (["layer1.0.conv1"], "decoupled in the header must map layers to integers"),
        ({"layer1.0.conv1": "2"}, "decoupled in the header must map layers to integers"),
        ({"nowhere": 2}, "layer 'nowhere' must be a Conv2d to be decoupled, got none"),
        ({"layer1.0.conv1": 10}, "terms must be from 1 to 9"),
    ],
)
def test_damaged_headers_get_one_sentence(header: object, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    fsc.save(models.build("resnet14"), path, name="resnet14")
    tensors, before = tensor_files.read_tensors(path)
    before.pop("sha256")
    tensor_files.write_tensors(path, tensors, before | {"decoupled": header})
    with pytest.raises(ValueError, match=sentence):
        fsc.load(path)


def test_named_students_share_settings() -> None:
    layer = nn.Conv2d(4, 16, 3).requires_grad_(False).eval()
    made = decoupling.decoupled(layer, 2)
    assert not made.training and not any(p.requires_grad for p in made.parameters())
