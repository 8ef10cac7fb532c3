"""Half precision, which the CPU kernels do not take: device code against itself in float32."""

import pytest
import torch
from torch import Tensor

import fsc_ext
from fsc_ext.testing import EMULATED, devices

DEVICES = [torch.device("cpu")] if EMULATED else [d for d in devices() if d.type == "cuda"]
HALF = [torch.float16, torch.bfloat16]
# One rounding of a result of the order of ten, and of the inputs before it.
TOLERANCE = {
    torch.float16: {"rtol": 2e-3, "atol": 5e-3},
    torch.bfloat16: {"rtol": 2e-2, "atol": 5e-2},
}
pytestmark = [
    pytest.mark.skipif(not DEVICES, reason="no CUDA device, and FSC_EMULATE is not set"),
    pytest.mark.parametrize("dtype", HALF, ids=str),
    pytest.mark.parametrize("device", DEVICES or devices(), ids=str),
]


def pair(dtype: torch.dtype, device: torch.device, *shape: int) -> tuple[Tensor, Tensor]:
    """The same values in half precision and in float32."""
    values = torch.randn(shape, device=device).to(dtype)
    return values, values.float()


def close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    return found.dtype == dtype and torch.allclose(found.float(), expected, **TOLERANCE[dtype])


def test_mixture_and_residual(device, dtype):
    teacher, student = pair(dtype, device, 3, 5, 4, 4), pair(dtype, device, 3, 5, 4, 4)
    found = fsc_ext.soft_cross_mix(teacher[0], student[0], 0.9, 0.3)
    for value, expected in zip(
        found, fsc_ext.soft_cross_mix(teacher[1], student[1], 0.9, 0.3), strict=True
    ):
        assert close(value, expected, dtype)
    _, residual = fsc_ext.distill_residual(teacher[0], student[0], "relu")
    assert close(residual, fsc_ext.distill_residual(teacher[1], student[1], "relu")[1], dtype)


def test_layer(device, dtype):
    shapes = [(4, 5, 6, 6), (4, 5, 6, 6), (7, 5, 3, 3), (7, 5, 3, 3)]
    half, wide = zip(*(pair(dtype, device, *shape) for shape in shapes), strict=True)
    weights = [half[3].requires_grad_(), wide[3].requires_grad_()]
    losses = [
        fsc_ext.cross_distill_layer(*tensors, alpha=0.9, beta=0.5, activation="relu", padding=1)
        for tensors in (half, wide)
    ]
    torch.testing.assert_close(losses[0].float(), losses[1], rtol=1e-2, atol=0)
    found, expected = (
        torch.autograd.grad(loss, weight)[0] for loss, weight in zip(losses, weights, strict=True)
    )
    assert found.dtype == dtype
    scale = expected.abs().max()
    torch.testing.assert_close(found.float() / scale, expected / scale, rtol=0, atol=2e-2)


def test_proximal(device, dtype):
    half, wide = pair(dtype, device, 6, 5, 3, 3)
    assert close(fsc_ext.prox_l1(half, 0.5), fsc_ext.prox_l1(wide, 0.5), dtype)
    assert close(fsc_ext.prox_group_l2(half, 1.0, 1), fsc_ext.prox_group_l2(wide, 1.0, 1), dtype)
    assert torch.equal(fsc_ext.keep_topk_(half, 100), fsc_ext.keep_topk_(wide, 100))
    assert torch.equal(half.float(), wide)


def test_largest_of_many(device, dtype):
    half, wide = pair(dtype, device, 130, 131)
    assert torch.equal(fsc_ext.keep_topk_(half, 9001), fsc_ext.keep_topk_(wide, 9001))
    assert torch.equal(half.float(), wide)


def test_step(device, dtype):
    half, wide = pair(dtype, device, 6, 5, 3, 3)
    gradients = pair(dtype, device, 6, 5, 3, 3)
    for weight, gradient in ((half, gradients[0]), (wide, gradients[1])):
        moments = [torch.zeros_like(weight) for _ in range(2)]
        fsc_ext.adam_prox_(weight, gradient, *moments, 1, lr=0.1, penalty="l1", amount=0.05)
        fsc_ext.sgd_prox_(weight, gradient, lr=0.1, penalty="group_l2", amount=0.1)
    assert close(half, wide, dtype)


def test_steps_on_lists(device, dtype):
    shapes = [(6, 5, 3, 3), (7,), (40, 33)]
    weights, grads = ([pair(dtype, device, *s)[0] for s in shapes] for _ in range(2))
    moments = [[torch.zeros_like(weight) for weight in weights] for _ in range(2)]
    alone = [[tensor.clone() for tensor in tensors] for tensors in (weights, *moments)]
    settings = {"lr": 0.1, "penalty": "l1", "dim": 0}
    fsc_ext.foreach_adam_prox_(weights, grads, *moments, 1, amounts=[0.1, 0.2, 0.3], **settings)
    for i, (weight, first, second) in enumerate(zip(*alone, strict=True)):
        amount = [0.1, 0.2, 0.3][i]
        fsc_ext.adam_prox_(weight, grads[i], first, second, 1, amount=amount, **settings)
        assert torch.equal(weights[i], weight) and torch.equal(moments[1][i], second)


def test_solve_quadratic(device, dtype):
    half, wide = pair(dtype, device, 4, 8)
    root = torch.randn(8, 20, device=device)
    hessian, target = root @ root.T / 20, torch.randn(4, 8, device=device)
    rates, amounts = torch.full((5,), 0.05, dtype=torch.float64), torch.zeros(5).double()
    for weight in (half, wide):
        fsc_ext.solve_quadratic_(
            weight,
            hessian.to(weight.dtype),
            target.to(weight.dtype),
            rates,
            amounts,
            optimizer="sgd",
        )
    assert close(half, wide, dtype)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_gram(device, dtype, kernel_size, channels_last):
    half, wide = pair(dtype, device, 3, 4, 6, 6)
    if channels_last:
        half = half.to(memory_format=torch.channels_last)
    size = 4 * kernel_size**2 + 1
    found, expected = (torch.zeros(size, size, device=device) for _ in range(2))
    window = {"kernel_size": kernel_size, "padding": kernel_size // 2}
    fsc_ext.gram_accumulate_(found, None, None, half, None, **window)
    fsc_ext.gram_accumulate_(expected, None, None, wide, None, **window)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_quantize(device, dtype):
    half, wide = pair(dtype, device, 6, 40)
    assert close(fsc_ext.quantize_weight(half, 3), fsc_ext.quantize_weight(wide, 3), dtype)


def test_fold(device, dtype):
    half, wide = zip(
        *(pair(dtype, device, *s) for s in ((4, 3, 2, 2), (4,), (4,), (4,), (4,))), strict=True
    )
    variance = [torch.rand(4, device=device).to(dtype) + 0.5]
    variance.append(variance[0].float())
    found = fsc_ext.fuse_conv_bn(half[0], half[1], half[2], variance[0], half[3], half[4], 1e-3)
    expected = fsc_ext.fuse_conv_bn(wide[0], wide[1], wide[2], variance[1], wide[3], wide[4], 1e-3)
    for value, other in zip(found, expected, strict=True):
        assert close(value, other, dtype)


def test_absorb(device, dtype):
    half, wide = zip(*(pair(dtype, device, *s) for s in ((9, 8, 1), (9,), (5, 9))), strict=True)
    for value, other in zip(
        fsc_ext.absorb_conv1x1(*half), fsc_ext.absorb_conv1x1(*wide), strict=True
    ):
        assert close(value, other, dtype)
