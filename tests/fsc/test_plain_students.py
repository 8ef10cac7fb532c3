"""Networks with rewritten layers: compressed, saved, loaded, and called by either name."""

import pytest
import torch
from foreign_layers import (
    IMAGES,
    CastingLinear,
    DropPath,
    FrozenNorm,
    NormInside,
    SameConv,
    network,
)
from torch import nn
from torch.nn.utils import parametrizations

import fsc
from fsc.networks.plain import plain
from fsc.schemes import Scheme, SparseScheme, structured


def test_a_network_of_another_library_is_compressed_saved_and_loaded(tmp_path) -> None:
    def build() -> nn.Sequential:
        first = parametrizations.weight_norm(nn.Conv2d(6, 8, 3))
        torch.manual_seed(3)
        return network(
            NormInside(6), first, FrozenNorm(8), DropPath(), SameConv(8, 4, 3, stride=2),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), CastingLinear(4, 5),
        )  # fmt: skip

    teacher, scheme = build(), Scheme("half", {"0": 3, "2": 4})
    result = fsc.compress(teacher, IMAGES, method=fsc.CrossDistillation(), scheme=scheme)
    assert all(type(m).__module__.startswith("torch.") for m in result.student.modules())
    was = [rewriting["was"] for rewriting in result.report.to_dict()["rewritten"]]
    assert was[:3] == ["WeightNorm", "NormInside", "FrozenNorm"]
    assert was[3:] == ["DropPath", "SameConv", "CastingLinear"]
    assert structured(teacher, 0.5, IMAGES).kept == {"0": 3, "2": 4, "5.convolution": 2}

    fsc.save(result.student, tmp_path / "student.safetensors", name="")
    loaded = fsc.load(tmp_path / "student.safetensors", build())
    assert loaded[2].out_channels == 4
    with torch.no_grad():
        assert torch.equal(loaded(IMAGES), result.student(IMAGES))


@pytest.mark.parametrize("shapes", [[], [[2, 0, 3]], ["3"], 7, [2, 3, 10**9, 8], {"x": [1.5]}])
def test_damaged_shapes_in_a_file_are_refused(shapes: object, tmp_path) -> None:
    student = plain(network(NormInside(6)), IMAGES)
    student.fsc_plain["shapes"] = shapes
    fsc.save(student, tmp_path / "student.safetensors", name="")
    with pytest.raises(ValueError, match=r"student\.safetensors: plain in the header: shapes must"):
        fsc.load(tmp_path / "student.safetensors", network(NormInside(6)))


def rewritten_stem() -> nn.Module:
    stem = SameConv(3, 6, 3, stride=2)
    return nn.Sequential(stem, nn.ReLU(), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 4, 1)).eval()


@pytest.mark.parametrize("of", ["user", "report"])
def test_a_layer_goes_by_the_users_name_and_by_that_of_the_report(of: str) -> None:
    model, images = rewritten_stem(), IMAGES
    printed = fsc.inspect(model, images).groups[0].name
    assert printed != "0"  # else there is nothing to test
    name = "0" if of == "user" else printed
    asked = {"images": images, "method": "l1"}
    report = fsc.compress(model, pruning_ratio=0.5, ignored=[name], **asked).report
    assert set(report.kept) == {"2"} and report.left[printed] == "it is ignored"
    for given in (
        {"pruning_ratio": {name: 0.5}},
        {"scheme": Scheme("mine", {name: 3})},
    ):
        kept = fsc.compress(model, **given, **asked).report.kept
        assert {layer: len(rows) for layer, rows in kept.items()} == {printed: 3}
    student = fsc.compress(
        model, scheme=SparseScheme("mine", {name: 30}), images=images, method="cd-soft"
    ).student
    assert student.get_submodule(printed).weight.count_nonzero() == 30


def test_a_name_of_several_layers_is_none_of_them() -> None:
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 6, 3)), nn.Conv2d(6, 4, 3)).eval()
    with pytest.raises(ValueError, match="layer '0' must be one that makes channels, got Seq"):
        fsc.compress(model, torch.randn(2, 3, 12, 12), pruning_ratio={"0": 0.5})
