"""Counting a cut without making it gives what making it gives."""

import copy

import pytest
import torch
from torch import nn

import fsc
from fsc import models, schemes
from fsc.channels.cut_cost import CutCost, shifts
from fsc.channels.cutting import cut_channels
from fsc.channels.groups import labelled_groups
from fsc.methods.l1_norm import keep_largest_weights, largest_channels
from fsc.networks import cost


class Flattened(nn.Module):
    """A convolution with a bias that a Linear reads pixel by pixel."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3, groups=1)
        self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(8 * 16, 5)

    def forward(self, x):
        return self.head(self.norm(self.second(self.first(x).relu())).relu().flatten(1))


class Tied(nn.Module):
    """Two convolutions with one weight, in the middle of others that can be cut."""

    def __init__(self):
        super().__init__()
        self.first, self.one, self.two = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1)
        self.two.weight = self.one.weight
        self.wide, self.last = nn.Conv2d(6, 8, 3), nn.Conv2d(8, 4, 3)

    def forward(self, x):
        x = self.two(self.one(self.first(x).relu()).relu()).relu()
        return self.last(self.wide(x).relu()).mean((2, 3))


def counted_and_cut(model, image, kept):
    groups = labelled_groups(model, (image,))
    left = schemes.channels_left(schemes.Scheme("cut", kept), model, groups) if kept else {}
    made = copy.deepcopy(model)
    cut_channels(made, groups, largest_channels(made, groups, left))
    counting = CutCost(model, image, groups, zeros=shifts(model))
    return counting.size(left, {}), cost.size(made, image)


@pytest.mark.parametrize(
    ("model", "image", "kept"),
    [
        (Flattened(), torch.zeros(1, 3, 8, 8), {"first": 4, "second": 3}),
        (Flattened(), torch.zeros(1, 3, 8, 8), {}),
        *(
            (models.build(name), torch.zeros(1, 3, 32, 32), schemes.named(scheme, name).kept)
            for name, scheme in (("resnet14", "res-70"), ("vgg16", "vgg-b"))
        ),
        (models.build("resnet14"), torch.zeros(1, 3, 32, 32), {"conv1": 9}),
        (Tied(), torch.zeros(1, 3, 12, 12), {"wide": 5}),
    ],
    ids=["linear", "whole", "resnet14", "vgg16", "stream", "tied"],
)
def test_counts_are_those_of_the_network_that_was_cut(model, image, kept):
    counted, made = counted_and_cut(model, image, kept)
    assert (counted.parameters, counted.flops) == (made.parameters, made.flops)
    # One of millions of random weights may be zero by itself.
    assert 0 <= counted.nonzero - made.nonzero <= 3


class Parted(nn.Module):
    """A sum of whose channels one layer makes all, and two others a part each, at another cost."""

    def __init__(self):
        super().__init__()
        self.whole, self.wide = nn.Conv2d(3, 24, 1), nn.Conv2d(3, 10, 5, padding=2)
        self.narrow, self.last = nn.Conv2d(3, 14, 1), nn.Conv2d(24, 4, 3)

    def forward(self, x):
        return self.last((self.whole(x) + torch.cat([self.wide(x), self.narrow(x)], 1)).relu())


@pytest.mark.parametrize("seed", range(3))
def test_which_channels_go_decides_where_layers_hold_different_parts(seed):
    model, image = Parted(), torch.zeros(1, 3, 8, 8)
    groups = labelled_groups(model, (image,))
    order = torch.randperm(24, generator=torch.Generator().manual_seed(seed))
    counting = CutCost(model, image, groups, {groups[0].name: order})
    for count in (23, 17, 12):
        kept = order[24 - count :].sort().values
        made = copy.deepcopy(model)
        cut_channels(made, groups, {groups[0].name: kept})
        assert counting.size({groups[0].name: count}, {}) == cost.size(made, image)
    assert not groups[0].is_even


def test_groups_that_all_layers_hold_alike_are_even():
    model = models.build("resnet14")
    assert all(group.is_even for group in labelled_groups(model, (torch.zeros(1, 3, 32, 32),)))


def test_single_weights_are_counted_as_zeros():
    model, image = models.build("resnet14"), torch.zeros(1, 3, 32, 32)
    scheme = schemes.named("sparse-90", "resnet14")
    counted = CutCost(model, image, [], zeros=shifts(model)).size({}, scheme.kept)
    keep_largest_weights(model, scheme)
    assert counted == cost.size(model, image)


@pytest.mark.parametrize("kind", ["flops", "parameters"])
def test_a_share_of_the_cost_is_met_where_layers_share_a_weight(kind):
    teacher, images = Tied().eval(), torch.randn(4, 3, 12, 12)
    result = fsc.compress(teacher, images, method="l1", progress=False, **{kind: 0.7})
    report = result.report
    assert getattr(report, kind) <= 0.7 * getattr(report, f"{kind}_teacher")
    assert result.student.two.weight is result.student.one.weight


def test_shifts_are_zero_only_where_that_is_said():
    model, image = Flattened(), torch.zeros(1, 3, 8, 8)
    nn.init.constant_(model.norm.bias, 0.5)
    groups = labelled_groups(model, (image,))
    made = copy.deepcopy(model)
    cut_channels(made, groups, largest_channels(made, groups, {"second": 3}))
    assert CutCost(model, image, groups).size({"second": 3}, {}) == cost.size(made, image)


def test_modes_and_hooks_are_left_as_they_were():
    model = Flattened().train()
    CutCost(model, torch.zeros(1, 3, 8, 8), [])
    assert model.training and not any(m._forward_hooks for m in model.modules())
