"""Distances between teacher and student, layer by layer."""

import copy

import pytest
import torch
from kinds import every_kind
from networks import chain
from torch import nn
from torch.nn import functional

import fsc
from fsc import models, schemes
from fsc.report.analysis import estimation_bound, layer_errors
from fsc.schemes import SparseScheme

IMAGES = torch.randn(30, 3, 12, 12)


@pytest.fixture(scope="module")
def sparse():
    """Teacher, its sparse student and the images that neither has seen."""
    torch.manual_seed(0)
    teacher = chain().eval()
    scheme = schemes.sparse(teacher, 0.5)
    method = fsc.CrossDistillation()
    student = fsc.compress(teacher, IMAGES[:10], method=method, scheme=scheme).student
    return teacher, student, IMAGES[10:]


def test_distances_are_those_of_the_formulas(sparse):
    teacher, student, images = sparse
    found = layer_errors(teacher, student, images, batch_size=7)
    assert [e.name for e in found] == ["conv1", "conv2", "conv3", "conv4", "head"]
    with torch.no_grad():
        h_t = teacher.bn1(teacher.conv1(images)).relu()
        h_s = student.conv1(images).relu()
        outputs = {
            (w, h): functional.conv2d(x, net.conv2.weight, net.conv2.bias, 2, 1).relu()
            for w, net in (("T", teacher), ("S", student))
            for h, x in (("T", h_t), ("S", h_s))
        }

    def distance(a, b):
        return pytest.approx(float((outputs[a] - outputs[b]).square().sum()) / 20, rel=1e-4)

    second = found[1]
    assert second.estimation == distance(("T", "T"), ("S", "S"))
    assert second.correction == distance(("T", "T"), ("S", "T"))
    assert second.imitation == distance(("T", "S"), ("S", "S"))
    assert second.inconsistency_student == distance(("S", "T"), ("S", "S"))
    assert second.inconsistency_teacher == distance(("T", "S"), ("T", "T"))
    # Both networks see the same images.
    assert found[0].inconsistency_student == found[0].inconsistency_teacher == 0
    assert found[0].estimation == found[0].correction == found[0].imitation


def test_lost_channels_leave_out_what_needs_them(sparse):
    teacher, _, images = sparse
    scheme = schemes.Scheme("half", {"conv2": 5})
    student = fsc.compress(teacher, images, method=fsc.L1Norm(), scheme=scheme).student
    found = {error.name: error for error in layer_errors(teacher, student, images)}
    assert found["conv2"].estimation is None and found["conv2"].inconsistency_teacher is not None
    assert found["conv3"].estimation > 0 and found["conv3"].correction is None


@pytest.mark.parametrize("mu", [0.0, 0.6, 1.0])
def test_the_bound_of_the_theorem_holds(sparse, mu):
    teacher, student, images = sparse
    found = estimation_bound(teacher, student, layer_errors(teacher, student, images), mu)
    assert all(step.measured <= step.bound * (1 + 1e-6) for step in found)
    assert found[0].measured == pytest.approx(found[0].bound)
    assert found[-2].bound < 1e3 * found[-2].measured


def test_linear_layers_after_a_permutation_and_a_view_in_a_chain():
    class Mixer(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.mix, self.head = nn.Conv2d(3, 5, 3), nn.Linear(5, 4), nn.Linear(16, 2)

        def forward(self, x):
            x = self.mix(self.conv(x).permute(0, 2, 3, 1)).relu()
            return self.head(x.view(x.size(0), -1))

    model, images = Mixer().eval(), torch.randn(3, 3, 4, 4)
    found = layer_errors(model, model_copy := copy.deepcopy(model), images)
    assert [error.estimation for error in found] == [0, 0, 0]
    assert len(estimation_bound(model, model_copy, found, 0.5)) == 3


def test_errors(sparse):
    teacher, student, images = sparse
    errors = layer_errors(teacher, student, images)
    with pytest.raises(ValueError, match=r"mu must be in \[0, 1\], got 2"):
        estimation_bound(teacher, student, errors, 2)
    scheme = schemes.Scheme("half", {"conv2": 5})
    smaller = fsc.compress(teacher, images, method=fsc.L1Norm(), scheme=scheme).student
    with pytest.raises(ValueError, match="errors must hold every distance, got None at conv2"):
        estimation_bound(teacher, smaller, layer_errors(teacher, smaller, images), 0.5)
    with pytest.raises(ValueError, match="teacher must be a chain of layers, got add"):
        estimation_bound(models.build("resnet14"), models.build("resnet14"), [], 0.5)


def test_errors_are_those_of_every_kind_of_layer() -> None:
    teacher, images = every_kind(), torch.randn(4, 3, 8, 8)
    scheme = SparseScheme("mine", {"grouped": 40})
    student = fsc.compress(teacher, images, method=fsc.L1Norm(), scheme=scheme).student
    errors = {layer.name: layer.estimation for layer in layer_errors(teacher, student, images)}
    layers = ["first", "wide", "grouped", "depthwise", "up", "volume", "rows", "tokens", "head"]
    assert list(errors) == layers
    assert errors["wide"] == 0 < min(errors[name] for name in layers[2:])
