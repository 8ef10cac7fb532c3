"""A report printed: about ten lines in users' words, the same as a table, and a short repr."""

import pytest
import torch
from torch import nn
from well_formed import Page

import fsc
from fsc import models, schemes
from fsc.networks.layer_changes import LayerChange, layer_changes
from fsc.report import summary

pytestmark = pytest.mark.usefixtures("one_thread")


def report_of(**given):
    torch.manual_seed(0)
    teacher, images = models.build("resnet14").eval(), torch.randn(5, 3, 16, 16)
    return fsc.compress(teacher, images, **given).report


def lines_of(report):
    return [line.split("  ", 1)[0] for line in str(report).splitlines()]


def test_says_what_was_done_in_about_ten_lines():
    report = report_of(method="cd-nc", pruning_ratio=0.5)
    told = str(report)
    assert len(told.partition("\nwarning ")[0].splitlines()) <= 10
    assert "method                cd-nc, from 5 images, in " in told
    assert "50 % of the channels of every set were to go" in told
    assert f"{report.parameters_teacher:,} -> {report.parameters:,} (" in told
    changed = [each for each in report.changes if each.channels < each.channels_teacher]
    gone = sum(each.channels_teacher - each.channels for each in changed)
    assert f"{len(changed)} of {len(report.changes)} lose channels, {gone} of 474 go" in told
    worst = max(report.layers, key=lambda layer: layer.relative_error)
    assert f"{worst.relative_error:.3g} of {worst.name}'s outputs" in told
    assert f"{report.distance:.3g} of the variance of the teacher's" in told


def test_a_method_without_a_name_is_called_by_its_class():
    report = report_of(method=fsc.L1Norm(), pruning_ratio=0.5)
    assert "method                L1Norm, from 5 images, in " in str(report)
    assert (report.method, report.method_name) == ("L1Norm", "")
    asked = report_of(method="l1", pruning_ratio=0.5)
    assert (asked.method, asked.method_name) == ("L1Norm", "l1")


def test_a_table_says_the_same():
    report = report_of(method="l1", pruning_ratio=0.5)
    page = Page(report._repr_html_())
    told = [tuple(cells) for cells in page.rows]
    assert told == summary.lines(report.to_dict())
    text = " ".join(str(report).split())  # where lines are broken plays no part
    assert all(what in text and said in text for what, said in told)


def test_the_repr_is_as_long_for_any_network():
    report = report_of(method="cd-nc", pruning_ratio=0.5)
    assert repr(report).startswith("Report(method='CrossDistillation', ")
    assert len(repr(report)) < 2500
    assert not {"layers=", "kept=", "changes="} & set(repr(report).split())


def test_weights_blocks_and_two_layers_have_lines_of_their_own():
    assert "not zero" in lines_of(report_of(method="l1", scheme="sparse-90"))
    dropped = report_of(method="l1", scheme=schemes.DropBlocks(blocks=["layer1.1"]))
    assert "blocks gone           layer1.1" in str(dropped)
    split = report_of(method="l1", scheme=schemes.Decoupling(terms={"layer3.1.conv1": 2}))
    assert "two layers each       1: layer3.1.conv1" in str(split)


def test_what_stays_and_warnings_are_told():
    report = report_of(method="l1", pruning_ratio=0.5).to_dict()
    report["left"] = {f"a{i}": "it is first" for i in range(5)} | {"b": "it\nis last"}
    report["warnings"] = ["images are all the same\nand grey"]
    told = summary.as_text(report)
    assert "stays                 a0, a1, a2 and 2 more: it is first" in told
    assert "b: it is last" in told
    assert "warning               images are all the same and grey" in told
    report["left"] = {str(i): f"reason {i}" for i in range(9)}
    assert (
        "stays                 0: reason 0; and 8 more likewise, in report.left"
        in summary.as_text(report)
    )
    report["left"] = {each * 3: f"reason {each}" for each in "abcdefghi"}
    assert "stays                 and 6 more, in report.left" in summary.as_text(report)


def test_no_line_is_longer_than_a_hundred_characters_and_no_name_stands_twice():
    report = report_of(method="l1", pruning_ratio=0.5).to_dict()
    names = [f"features.denseblock{i}.layer{i}.conv" for i in range(40)]
    long = "what it gives is read by an operation whose channels nothing here can follow, " * 4
    report["left"] = {name: f"{name!r} stays whole: {long}" for name in names}
    report["warnings"] = [f"the rate was halved in {', '.join(names)}"]
    told = summary.as_text(report)
    assert max(map(len, told.splitlines())) <= 100
    (stays,) = [said for what, said in summary.lines(report) if what == "stays"]
    assert stays.count(names[0]) == 1 and names[1] not in stays
    assert stays.endswith("; and 39 more likewise, in report.left")


@pytest.mark.parametrize(
    ("scheme", "words"),
    [
        ("parameters-0.25", "25 % of the parameters were to stay"),
        ("structured-30", "30 % of the channels of every set were to go"),
        ("slimming-60", "60 % of the sets of channels were to go"),
        ("blocks-1", "1 residual block was to go"),
        ("blocks-2", "2 residual blocks were to go"),
        ("latency-80", "blocks were to go until 80 % of the latency stay"),
        ("sparse-90", "the scheme sets 90 % of the weights of every convolution to zero"),
        ("w2a4", "the scheme writes the weights of convolutions on 2 bits, and what convolutions "
         "read on 4"),
        ("mine", ""),
    ],
)  # fmt: skip
def test_schemes_in_words(scheme, words):
    assert summary.asked(scheme) == words
    assert summary.asked(scheme, "timm:resnet18") == words


def test_a_published_scheme_is_said_of_its_network():
    assert "most residual blocks" in summary.asked("res-50", "resnet56")
    assert summary.asked("res-50") == ""


def test_changes_of_layers_before_and_after():
    before = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Linear(4, 2), nn.Linear(2, 2))
    after = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Linear(2, 2), nn.Identity())
    with torch.no_grad():
        for layer in (*before, *after):
            for value in layer.parameters():
                value.fill_(1.0)
        before[0].weight[0, 0] = after[2].weight[0, 0] = 0.0
    assert layer_changes(before, after) == [
        LayerChange("0", 4, 2, 12, 6, 6),
        LayerChange("2", 2, 2, 8, 4, 3),
        LayerChange("3", 2, 0, 4, 0, 0),
    ]
