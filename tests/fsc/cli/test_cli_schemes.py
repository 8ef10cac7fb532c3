"""`fsc schemes`: the published schemes beside the paper's tables."""

import json

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from fsc.cli import main
from fsc.cli.schemes import describe


@pytest.mark.parametrize(
    ("model", "scheme", "parameters", "macs"),
    [
        # Figures of Tables 10 and 11 that the schemes meet, to the rounding of the print and the
        # network's own differences: a hidden layer of 0.263 M less, one channel a layer more.
        ("vgg16", "", 14.99 - 0.263, 0.314),
        ("vgg16", "vgg-50", 4.53 - 0.263, 0.082),
        ("vgg16", "vgg-a", 6.11 - 0.263, 0.208),
        ("resnet34", "", 21.80, 3.68),
        ("resnet34", "res-30", 19.71, 2.97),
        ("resnet34", "res-50", 18.33, 2.51),
        ("resnet34", "res-70", 16.92, 2.05),
        ("resnet34", "res-70+", 12.79, 1.85),
        ("resnet56", "", 0.85, 0.127),
        ("resnet56", "res-50", 0.50, 0.072),
        ("resnet56", "res-60", 0.42, 0.059),
        ("resnet56", "res-70", 0.35, 0.048),
        ("resnet56", "res-90", 0.21, 0.028),
    ],
)
def test_sizes_beside_the_papers(model, scheme, parameters, macs):
    line = next(line for line in describe(model) if line.scheme == scheme)
    assert line.size.parameters / 1e6 == pytest.approx(parameters, abs=0.022)
    assert line.size.flops / 1e9 == pytest.approx(macs, abs=0.004, rel=0.008)


def test_every_scheme_is_listed_and_written(tmp_path):
    path = tmp_path / "schemes.json"
    path.write_text("of an earlier run")
    result = CliRunner().invoke(main, ["schemes", "--overwrite", "--json", str(path)])
    assert result.exit_code == 0, result.output
    for text in (
        "Schemes of vgg16",
        "Schemes of resnet56",
        "Schemes of resnet34",
        "Schemes of mobilenetv2",
        "prune-c-residual",
        "68.7 %",
        "vgg-c",
        "sparse-95",
        "2.92 M",
    ):
        assert text in result.output
    written = json.loads(path.read_text())["schemes"]
    sparse = next(w for w in written if w["scheme"] == "sparse-90" and w["model"] == "resnet56")
    assert sparse["parameters"] == 853_018
    assert sparse["nonzero"] < 0.11 * sparse["parameters"]
    style = next(w for w in written if w["scheme"] == "prune-d")
    assert (style["published"], style["published_left"]) == (None, [87.1, 78.4])


def test_sizes_need_no_weights_and_no_pass_for_each_scheme():
    passes = []
    before = torch.get_rng_state()
    hook = register_module_forward_pre_hook(
        lambda module, x: passes.append(1) if isinstance(module, nn.BatchNorm2d) else None
    )
    try:
        lines = describe("resnet20")
    finally:
        hook.remove()
    assert torch.equal(torch.get_rng_state(), before)
    layers = 19
    assert len(lines) == 9 and 0 < len(passes) <= 3 * layers


def test_networks_without_a_table_have_no_paper_columns():
    result = CliRunner().invoke(main, ["schemes", "--model", "resnet20"])
    assert result.exit_code == 0, result.output
    assert "res-50" in result.output and "paper" not in result.output
