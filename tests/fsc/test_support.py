"""Layers whose support is given: the solver finds the values alone."""

import pytest
import torch
from networks import chain
from torch import nn

import fsc
from fsc.schemes import QuantizedScheme, Scheme, SparseScheme
from fsc.solvers import Accelerated, Proximal

SCHEME = Scheme("half", {"conv1": 4, "conv2": 5})
SUPPORT = {"conv1": [6, 0, 3, 1], "conv2": [1, 2, 3, 8, 9]}
SPARSE = SparseScheme("sparse", {"conv2": 100, "conv4": 9})
WEIGHTS = {"conv2": list(range(0, 700, 7)), "conv4": list(range(9))}


def _compress(scheme, seed=0, **options):
    torch.manual_seed(seed)
    teacher, images = chain().eval(), torch.randn(8, 3, 8, 8)
    method = fsc.CrossDistillation(**options)
    return fsc.compress(teacher, images, method=method, scheme=scheme)


@pytest.mark.parametrize(
    "options",
    [{}, {"solver": Proximal(20)}] + [{"solver": Accelerated(), "activation": "relu"}],
)
def test_given_channels_stay(options):
    result = _compress(SCHEME, support=SUPPORT, **options)
    assert result.report.kept == {name: sorted(given) for name, given in SUPPORT.items()}
    assert result.student.conv2.weight.shape == (5, 4, 3, 3)


def test_what_the_solver_chose_can_be_given_to_it():
    chosen = _compress(SCHEME)
    again = _compress(SCHEME, support=chosen.report.kept)
    for name, value in chosen.student.state_dict().items():
        assert torch.equal(value, again.student.state_dict()[name])


def test_given_weights_stay():
    student = _compress(SPARSE, support=WEIGHTS).student
    for name, given in WEIGHTS.items():
        weight = student.get_submodule(name).weight
        assert weight.flatten().nonzero().flatten().tolist() == given


def test_weights_that_the_solver_chose_give_the_same_values():
    chosen = _compress(SPARSE).student
    layers = {name: chosen.get_submodule(name) for name in SPARSE.kept}
    assert all(isinstance(layer, nn.Conv2d) for layer in layers.values())
    support = {
        name: layer.weight.flatten().nonzero().flatten().tolist() for name, layer in layers.items()
    }
    again = _compress(SPARSE, support=support).student
    for name, value in chosen.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


@pytest.mark.parametrize(
    ("scheme", "options", "message"),
    [
        (SCHEME, {"support": {"conv1": [0, 1, 2, 3]}}, "got 'conv2' only in the scheme"),
        (SCHEME, {"support": SUPPORT | {"conv3": [0]}}, "got 'conv3' only in the support"),
        (SCHEME, {"support": SUPPORT | {"conv1": [0, 1, 2]}}, r"hold 4 .* \[0, 8\) for conv1"),
        (SCHEME, {"support": SUPPORT | {"conv1": [0, 1, 2, 8]}}, "got 4 values, 3 of them such"),
        (SCHEME, {"support": SUPPORT | {"conv1": [0, 1, 2, 2]}}, "got 4 values, 3 of them such"),
        (SPARSE, {"support": WEIGHTS, "solver": Proximal()}, "ClosedForm for given single weights"),
        (QuantizedScheme("q", {"conv1": 2}), {"support": {"conv1": [0]}}, "None for a quantized"),
    ],
)
def test_a_support_that_does_not_fit(scheme, options, message):
    with pytest.raises(ValueError, match=message):
        _compress(scheme, **options)
