"""What removing channels costs is what least squares finds, and the cheapest go first."""

import pytest
import torch
from torch import Tensor, nn

import fsc
from fsc.channels.cut_cost import CutCost
from fsc.channels.groups import labelled_groups
from fsc.networks import cost
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
    """Both readers solved anew without some channels on the first, third, ... image.

    Their errors on the other images, in shares of their energies, added.
    """
    return sum(
        reader_without(model, layer, gone, IMAGES[1::2]) for layer in (model.point, model.wide)
    )


def reader_without(model: Forked, layer: nn.Conv2d, gone: list[int], judges: Tensor) -> float:
    with torch.no_grad():
        inputs, targets = [], []
        for images in (IMAGES[::2], judges):
            features = model.stem(images).relu()
            columns = nn.functional.unfold(features, layer.kernel_size).transpose(0, 1).flatten(1)
            rows = torch.arange(len(columns)).view(WIDTH, -1)
            left = [channel for channel in range(WIDTH) if channel not in gone]
            found = columns[rows[left].flatten()]
            if layer.bias is not None:
                found = torch.cat([found, torch.ones(1, found.shape[1]).double()])
            inputs.append(found)
            targets.append(layer.weight.flatten(1) @ columns)
        solved = torch.linalg.lstsq(inputs[0].T, targets[0].T).solution
        mean = targets[1].mean(1, keepdim=True) if layer.bias is not None else 0.0
        energy = (targets[1] - mean).square().sum()
        return float((inputs[1].T @ solved - targets[1].T).square().sum() / energy)


def test_costs_are_those_of_least_squares():
    model = network()
    removal = found(model)

    def corrected(channel: int) -> float:
        layers = (model.point, model.wide)
        return sum(reader_without(model, each, [channel], IMAGES[::2]) for each in layers)

    assert int(removal.order[0]) == min(range(WIDTH), key=corrected)
    for count in range(1, WIDTH):
        expected = cost_without(model, removal.order[:count].tolist())
        assert float(removal.loss[count]) == pytest.approx(expected, rel=1e-4)


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


class Repeated(nn.Module):
    """A layer that reads some channels twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(6, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return self.last(torch.cat([x, x[:, :2]], 1))


def test_without_a_reader_that_can_be_asked_norms_decide():
    model = Repeated().eval()
    with torch.no_grad():
        model.stem.weight[2] *= 1e-3
    groups = labelled_groups(model, (IMAGES[:1].float(),))
    removal = removals(model, groups, IMAGES.float(), {"stem": 1})["stem"]
    energy = model.stem.weight.detach().double().square().sum((1, 2, 3))
    assert removal.order.tolist() == energy.argsort()[:3].tolist()
    torch.testing.assert_close(removal.loss[1:], energy.sort().values.cumsum(0)[:3] / energy.sum())


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


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_batches_decide_nothing(batch_size: int):
    model = network()
    groups = labelled_groups(model, (IMAGES[:1],))
    whole = removals(model, groups, IMAGES, {"stem": 1}, batch_size=8)["stem"]
    parts = removals(model, groups, IMAGES, {"stem": 1}, batch_size=batch_size)["stem"]
    assert torch.equal(whole.order, parts.order)
    torch.testing.assert_close(whole.loss, parts.loss, rtol=1e-9, atol=1e-12)


class Windowed(nn.Module):
    """Cuts each image into four windows that stand where images do."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 8, 1), nn.Linear(8, 8)
        self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu().permute(0, 2, 3, 1)
        x = x.unflatten(1, (2, -1)).unflatten(3, (2, -1)).permute(0, 1, 3, 2, 4, 5)
        x = self.inner(x.flatten(0, 2)).relu()
        return self.last(x.flatten(1, 2).unflatten(0, (-1, 4)).mean((1, 2)))


def test_windows_are_no_images():
    torch.manual_seed(0)
    model, images = Windowed().eval(), torch.randn(5, 3, 8, 8)
    groups = labelled_groups(model, (images[:1],))
    group = next(group for group in groups if group.name == "stem")
    assert CutCost(model, images[:1], groups).size({}, {}).flops == cost.flops(model, images[:1])
    if group.frozen is None:
        ours = [removals(model, groups, images, {"stem": 1}, batch_size=n)["stem"] for n in (2, 5)]
        assert torch.equal(ours[0].order, ours[1].order)


class Positions(nn.Module):
    """Adds to each channel what an MLP makes of a learnt table."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)
        self.table = nn.Parameter(torch.randn(*shape))
        self.first, self.second = nn.Linear(shape[-1], 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        bias = self.second(self.first(self.table).relu()).flatten(0, -2).mean(0)
        return self.head((self.conv(x) + bias[:, None, None]).relu().mean((2, 3)))


# Rows that batches of images divide, or do not.
TABLES = pytest.mark.parametrize("shape", [(13, 2), (7, 7, 2), (14, 2)])


@TABLES
def test_a_reader_of_what_comes_from_no_image_has_no_say(shape: tuple[int, ...]):
    """Such as a table of positions: no half of its rows belongs to a half of the images."""
    torch.manual_seed(0)
    model, images = Positions(*shape), torch.randn(14, 3, 8, 8)
    groups = labelled_groups(model.eval(), (images[:1],))
    norms = model.first.weight.detach().norm(dim=1)
    for batch_size in (14, 7, 5, 1):
        found = removals(model, groups, images, {"first": 1}, batch_size=batch_size)["first"]
        assert found.order.tolist() == norms.argsort()[:15].tolist(), batch_size


@TABLES
def test_a_network_with_a_table_is_compressed(shape: tuple[int, ...]):
    torch.manual_seed(0)
    model, images = Positions(*shape), torch.randn(14, 3, 8, 8)
    for batch_size in (14, 7, 5):
        report = fsc.compress(model, images, method="seconds", batch_size=batch_size).report
        assert report.flops <= 0.5 * report.flops_teacher
