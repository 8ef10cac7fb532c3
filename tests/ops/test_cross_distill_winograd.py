"""cross_distill_layer on 3x3 filters at stride 1, sizes that take each way through the transforms.

On the CPU in float32 these go through Winograd's transforms, panel by panel where the filters are
few and filters by filters where they are many. Other devices have other kernels.
"""

import pytest
import torch
from other_instructions import assert_passes_with_avx2, of_the_cpu

import fsc_ext
from fsc_ext import reference
from fsc_ext.testing import devices

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)

SHAPES = [  # images, channels, filters, height and width of the input, padding
    (5, 16, 16, (8, 8), 1),
    (3, 18, 33, (7, 9), 1),  # the last filter alone; tiles over the edge
    (7, 20, 130, (5, 5), 0),  # many filters
    (2, 48, 7, (6, 5), (2, 0)),
    (9, 40, 150, (2, 2), 1),  # tiles of 2x2
    (9, 24, 20, (17, 19), 1),  # several panels of rows
]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def tensors_of(device, images, channels, filters, size):
    """Inputs, weights and biases, of teacher and student each."""
    inputs = torch.randn(2, images, channels, *size).relu()
    weights = torch.randn(2, filters, channels, 3, 3) / (9 * channels) ** 0.5
    return [tensor.to(device) for tensor in (*inputs, *weights, *torch.randn(2, filters))]


def loss_and_gradients(layer, tensors, **settings):
    """Loss, and the gradients of the student's weight and bias."""
    weight, bias = (tensors[i].detach().requires_grad_() for i in (3, 5))
    loss = layer(*tensors[:3], weight, tensors[4], bias, **settings)
    return [loss, *torch.autograd.grad(3 * loss, [weight, bias])]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("activation", ["relu", "none"])
@pytest.mark.parametrize("shares", [(0.9, 0.3), (1.0, 0.0)], ids=["soft", "correction"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_loss_and_gradients(device, shape, activation, shares, layout):
    *sizes, padding = shape
    tensors = tensors_of(device, *sizes)
    settings = {"alpha": shares[0], "beta": shares[1], "activation": activation, "padding": padding}
    expected = loss_and_gradients(
        reference.cross_distill_layer, [t.double() for t in tensors], **settings
    )
    tensors[:2] = [t.contiguous(memory_format=layout) for t in tensors[:2]]
    found = loss_and_gradients(fsc_ext.cross_distill_layer, tensors, **settings)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="needs AVX2")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_same_bits_for_one_thread_and_two(device, shape, one_thread):
    *sizes, padding = shape
    tensors = tensors_of(device, *sizes)
    settings = {"alpha": 0.9, "beta": 0.3, "padding": padding}
    expected = loss_and_gradients(fsc_ext.cross_distill_layer, tensors, **settings)
    torch.set_num_threads(2)
    found = loss_and_gradients(fsc_ext.cross_distill_layer, tensors, **settings)
    # The bias's gradient is a sum of at::convolution_backward.
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_more_threads_than_parts(device, one_thread):
    # torch's convolution has more of them at work.
    tensors = tensors_of(device, 5, 16, 16, (8, 8))
    settings = {"alpha": 0.9, "beta": 0.3, "padding": 1}
    expected = loss_and_gradients(fsc_ext.cross_distill_layer, tensors, **settings)
    torch.set_num_threads(9)
    found = loss_and_gradients(fsc_ext.cross_distill_layer, tensors, **settings)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()


def test_a_weight_that_meets_nothing_has_no_gradient(device):
    tensors = tensors_of(device, 6, 16, 20, (8, 8))
    for inputs in tensors[:2]:
        inputs[:, :8, 1:] = 0  # no output has the first row under its filter's last
    settings = {"alpha": 0.9, "beta": 0.3, "padding": 1}
    _, grad, _ = loss_and_gradients(fsc_ext.cross_distill_layer, tensors, **settings)
    assert not grad[:, :8, 2].any() and (grad == 0).float().mean() < 0.4


@of_the_cpu
def test_avx2(device):
    if device.type != "cpu":
        pytest.skip("of the CPU's own kernels")
    assert_passes_with_avx2(__file__)
