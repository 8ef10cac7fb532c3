import pytest
import torch
from networks import small
from torch import Tensor, nn

import fsc
from fsc import models, schemes
from fsc.schemes.reasons import commonest


class Gated(nn.Module):
    """Blocks joined by additions, with attention gates whose squeeze convolutions can be pruned."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.bodies = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(3))
        self.squeezes = nn.ModuleList(nn.Conv2d(16, 4, 1) for _ in range(3))
        self.widens = nn.ModuleList(nn.Conv2d(4, 16, 1) for _ in range(3))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for body, squeeze, widen in zip(self.bodies, self.squeezes, self.widens, strict=True):
            features = body(x)
            gate = torch.sigmoid(widen(torch.relu(squeeze(self.pool(features)))))
            x = torch.relu(x + features * gate)
        return self.head(self.pool(x).flatten(1))


def test_a_share_that_is_out_of_reach_is_said_before_the_work() -> None:
    model = Gated().eval()
    scheme = schemes.structured(model, 0.5)
    if set(scheme.kept) != {f"squeezes.{i}" for i in range(3)}:
        pytest.skip("more than the gates can be pruned")
    assert scheme.pruning_ratio == 0.5 and set(scheme.held_back) >= {"stem", "bodies.0"}
    begun: list[str] = []
    with pytest.warns(fsc.CompressionWarning) as caught:
        report = fsc.compress(
            model,
            torch.randn(2, 3, 8, 8),
            method=fsc.FSKD(),
            scheme=scheme,
            progress=lambda what, done, total: begun.append(what),
        ).report
    sentence = next(str(w.message) for w in caught if "multiply-acc" in str(w.message))
    assert "where 50 % of the channels were asked for: 7 of 10 convolutions keep" in sentence
    assert "commonest reason, " in sentence and "the output of layer" in sentence
    reached = 100 * (1 - report.flops / report.flops_teacher)
    assert f"scheme removes {reached:.2g} % of" in sentence
    assert report.held_back == scheme.held_back and sentence in report.warnings


def test_a_share_that_is_reached_is_not_commented(recwarn) -> None:
    model = models.build("resnet14").eval()
    images = torch.randn(2, 3, 16, 16)
    scheme = schemes.structured(model, 0.5)
    report = fsc.compress(model, images, method=fsc.L1Norm(), scheme=scheme).report
    assert not recwarn.list and report.held_back


def test_nothing_to_prune_names_the_commonest_reason() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1, groups=4), nn.Conv2d(4, 4, 1))
    with pytest.raises(ValueError) as caught:
        schemes.structured(model, 0.5)
    assert str(caught.value).startswith(
        "structured: model must have a convolution that can lose output channels, got none among "
        "3; commonest reason, 2 times: layer '0' and its consumers must not be grouped, got 4"
    )


def test_a_reader_that_is_no_convolution_is_a_reason() -> None:
    held_back = schemes.structured(models.build("vgg16"), 0.5).held_back
    assert list(held_back.values()) == [
        "layer 'features.40' must be read by a convolution, got Linear 'classifier'"
    ]


def test_what_is_ignored_is_not_held_back() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), *small()[1:])
    model[5] = nn.Conv2d(8, 8, 3)
    scheme = schemes.structured(model, 0.5, ignored=["6"])
    assert "6" not in scheme.kept and "6" not in scheme.held_back


def test_reasons_that_differ_in_names_and_numbers_are_one_kind() -> None:
    reasons = {
        "a": "layer 'a' is odd",
        "b": "got node 'add_1' (add)",
        "c": "got node 'add_2' (add)",
        "d": "got node 'cat' (cat)",
    }
    assert commonest(reasons) == "commonest reason, 2 times: got node 'add_1' (add)"
