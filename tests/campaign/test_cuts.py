"""A slice of the campaign of random networks, and that it finds what is wrong."""

from pathlib import Path

import cuts
import pytest
import torch
from part import Fault
from random_networks import Network
from torch import nn

import fsc


@pytest.mark.parametrize(
    ("number", "outcome"),
    [(7, "smaller, not neutral"), (17, "smaller, neutral"), (26, "refused, refused")],
)
def test_random_networks_are_cut_without_a_fault(
    number: int, outcome: str, tmp_path: Path, one_thread: None
) -> None:
    assert cuts.case(number, tmp_path) == outcome


def test_networks_are_drawn_by_their_number() -> None:
    first, second = (list(Network(9).state_dict().values()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_what_is_killed_is_half_and_leaves_no_trace(one_thread: None) -> None:
    network = Network(17)
    network.kill()
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.groups == 1 and "head" not in name:
            alive = layer.weight.flatten(1).abs().amax(1) > 0
            assert int(alive.sum()) == len(alive) - len(alive) // 2, name


def test_a_cut_of_the_wrong_channels_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, one_thread: None
) -> None:
    real = fsc.compress

    def wrong(network: nn.Module, *arguments: object, **options: object) -> object:
        result = real(network, *arguments, **options)
        with torch.no_grad():
            next(result.student.parameters())[:1].add_(0.1)
        return result

    monkeypatch.setattr(fsc, "compress", wrong)
    with pytest.raises(Fault, match="L1 moves the output"):
        cuts.case(17, tmp_path)
