"""What removing channels costs is what least squares finds, and the cheapest go first."""

import pytest
import torch
from torch import Tensor, nn

from fsc.channels.groups import labelled_groups
from fsc.schemes.removal import removals

WIDTH = 6


class Forked(nn.Module):
    """Channels that two layers read, and a gate beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.point, self.wide = nn.Conv2d(WIDTH, 4, 1), nn.Conv2d(WIDTH, 5, 3, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x).relu()
        return self.point(x), self.wide(x)


def network(seed: int = 0) -> Forked:
    torch.manual_seed(seed)
    return Forked().double().eval()


IMAGES = torch.randn(8, 3, 7, 7, generator=torch.Generator().manual_seed(1)).double()


def found(model: nn.Module, least: int = 1, damping: float = 1e-9):  # noqa: ANN201
    groups = labelled_groups(model, (IMAGES[:1],))
    name = groups[0].name
    return removals(model, groups, IMAGES, {name: least}, damping=damping, batch_size=3)[name]


def cost_without(model: Forked, gone: list[int]) -> float:
    """Both readers solved anew without some channels: errors in shares of their energies, added."""
    with torch.no_grad():
        features = model.stem(IMAGES).relu()
        total = 0.0
        for layer in (model.point, model.wide):
            columns = nn.functional.unfold(features, layer.kernel_size).transpose(0, 1).flatten(1)
            target = layer.weight.flatten(1) @ columns
            rows = torch.arange(len(columns)).view(WIDTH, -1)
            left = [channel for channel in range(WIDTH) if channel not in gone]
            inputs = columns[rows[left].flatten()]
            energy = target.square().sum()
            if layer.bias is not None:
                inputs = torch.cat([inputs, torch.ones(1, inputs.shape[1]).double()])
                energy = (target - target.mean(1, keepdim=True)).square().sum()
            solved = torch.linalg.lstsq(inputs.T, target.T).solution
            total += float((inputs.T @ solved - target.T).square().sum() / energy)
    return total


def test_costs_are_those_of_least_squares():
    model = network()
    removal = found(model)
    first = min(range(WIDTH), key=lambda channel: cost_without(model, [channel]))
    assert int(removal.order[0]) == first
    for count in range(1, WIDTH):
        expected = cost_without(model, removal.order[:count].tolist())
        assert float(removal.loss[count]) == pytest.approx(expected, rel=1e-5)


def test_a_channel_that_another_repeats_goes_first_and_costs_nothing():
    model = network()
    with torch.no_grad():
        model.stem.weight[4], model.stem.bias[4] = 2 * model.stem.weight[1], 2 * model.stem.bias[1]
    removal = found(model)
    assert int(removal.order[0]) in (1, 4) and float(removal.loss[1]) < 1e-6


def test_losses_do_not_fall_and_as_many_stay_as_asked():
    removal = found(network(), least=3, damping=15.0)
    assert len(removal.order) == WIDTH - 3 == len(removal.loss) - 1
    assert bool((removal.loss.diff() >= 0).all())
    assert len(removal.order.unique()) == len(removal.order)


def test_few_columns_give_what_many_give():
    # Two images of one pixel behind the readers: columns instead of a Gram matrix.
    model = network()
    groups = labelled_groups(model, (IMAGES[:1],))
    small = IMAGES[:2, :, :3, :3]
    removal = removals(model, groups, small, {"stem": 1})["stem"]
    assert len(removal.order) == WIDTH - 1 and bool(removal.loss.isfinite().all())


def test_without_a_reader_that_moments_express_norms_decide():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1, padding_mode="reflect")
    ).eval()
    with torch.no_grad():
        model[0].weight[2] *= 1e-3
    groups = labelled_groups(model, (IMAGES[:1].float(),))
    removal = removals(model, groups, IMAGES.float(), {"0": 1})["0"]
    assert int(removal.order[0]) == 2 and 0 < float(removal.loss[-1]) < 1


class Joined(nn.Module):
    """A narrow layer's channels are some of those that another writes."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.rest = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 6, 1)
        self.whole, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.whole(x) + torch.cat([self.narrow(x), self.rest(x)], 1))


def test_no_layer_loses_all_of_its_channels():
    model = Joined().eval()
    with torch.no_grad():
        model.last.weight[:, :2] *= 1e-3  # the narrow layer's count least
    groups = labelled_groups(model, (IMAGES[:1].float(),))
    (found,) = removals(model, groups, IMAGES.float(), {groups[0].name: 1}).values()
    stays = set(range(8)) - set(found.order.tolist())
    assert stays & {0, 1} and stays - {0, 1}
