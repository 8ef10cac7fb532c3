"""Network slimming: one threshold for all scales, and the channels that every method removes."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import fsc
from fsc import models, schemes
from fsc.models.densenet import densenet
from fsc.models.preactivation_resnet import preactivation_resnet
from fsc.schemes import Scheme, slimming

pytestmark = [
    pytest.mark.filterwarnings("ignore::fsc.CompressionWarning"),
    pytest.mark.usefixtures("one_thread"),
]

IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def _with_scales(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            size = len(module.weight)
            module.weight.data = 0.01 + 2 * torch.rand(size, generator=generator) - 1
            module.bias.data = torch.randn(size, generator=generator)
            module.running_var.data = 0.5 + torch.rand(size, generator=generator)
    return model.eval()


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in ((3, 8), (8, 12), (12, 10)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 4)]
    return _with_scales(nn.Sequential(*layers))


def _expected(model: nn.Sequential, ratio: float) -> dict[str, list[int]]:
    """As the paper has it, for a chain of convolutions."""
    scales = {str(i): model[i + 1].weight.detach().abs() for i in (0, 3, 6)}
    every = torch.cat(list(scales.values())).sort().values
    threshold = every[int(ratio * len(every)) - 1]
    kept = {name: (each > threshold).nonzero().flatten().tolist() for name, each in scales.items()}
    return {name: each for name, each in kept.items() if len(each) < len(scales[name])}


@pytest.mark.parametrize("ratio", [0.1, 0.6])
@pytest.mark.parametrize(
    "method",
    ["l1", "fskd", "seconds", "thinet", "channel-pruning", "grail", fsc.MiR(steps=2)],
    ids=str,
)
def test_every_method_removes_the_channels_of_smallest_scales(method: object, ratio: float) -> None:
    model = chain()
    scheme = slimming(model, ratio, IMAGES[:1])
    expected = _expected(model, ratio)
    assert {name: len(each) for name, each in expected.items()} == scheme.kept
    report = fsc.compress(model, IMAGES, method=method, scheme=scheme).report
    assert report.kept == expected
    assert report.scheme == f"slimming-{100 * ratio:g}"


@pytest.mark.parametrize(
    ("make", "method"),
    [
        (lambda: preactivation_resnet(20), "l1"),
        (lambda: densenet(13), "l1"),
        (lambda: densenet(13), "cd-nc"),
    ],
)
def test_channels_of_several_scales_go_where_all_are_small(make: object, method: str) -> None:
    torch.manual_seed(0)
    model = _with_scales(make())
    scheme = slimming(model, 0.6, IMAGES[:1])
    report = fsc.compress(model, IMAGES, method=method, scheme=scheme).report
    assert report.kept and set(report.left) == {"linear"}
    assert {name: len(rows) for name, rows in report.kept.items()}.items() >= scheme.kept.items()
    for name in scheme.kept:
        rows = torch.tensor(report.kept[name])
        if name.endswith("conv1") and name.startswith("layer"):
            scales = model.get_submodule(name.replace("conv1", "bn2")).weight.detach().abs()
            gone = torch.ones(len(scales), dtype=torch.bool)
            gone[rows] = False
            assert scales[gone].max() < scales[rows].min()


def test_the_stream_of_a_residual_network_has_the_largest_of_its_scales() -> None:
    torch.manual_seed(0)
    model = _with_scales(preactivation_resnet(20))
    norms = [model.layer3[0].bn1, model.layer2[1].bn1]  # all that read the stream of stage two
    for norm in norms:
        norm.weight.data.fill_(1e-6)
    norms[1].weight.data[5] = 3
    norms[0].weight.data[7] = 3
    scheme = slimming(model, 0.3, IMAGES[:1])
    report = fsc.compress(model, IMAGES, method="l1", scheme=scheme).report
    assert report.kept["layer2.0.conv3"] == [5, 7]
    assert report.kept["layer2.1.conv3"] == report.kept["layer2.0.downsample"] == [5, 7]


def test_one_channel_of_every_layer_stays() -> None:
    model = chain()
    model[4].weight.data = torch.linspace(1e-6, 1e-5, 12)
    scheme = slimming(model, 0.5, IMAGES[:1])
    assert scheme.kept["3"] == 1
    assert fsc.compress(model, IMAGES, method="l1", scheme=scheme).report.kept["3"] == [11]


def test_layers_without_scales_stay_and_are_said() -> None:
    model = chain()
    model[4] = nn.Identity()
    scheme = slimming(model, 0.5, IMAGES[:1], ignored=["0"])
    assert set(scheme.kept) == {"6"}
    assert scheme.held_back["3"] == "they pass no BatchNorm"


@pytest.mark.parametrize(
    ("change", "ratio", "error", "sentence"),
    [
        (None, 0, ValueError, "pruning_ratio must be above 0, got 0"),
        (None, 1.0, ValueError, "pruning_ratio must be at least 0 and below 1, got 1.0"),
        (None, "half", TypeError, "pruning_ratio must be a number, got 'half'"),
        (None, 0.01, ValueError, "must be at least 0.0333, one of the 30 channels .* got 0.01"),
        ("same", 0.5, ValueError, "BatchNorm scales that differ, got 1 everywhere"),
        ("gone", 0.5, ValueError, "must have BatchNorms with scales, got none"),
    ],
)
def test_what_cannot_be_slimmed(change: str, ratio: float, error: type, sentence: str) -> None:
    model = chain()
    for index in (1, 4, 7):
        if change == "same":
            model[index].weight.data.fill_(1)
        elif change == "gone":
            model[index] = nn.Identity()
    with pytest.raises(error, match=f"slimming: .*{sentence}"):
        slimming(model, ratio, IMAGES[:1])


def test_schemes_of_the_users_own_by_scale() -> None:
    model = chain()
    report = fsc.compress(
        model, IMAGES, method="l1", scheme=Scheme("s", {"3": 2}, chosen_by="scale")
    )
    expected = model[4].weight.detach().abs().topk(2).indices.sort().values.tolist()
    assert report.report.kept == {"3": expected}
    model[4] = nn.Identity()
    with pytest.raises(ValueError, match="channels of '3' must pass a BatchNorm .* got none"):
        schemes.check(Scheme("s", {"3": 2}, chosen_by="scale"), model, IMAGES[:1])
    with pytest.raises(ValueError, match="chosen_by must be method or scale, got 'size'"):
        schemes.check(Scheme("s", {"3": 2}, chosen_by="size"), model, IMAGES[:1])


def test_schemes_from_files(tmp_path: Path) -> None:
    model, path = chain(), tmp_path / "mine.json"
    content = {"name": "mine", "kind": "slimming", "pruning_ratio": 0.5, "ignored": ["0"]}
    path.write_text(json.dumps(content))
    found = schemes.find(path, model, IMAGES[:1])
    assert found.name == "mine" and found.chosen_by == "scale"
    assert found.kept == slimming(model, 0.5, IMAGES[:1], ["0"]).kept
    path.write_text(json.dumps(content | {"pruning_ratio": {"3": 0.5}}))
    with pytest.raises(ValueError, match="pruning_ratio must be a number, got {'3': 0.5}"):
        schemes.find(path, model, IMAGES[:1])


def test_published_networks_are_slimmed_as_they_are() -> None:
    torch.manual_seed(0)
    model = _with_scales(models.build("vgg13"))
    scheme = slimming(model, 0.5, IMAGES[:1])
    sizes = {n: m.out_channels for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    gone = sum(sizes[name] - count for name, count in scheme.kept.items())
    assert gone == sum(sizes.values()) // 2


def test_a_scheme_of_another_network_needs_scales_that_differ() -> None:
    scheme = slimming(chain(), 0.4, IMAGES[:1])
    other = chain()
    for module in other.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.fill_(1.0)
    with pytest.raises(
        ValueError, match="must have BatchNorm scales that differ, got 1 everywhere"
    ):
        fsc.compress(other, IMAGES, method="l1", scheme=scheme)
