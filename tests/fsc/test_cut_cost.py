"""Counting a cut without making it gives what making it gives."""

import copy

import pytest
import torch
from torch import nn

from fsc import models, schemes
from fsc.methods.l1_norm import keep_largest_weights, largest_filters
from fsc.networks import cost, surgery
from fsc.networks.cut_cost import CutCost


class Flattened(nn.Module):
    """A convolution with a bias that a Linear reads pixel by pixel."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3, groups=1)
        self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(8 * 16, 5)

    def forward(self, x):
        return self.head(self.norm(self.second(self.first(x).relu())).relu().flatten(1))


def cut(model, image, kept):
    made = copy.deepcopy(model)
    scheme = schemes.Scheme("cut", kept)
    with torch.no_grad():
        surgery.remove_channels(made, largest_filters(made, scheme), image)
    return cost.size(made, image)


@pytest.mark.parametrize(
    ("model", "image", "kept"),
    [
        (Flattened(), torch.zeros(1, 3, 8, 8), {"first": 4, "second": 3}),
        (Flattened(), torch.zeros(1, 3, 8, 8), {}),
        *(
            (models.build(name), torch.zeros(1, 3, 32, 32), schemes.named(scheme, name).kept)
            for name, scheme in (("resnet14", "res-70"), ("vgg16", "vgg-b"))
        ),
    ],
    ids=["linear", "whole", "resnet14", "vgg16"],
)
def test_counts_are_those_of_the_network_that_was_cut(model, image, kept):
    assert CutCost(model, image).size(kept, {}) == cut(model, image, kept)


def test_single_weights_are_counted_as_zeros():
    model, image = models.build("resnet14"), torch.zeros(1, 3, 32, 32)
    scheme = schemes.named("sparse-90", "resnet14")
    counted = CutCost(model, image).size({}, scheme.kept)
    keep_largest_weights(model, scheme)
    assert counted == cost.size(model, image)


def test_modes_and_hooks_are_left_as_they_were():
    model = Flattened().train()
    CutCost(model, torch.zeros(1, 3, 8, 8))
    assert model.training and not any(m._forward_hooks for m in model.modules())


def test_refuses_channels_that_cannot_go():
    model = models.build("resnet14")
    with pytest.raises(ValueError, match="must reach other layers"):
        CutCost(model, torch.zeros(1, 3, 32, 32)).size({"layer1.0.conv2": 3}, {})
