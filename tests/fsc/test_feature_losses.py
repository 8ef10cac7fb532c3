"""MiR's losses of Table 7 beside plain formulas, and what training with each of them does."""

import pytest
import torch
from networks import chain
from torch import Tensor

import fsc
from fsc.methods.feature_losses import feature_loss
from fsc.methods.score_losses import Distillation, cross_entropy
from fsc.schemes import Scheme

SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})
RATES = {"sum": 1e-4, "lsh": 0.5}
ALL = ("mse", "l1", "cosine", "lsh", "sum", "mse+l1")


def _formula(name: str, s: Tensor, t: Tensor, every: Tensor) -> Tensor:
    """The docstring, written out; rows are pixels."""
    if name == "mse+l1":
        return _formula("mse", s, t, every) + _formula("l1", s, t, every)
    if name == "sum":
        return ((s - t) ** 2).sum() / len(s)
    s, t, every = (x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]) for x in (s, t, every))
    if name == "mse":
        return ((s - t) ** 2).sum() / s.numel()
    if name == "l1":
        return (s - t).abs().sum() / s.numel()
    if name == "cosine":
        return 1 - ((s * t).sum(1) / (s.norm(dim=1) * t.norm(dim=1))).sum() / len(s)
    directions = torch.randn(6, 24, generator=torch.Generator().manual_seed(7)).double()
    threshold = (every @ directions).median(0).values
    z, h = s @ directions - threshold, t @ directions > threshold
    p = 1 / (1 + (-z).exp())
    return -torch.where(h, p.log(), (1 - p).log()).mean()


@pytest.mark.parametrize("name", ALL)
def test_values_and_gradients_are_those_of_the_formula(name: str) -> None:
    torch.manual_seed(0)
    targets = torch.randn(2, 5, 6, 4, 3, dtype=torch.float64)  # [V, N, C, H, W]
    found = torch.randn(5, 6, 4, 3, dtype=torch.float64, requires_grad=True)
    own = feature_loss(name, [targets], seed=7)([found], [targets[0]])
    plain = _formula(name, found, targets[0], targets.flatten(0, 1))
    assert torch.allclose(own, plain, rtol=1e-12)
    gradients = [torch.autograd.grad(loss, found)[0] for loss in (own, plain)]
    assert torch.allclose(*gradients, rtol=1e-9, atol=1e-12)


def test_several_heads_are_averaged() -> None:
    targets = [torch.randn(2, 3, 4), torch.randn(2, 3, 5, 2, 2)]
    found = [torch.randn(3, 4), torch.randn(3, 5, 2, 2)]
    wanted = [each[1] for each in targets]
    alone = [
        feature_loss("l1", [t], 0)([f], [w]) for t, f, w in zip(targets, found, wanted, strict=True)
    ]
    assert torch.equal(feature_loss("l1", targets, 0)(found, wanted), torch.stack(alone).mean())


@pytest.mark.parametrize("labelled", [False, True])
def test_distillation_is_hintons_formula(labelled: bool) -> None:
    torch.manual_seed(0)
    found = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    scores, labels = torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 1, 3, 2, 1])
    p, q = (torch.exp(x / 2) / torch.exp(x / 2).sum(1, keepdim=True) for x in (scores, found))
    soft = 4 * (p * (p.log() - q.log())).sum() / 5
    q = torch.exp(found) / torch.exp(found).sum(1, keepdim=True)
    hard = -q.log()[range(5), labels].mean()
    plain = 0.7 * soft + 0.3 * hard if labelled else soft
    own = Distillation(2.0, 0.7)([found], [scores, labels] if labelled else [scores])
    gradients = [torch.autograd.grad(loss, found, retain_graph=True)[0] for loss in (own, plain)]
    assert torch.allclose(own, plain) and torch.allclose(*gradients)
    assert torch.allclose(cross_entropy([found], [labels]), hard)


@pytest.mark.parametrize("name", ALL)
def test_training_lowers_its_loss(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsc.methods.lesson import Learner

    losses: list[float] = []
    real = Learner.advance

    def advance(self: Learner) -> Tensor:
        losses.append(float(loss := real(self)))
        return loss

    monkeypatch.setattr(Learner, "advance", advance)
    torch.manual_seed(3)
    teacher, images = chain(), torch.randn(8, 3, 8, 8)
    method = fsc.MiR(loss=name, steps=60, learning_rate=RATES.get(name, 0.02), max_retries=0)
    fsc.compress(teacher, images, method=method, scheme=SCHEME)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@pytest.mark.parametrize("name", ["l2", "", "mse+", "mse+mse"])
def test_other_losses_are_refused(name: str) -> None:
    sentence = "loss must be mse, l1, cosine, sum or lsh, or some of them joined by"
    with pytest.raises(ValueError, match=sentence):
        fsc.MiR(loss=name)
