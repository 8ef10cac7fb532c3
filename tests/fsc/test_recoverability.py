"""Which residual blocks go first."""

import pytest
import torch
from residual_networks import IMAGES, residual_network
from torch import Tensor, nn

from fsc.layers.adaptor import DAMPING
from fsc.networks import tracing
from fsc.networks.blocks import dropped_of, find_blocks
from fsc.networks.features import feature_nodes, truncate
from fsc.schemes import DropBlocks, recoverability


def _features(model: nn.Module) -> Tensor:
    graph = tracing.trace(model)
    return truncate(model, graph, feature_nodes(model, graph)[0][0])(IMAGES[1::2])


def _brute_force(model: nn.Module, name: str) -> float:
    """The error of the features with the least-squares adaptor, from plain columns."""
    block, seen = model.get_submodule(name), []
    with torch.no_grad():
        expected = _features(model)
        handle = block.register_forward_hook(lambda _, x, y: seen.append((x[0], y)))
        model(IMAGES[::2])
        handle.remove()
        x, y = (each.movedim(1, 0).flatten(1).double() for each in seen[0])
        ones = torch.cat([x, torch.ones_like(x[:1])])
        # The pull towards the identity as rows of their own; the bias has none.
        pull = (DAMPING * (x @ x.T).diagonal().mean()).sqrt()
        pulls = torch.cat([torch.eye(len(x)), torch.zeros(1, len(x))]).double() * pull
        target = torch.cat([y - x, torch.zeros(len(x), len(x)).double()], 1)
        solution = torch.linalg.lstsq(torch.cat([ones, pulls], 1).T, target.T).solution.T
        adaptor = nn.Conv2d(4, 4, 1)
        adaptor.weight.data = (solution[:, :4] + torch.eye(4)).float()[:, :, None, None]
        adaptor.bias.data = solution[:, 4].float()
        model.set_submodule(name, adaptor)
        found = _features(model)
        model.set_submodule(name, block)
    return float((found - expected).square().sum() / expected.square().sum())


def test_errors_are_those_of_a_brute_force() -> None:
    model = residual_network("behind", "before", "in place", "")
    names = [f"blocks.{i}" for i in range(4)]
    with torch.no_grad():
        errors = recoverability.Ranking(model, IMAGES, names, batch_size=2).errors()
    for name in names:
        assert errors[name] == pytest.approx(_brute_force(model, name), rel=1e-4)


def test_the_cheapest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same time for all, the block that does least goes, and again with it gone."""
    monkeypatch.setattr(recoverability, "latencies", lambda nets, *_, **__: [2.0, 1.0] * 4)
    monkeypatch.setattr(recoverability, "_MEASURED", {})
    model = residual_network("", "", "", "")
    for block, share in zip(model.blocks, (1.0, 0.01, 1.0, 0.02), strict=True):
        block.norm.weight.data.mul_(share)
    chosen = recoverability.chosen(DropBlocks(count=2), model, IMAGES)
    assert chosen == DropBlocks(blocks=["blocks.1", "blocks.3"], name="blocks-2")
    savings = {f"blocks.{i}": 1e9 if i == 2 else 1.0 for i in range(4)}
    monkeypatch.setattr(recoverability, "_savings", lambda *_: savings)
    assert recoverability.chosen(DropBlocks(count=1), model, IMAGES).blocks == ("blocks.2",)


def test_what_blocks_save_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Students of several methods are to lose the same blocks; those of one kind save the same."""
    calls = []

    def measured(networks: list[nn.Module], *_: object, **__: object) -> list[float]:
        calls.append(len(networks))
        return [1.5, 0.5, 2.5, 0.5, 0.4, 0.5]

    monkeypatch.setattr(recoverability, "latencies", measured)
    monkeypatch.setattr(recoverability, "_MEASURED", {})
    model = residual_network("", "", "")
    model.blocks[2].conv = nn.Conv2d(4, 4, 1)
    for _ in range(2):
        found = find_blocks(model, IMAGES[:1]).found
        savings = recoverability._savings(model, found, IMAGES[:1])
        # What seems to save nothing saves a thousandth.
        assert savings == {"blocks.0": 1.5, "blocks.1": 1.5, "blocks.2": 0.4e-3}
    assert calls == [6]


def test_a_share_of_the_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_blocks(networks: list[nn.Module], *_: object, **__: object) -> list[float]:
        return [10.0 - len(dropped_of(network)) for network in networks]

    monkeypatch.setattr(recoverability, "latencies", by_blocks)
    monkeypatch.setattr(recoverability, "_MEASURED", {})
    model = residual_network("", "", "", "")
    chosen = recoverability.chosen(DropBlocks(latency=0.8), model, IMAGES)
    assert len(chosen.blocks) == 2 and chosen.name == "latency-80"
    with pytest.raises(ValueError, match="must be what the 4 blocks .* allow, got 0.5"):
        recoverability.chosen(DropBlocks(latency=0.5), model, IMAGES)
