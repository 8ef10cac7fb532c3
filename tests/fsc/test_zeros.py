"""Zeros are restored in the weights that they were found in, and other weights are noticed."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from fsc.training.zeros import Zeros


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        layers[0].weight[:2] = 0.0
    return layers


def assigned(layers: nn.Sequential) -> None:
    layers.load_state_dict(copy.deepcopy(layers.state_dict()), assign=True)


def replaced(layers: nn.Sequential) -> None:
    layers[0] = nn.Conv2d(3, 4, 3)


def without(layers: nn.Sequential) -> None:
    layers[0] = nn.Identity()


def computed(layers: nn.Sequential) -> None:
    parametrize.register_parametrization(layers[0], "weight", nn.Hardtanh())


@pytest.mark.parametrize("change", [assigned, replaced, without, computed])
def test_another_weight_in_the_place_of_one_is_noticed(change):
    layers = network()
    zeros = Zeros(layers)
    zeros.restore()
    change(layers)
    with pytest.raises(
        ValueError, match="^network must have the weights .* in layer '0', .* anew$"
    ):
        zeros.restore()


def test_layers_without_zeros_may_change():
    layers = network()
    zeros = Zeros(layers)
    layers[2] = nn.Linear(16, 7)
    nn.init.constant_(layers[0].weight, 3.0)
    zeros.restore()
    assert layers[0].weight[:2].eq(0).all() and layers[0].weight[2:].eq(3).all()


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (None, "NoneType"),
        (3, "int"),
        ([network()], "list"),
        (network().state_dict(), "OrderedDict"),
    ],
)
def test_what_is_no_network_is_refused(given, kind):
    with pytest.raises(TypeError, match=rf"^network must be a torch\.nn\.Module, got {kind}$"):
        Zeros(given)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: network().to("meta"), "network must hold values, got 0.weight on the meta device"),
        (lambda: nn.LazyConv2d(4, 3), "network must know the sizes of its layers, got weight with"),
    ],
)
def test_a_network_without_values_is_refused(make, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        Zeros(make())
