"""What is proven of a cut: on the images that are given, output by output, before any work."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import fsc
from fsc.channels.proof import channel_groups, check_cut
from fsc.methods.base import Outcome, Task
from fsc.networks.outputs import difference


class Three(nn.Module):
    """Divides by how many channels there are."""

    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)
        self.head, self.other = nn.Linear(8, 4), nn.Linear(8, 2)
        nn.init.constant_(self.stem.bias, bias)


class Mean(Three):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return self.head(self.b(self.a(x / x.shape[1]).relu()).relu().mean((2, 3)))


class Outputs(Three):
    """A small output beside a large one, and one that is zero but for rounding."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x).relu()
        z = self.b(x).relu()
        large = 1e5 * self.head(self.a(x).relu().mean((2, 3)))
        return {
            "large": large,
            "small": self.other((z / z.shape[1]).mean((2, 3))),
            "none": (large + large / 3) - large / 3 * 4,
        }


class Remainder(Three):
    """Goes wrong below four channels, which no half of eight shows."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(self.stem(x).relu()).relu()
        return self.head(self.b(x + x.shape[1] % 4).relu().mean((2, 3)))


def reasons(network: nn.Module, image: Tensor) -> dict[str, str | None]:
    return {group.name: group.frozen for group in channel_groups(network, image)}


def test_layers_that_are_dead_on_noise_are_tried_on_what_is_given() -> None:
    image = 255 * torch.rand(1, 3, 10, 10)
    network = Mean(-8.0)
    assert "the output changes" in str(reasons(network, image)["stem"])
    assert reasons(network, image)["a"] is None
    # What is given may be dead where noise is not.
    assert "the output changes" in str(reasons(Mean(), torch.zeros(1, 3, 10, 10))["stem"])
    groups = [group for group in channel_groups(network, 0 * image) if group.name == "stem"]
    kept = {"stem": torch.arange(4)}
    check_cut(network, groups, kept, 0 * image)
    with pytest.raises(ValueError, match="'stem' cannot be cut: the output changes"):
        check_cut(network, groups, kept, image)


def test_a_small_output_does_not_hide_behind_a_large_one() -> None:
    found = reasons(Outputs(), torch.randn(1, 3, 10, 10))
    assert "the output changes" in str(found["b"])
    assert found["stem"] is None and found["a"] is None


def test_differences_are_taken_of_every_tensor() -> None:
    large, nan = torch.tensor([1e6, 1.0]), torch.tensor([torch.nan, 2.0])
    assert difference([large, torch.ones(2)], [large, torch.tensor([1.0, 1.5])]) == 0.5
    assert difference([large, torch.zeros(2)], [large, torch.tensor([0.0, 1e-9])]) == torch.inf
    assert difference([large, torch.zeros(2)], [large, torch.tensor([0.0, 1e-9])], 1e-8) < 1e-6
    assert difference(nan, nan.clone()) == 0.0
    assert difference(nan, torch.tensor([torch.nan, 1.0])) == 0.5
    assert difference(nan, torch.ones(2)) == torch.inf
    assert difference(torch.tensor([True, False]), torch.tensor([True, True])) == 1.0
    assert difference(torch.ones(2), torch.ones(2).double()) == torch.inf
    assert difference([torch.ones(2), 3], [torch.ones(2), 4]) == torch.inf


@dataclass(frozen=True)
class Never:
    """A method that must not be asked."""

    def compress(self, task: Task) -> Outcome:
        raise AssertionError("work was done before it was known that it is in vain")


def test_a_scheme_that_cannot_be_cut_is_refused_before_the_work() -> None:
    scheme = fsc.schemes.Scheme("own", {"a": 2})
    with pytest.raises(ValueError, match="scheme 'own': channels of 'a' must stay: the output"):
        fsc.compress(Remainder(), torch.randn(6, 3, 10, 10), scheme=scheme, method=Never())
    with pytest.raises(ValueError, match="'a' must keep all channels: the output"):
        ratios = {"a": 0.75, "b": 0.5}
        fsc.compress(Remainder(), torch.randn(6, 3, 10, 10), pruning_ratio=ratios, method=Never())


@pytest.mark.parametrize("asked", [{"pruning_ratio": 0.75}, {"parameters": 0.5}])
@pytest.mark.parametrize("method", ["l1", "cd-nc"])
@pytest.mark.filterwarnings("ignore::fsc.warning.CompressionWarning")
def test_what_cannot_lose_so_many_stays_whole_and_the_others_go(method, asked) -> None:
    network, images = Remainder(), torch.randn(6, 3, 10, 10)
    report = fsc.compress(network, images, method=method, **asked).report
    assert {"stem", "b"} >= report.kept.keys() and report.kept
    if "pruning_ratio" in asked:
        assert "the output changes" in report.left["a"]
        assert {name: len(rows) for name, rows in report.kept.items()} == {"stem": 2, "b": 2}


def test_a_round_is_checked_before_it_is_aligned(monkeypatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("work was done before it was known that it is in vain")

    monkeypatch.setattr(fsc.FSKD, "recover", never)
    with pytest.raises(ValueError, match="cannot be cut: the output changes"):
        fsc.prune_iteratively(
            Remainder(), torch.randn(6, 3, 10, 10), pruning_ratios=[0.75], rounds=1
        )
