"""Networks that nothing can be made of, and what is said: those that draw, or lack sizes."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fsc
from fsc.networks import cost
from fsc.walking.visitor import Visitor

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
Step = Callable[[Tensor], Tensor]


class Stepping(nn.Module):
    """Two convolutions with a step between them."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 8, 3), nn.Linear(8, 5)
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.b(self.step(self.a(x)))).mean((2, 3)))


DRAWING: dict[str, Step] = {
    "dropout": F.dropout,
    "dropout2d": F.dropout2d,
    "alpha_dropout": lambda x: F.alpha_dropout(x, training=True),
    "feature_alpha_dropout": lambda x: F.feature_alpha_dropout(x, training=True),
    "rrelu": lambda x: F.rrelu(x, training=True),
    "rand_like": lambda x: x + torch.rand_like(x),
    "randn": lambda x: x + torch.randn(x.shape),
    "bernoulli": lambda x: x * torch.bernoulli(torch.full_like(x, 0.5)),
    "normal_": lambda x: x + torch.empty_like(x).normal_(),
    "gumbel_softmax": lambda x: F.gumbel_softmax(x, dim=1),
    "poisson": lambda x: torch.poisson(x.abs()),
    "randperm": lambda x: x[:, torch.randperm(16)],
    "python": lambda x: x * random.random(),
}


@pytest.mark.parametrize("name", DRAWING)
def test_a_network_that_draws_in_evaluation_mode_is_told_so(name: str) -> None:
    network = Stepping(DRAWING[name]).eval()
    said = "model must give the same outputs for the same images in evaluation mode, got .*"
    said += r" draws random numbers; F\.dropout and its like .* training=self\.training$"
    with pytest.raises(ValueError, match=rf"^inspect: {said}"):
        fsc.inspect(network, IMAGES)
    with pytest.raises(ValueError, match=rf"^compress: {said}"):
        fsc.compress(network, IMAGES, method="l1")


def test_a_scheme_of_a_network_that_draws_is_refused_too() -> None:
    network = Stepping(F.dropout)
    with pytest.raises(ValueError, match=r"^structured: model must give the same outputs for "):
        fsc.schemes.structured(network, 0.5, IMAGES)
    with pytest.raises(ValueError, match=r"^slimming: model must give the same outputs for "):
        fsc.schemes.slimming(network, 0.5, IMAGES)


def test_a_network_that_draws_in_training_alone_is_taken() -> None:
    class Dropping(Stepping):
        def forward(self, x: Tensor) -> Tensor:
            self.step = lambda x: F.dropout(x, training=self.training)
            return super().forward(x)

    assert fsc.inspect(Dropping(F.relu).train(), IMAGES).groups[0].frozen is None


def branching(x: Tensor) -> Tensor:
    if x.mean() > 0:
        return x
    return -x


def counting(x: Tensor) -> Tensor:
    return x if len(torch.nonzero(x)) > 3 else -x


@pytest.mark.parametrize("step", [branching, counting])
def test_a_forward_that_asks_for_values_gets_no_text_for_the_developers_of_torch(
    step: Step,
) -> None:
    with pytest.raises(ValueError, match=r"^inspect: model cannot be traced, ") as raised:
        fsc.inspect(Stepping(step).eval(), IMAGES)
    said = str(raised.value)
    assert said.endswith(
        "; torch.export fails with: what is done depends on the values of a tensor; make that "
        "forward free of control flow that depends on data, or move that part into a function "
        "marked with torch.fx.wrap"
    )
    assert not any(word in said for word in ("TORCH", "google", "draft_export"))


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3))


def known() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3))


@pytest.mark.parametrize(
    "call",
    [
        lambda: fsc.compress(lazy(), IMAGES),
        lambda: fsc.inspect(lazy(), IMAGES),
        lambda: fsc.plain(lazy(), IMAGES),
        lambda: fsc.walk(lazy(), known(), IMAGES, Visitor()),
        lambda: fsc.walk(known(), lazy(), IMAGES, Visitor()),
        lambda: fsc.prune_iteratively(lazy(), IMAGES, flops=0.5),
        lambda: fsc.FSKD().align(lazy(), known(), IMAGES),
        lambda: fsc.FSKD().align(known(), lazy(), IMAGES),
        lambda: fsc.MiR().mimic(lazy(), known(), IMAGES),
        lambda: fsc.MiR().mimic(known(), lazy(), IMAGES),
        lambda: fsc.schemes.structured(lazy(), 0.5, IMAGES),
        lambda: fsc.schemes.slimming(lazy(), 0.5, IMAGES),
        lambda: cost.flops(lazy(), IMAGES),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_lazy_layers_are_to_be_run_once(call: Callable[[], object]) -> None:
    said = r"must know the sizes of its layers, got 0\.weight without; run it once on an image befo"
    with pytest.raises(ValueError, match=said):
        call()
