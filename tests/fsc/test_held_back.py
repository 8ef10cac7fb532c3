import warnings

import pytest
import torch
from branching import Gated, branching
from torch import Tensor, nn

import fsc
from fsc import models, schemes
from fsc.schemes.reasons import commonest


class Mixing(nn.Module):
    """A wide body whose channels a softmax mixes, between two narrow layers that are free."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.next = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 24, 1)
        self.body, self.last = nn.Conv2d(24, 48, 3, padding=1), nn.Conv2d(48, 24, 3, padding=1)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.next(torch.relu(self.stem(x))).softmax(1)
        x = self.last(self.body(x).softmax(1)).softmax(1)
        return self.head(x.mean((2, 3)))


def test_a_share_that_is_out_of_reach_is_said_before_the_work() -> None:
    model, images = Mixing().eval(), torch.randn(2, 3, 8, 8)
    scheme = schemes.structured(model, 0.5, images[:1])
    assert scheme.pruning_ratio == 0.5 and set(scheme.kept) == {"stem"}
    assert set(scheme.held_back) == {"next", "body", "last", "head"}
    begun: list[str] = []
    with pytest.warns(fsc.CompressionWarning) as caught:
        report = fsc.compress(
            model,
            images,
            method=fsc.FSKD(),
            scheme=scheme,
            progress=lambda what, done, total: begun.append(what),
        ).report
    sentence = next(str(w.message) for w in caught if "multiply-acc" in str(w.message))
    assert "where 50 % of the channels were asked for: 3 of 4 layers keep" in sentence
    assert "commonest reason, 3 times: channels of 'body' stay, because softmax mixes" in sentence
    reached = 100 * (1 - report.flops / report.flops_teacher)
    assert f"scheme removes {reached:.2g} % of" in sentence
    assert report.left == scheme.held_back and sentence in report.warnings


class Residual(Mixing):
    """The same, where the layers that are free go together."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self._rest(x + self.other(x.relu()))

    def _rest(self, x: Tensor) -> Tensor:
        x = self.next(torch.relu(x)).softmax(1)
        return self.head(self.last(self.body(x).softmax(1)).softmax(1).mean((2, 3)))


def test_of_layers_that_go_together_each_is_counted() -> None:
    model, images = Residual().eval(), torch.randn(2, 3, 8, 8)
    with pytest.warns(fsc.CompressionWarning, match="asked for: 3 of 5 layers keep all of them"):
        fsc.compress(model, images, method="l1", pruning_ratio=0.5)


def test_a_share_that_is_reached_is_not_commented(recwarn) -> None:
    model = models.build("resnet14").eval()
    images = torch.randn(2, 3, 16, 16)
    scheme = schemes.structured(model, 0.5, images[:1])
    report = fsc.compress(model, images, method=fsc.L1Norm(), scheme=scheme).report
    assert all("no better than a constant" in str(each.message) for each in recwarn)
    assert set(report.left) == {"linear"}


def test_the_squeeze_of_a_gate_is_held_back_and_so_is_the_output() -> None:
    held_back = schemes.structured(branching(Gated), 0.5, torch.zeros(1, 3, 8, 8)).held_back
    assert held_back == {
        "head.2": "they reach the output of the network",
        "mask": "one of them meets many others, as a mask over pixels does",
        "squeeze": "they are the squeeze of a gate, which costs little and decides much; named in "
        "pruning_ratio or in a scheme they can go",
    }


def test_what_is_ignored_is_held_back_for_that() -> None:
    scheme = schemes.structured(Mixing(), 0.5, torch.zeros(1, 3, 8, 8), ignored=["body"])
    assert "body" not in scheme.kept and scheme.held_back["body"] == "it is ignored"


def test_reasons_that_differ_in_names_and_numbers_are_one_kind() -> None:
    reasons = {
        "a": "layer 'a' is odd",
        "b": "got node 'add_1' (add)",
        "c": "got node 'add_2' (add)",
        "d": "got node 'cat' (cat)",
    }
    assert commonest(reasons) == "commonest reason, 2 times: got node 'add_1' (add)"


def test_a_share_that_rounds_to_nothing_is_said_without_a_reason() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    images = torch.randn(4, 3, 16, 16)
    scheme = schemes.structured(model, 0.01, images[:1])
    with pytest.warns(fsc.CompressionWarning, match="scheme removes 0 % .* were asked for$"):
        fsc.compress(model, images, method="l1", scheme=scheme)


class Remedied(nn.Module):
    """What keeps the channels of `stem` whole, or what its sentence says to do instead."""

    def __init__(self, kind: str, mended: bool) -> None:
        super().__init__()
        self.kind, self.mended = kind, mended
        self.stem, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1)
        self.first, self.second = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1)
        if kind == "shared" and not mended:
            self.second.weight = self.first.weight
        if kind == "norm":
            self.norm = nn.LayerNorm(6 if mended else (6, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.kind in ("twice", "shared"):
            again = self.first if self.kind == "twice" and not self.mended else self.second
            x = again(self.first(x))
        else:
            x = self.norm(x.movedim(1, -1)).movedim(-1, 1) if self.mended else self.norm(x)
        return self.head(x)


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("twice", "; give each call a copy of it"),
        ("shared", "; give it one of its own"),
        ("norm", "; one over channels alone can be cut"),
    ],
)
def test_what_a_sentence_says_to_do_frees_the_channels(kind: str, remedy: str) -> None:
    example = torch.randn(1, 3, 8, 8)
    before = fsc.inspect(Remedied(kind, mended=False).eval(), example).left["stem"]
    assert before.endswith(remedy)
    model = Remedied(kind, mended=True).eval()
    assert set(fsc.inspect(model, example).left) == {"head"} | (
        set() if kind in ("twice", "shared") else {"first", "second"}
    )
    assert fsc.compress(model, example, method="l1", pruning_ratio=0.5).report.kept["stem"]


def test_the_squeeze_of_a_gate_goes_where_it_is_named() -> None:
    model = branching(Gated)
    scheme = schemes.structured(model, {"squeeze": 0.5}, torch.zeros(1, 3, 8, 8))
    assert "named in pruning_ratio" in fsc.inspect(model, torch.zeros(1, 3, 8, 8)).left["squeeze"]
    assert scheme.kept["squeeze"] < model.get_submodule("squeeze").out_channels


def test_a_layer_that_is_called_twice_is_named_where_nothing_else_can_go():
    """As of a siamese network, whose encoder sees both inputs."""

    class Siamese(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
            self.mix, self.head = nn.Linear(8, 6), nn.Linear(6, 4)

        def forward(self, a, b):
            apart = self.encoder(a).mean((2, 3)) - self.encoder(b).mean((2, 3))
            return self.head(self.mix(apart).relu())

    torch.manual_seed(0)
    inputs = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    reason = "layer 'encoder.0' is called more than once; give each call a copy of it"
    with pytest.raises(ValueError, match=f"flops must be at least .*got 0.5; .*{reason}"):
        fsc.compress(Siamese(), inputs, method="cd-soft")
    with pytest.warns(fsc.CompressionWarning):
        report = fsc.compress(Siamese(), inputs, pruning_ratio=0.5, method="cd-soft").report
    assert reason in report.left["encoder.0"] and "encoder.2" in report.left


@pytest.mark.parametrize("asked", [{"flops": 0.999}, {"pruning_ratio": 0.5}])
def test_the_report_has_what_was_found_before_and_what_was_ignored(asked) -> None:
    torch.manual_seed(0)
    model, images = Mixing().eval(), torch.randn(4, 3, 8, 8)
    before = fsc.inspect(model, images).left
    assert set(before) == {"next", "body", "last", "head"}
    asked |= {"method": "l1"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fsc.CompressionWarning)
        assert fsc.compress(model, images, **asked, ignored=[nn.Linear]).report.left == {
            **before,
            "head": "it is ignored",
        }
        assert fsc.compress(model, images, **asked).report.left == before


def test_what_a_style_spares_is_told() -> None:
    model = models.build("resnet14")
    scheme = schemes.structured(model, 0.5, torch.zeros(1, 3, 16, 16), style="normal")
    assert "style='normal'" in scheme.held_back["layer1.0.conv2"]
    assert "layer1.0.conv1" not in scheme.held_back
