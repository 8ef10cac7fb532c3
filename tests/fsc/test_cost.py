import pytest
import torch
from torch import nn

from fsc import models
from fsc.networks import cost


def test_parameters_count_shared_ones_once():
    layer = nn.Linear(3, 3)
    assert cost.parameters(nn.Sequential(layer, nn.ReLU(), layer)) == 12


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (nn.Conv2d(3, 16, 3, padding=1), (1, 3, 8, 8), 16 * 64 * 3 * 9),
        (nn.Conv2d(4, 8, 3, stride=2, padding=1), (1, 4, 8, 8), 8 * 16 * 4 * 9),
        (nn.Conv2d(6, 12, 3, groups=3), (1, 6, 5, 5), 12 * 9 * 2 * 9),
        (nn.Conv2d(3, 5, 1), (7, 3, 2, 2), 7 * 5 * 4 * 3),
        (nn.Linear(64, 10), (1, 64), 640),
        (nn.Linear(64, 10, bias=False), (3, 64), 1920),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)), (1, 3, 4, 4), 0),
    ],
)
def test_multiply_accumulates_of_one_layer(layer, shape, expected):
    assert cost.flops(layer, torch.zeros(shape)) == expected


def test_resnet56_costs_what_the_definition_says():
    stem = 3 * 16 * 9 * 1024
    stages = 18 * 16 * 16 * 9 * 1024 + 17 * 32 * 32 * 9 * 256 + 17 * 64 * 64 * 9 * 64
    changes = 16 * 32 * 9 * 256 + 32 * 64 * 9 * 64
    model = models.build("resnet56")
    assert cost.flops(model, torch.zeros(1, 3, 32, 32)) == stem + stages + changes + 640
    assert model.training


def test_statistics_and_modes_are_left_alone():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    cost.flops(model, torch.ones(1, 1, 1, 1))
    assert model.training and model[1].num_batches_tracked == 0


def test_a_layer_may_read_part_of_a_parameter():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.layer = nn.Parameter(torch.randn(5, 3)), nn.Linear(2, 4)

        def forward(self, x):
            return x + self.layer(self.table[:, :2]).mean()

    model = Table()
    model.layer.bias.requires_grad_(False)
    assert cost.flops(model, torch.zeros(1)) == 5 * 2 * 4
    assert model.table.requires_grad and not model.layer.bias.requires_grad
