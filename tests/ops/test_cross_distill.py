"""The cross distillation operators against their reference."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import fsc_ext
from fsc_ext import reference
from fsc_ext.testing import EMULATED, FLOATING, REDUCTION_TOLERANCE, devices, layouts

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)
LAYOUTS = ["contiguous", "strided", "channels_last"]
CORNERS = [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.9, 0.3), (1.0, 0.5), (0.4, 1.0)]
GEOMETRIES: list[dict[str, Any]] = [
    {"padding": 1},
    {"stride": 2, "padding": (2, 0), "dilation": (1, 2)},
    {"stride": (1, 2), "groups": 2},
]
_ops = torch.ops.fsc_ext


def layer_inputs(
    device: torch.device, dtype: torch.dtype = torch.float64, *, batch: int = 3, groups: int = 1
) -> list[Tensor]:
    """Both inputs, weights and biases; the student's three require a gradient."""
    shapes = [(batch, 4, 8, 7)] * 2 + [(6, 4 // groups, 3, 3)] * 2 + [(6,)] * 2
    tensors = [torch.randn(shape, dtype=dtype, device=device) for shape in shapes]
    return [t.requires_grad_(i % 2 == 1) for i, t in enumerate(tensors)]


def leaves(tensors: list[Tensor]) -> list[Tensor]:
    return [t.detach().requires_grad_(t.requires_grad) for t in tensors]


def loss_and_gradients(
    layer: Callable[..., Tensor], tensors: list[Tensor], **settings: Any
) -> list[Tensor]:
    tensors = leaves(tensors)
    loss = layer(*tensors, **settings)
    return [loss, *torch.autograd.grad(3 * loss, [t for t in tensors if t.requires_grad])]


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activation", ["relu", "none"])
@pytest.mark.parametrize("settings", GEOMETRIES, ids=str)
def test_layer_equals_reference(device, dtype, layout, activation, settings):
    tensors = layer_inputs(device, dtype, groups=settings.get("groups", 1))
    arranged = [layouts(t).get(layout, t).detach().requires_grad_(t.requires_grad) for t in tensors]
    for alpha, beta in CORNERS:
        chosen = {"alpha": alpha, "beta": beta, "activation": activation, **settings}
        found = loss_and_gradients(fsc_ext.cross_distill_layer, arranged, **chosen)
        expected = loss_and_gradients(reference.cross_distill_layer, tensors, **chosen)
        # Gradients are sums of products of the order of ten that may cancel.
        loose = {"rtol": 3e-5, "atol": 1e-4}
        tolerance = loose if dtype == torch.float32 else REDUCTION_TOLERANCE[dtype]
        torch.testing.assert_close(found, expected, **tolerance)


def test_layer_takes_two_layouts_at_once(device):
    tensors = layer_inputs(device)
    expected = loss_and_gradients(reference.cross_distill_layer, tensors, alpha=0.9, beta=0.0)
    mixed = [t if i % 2 else layouts(t).get("channels_last", t) for i, t in enumerate(tensors)]
    found = loss_and_gradients(fsc_ext.cross_distill_layer, mixed, alpha=0.9, beta=0.0)
    torch.testing.assert_close(found, expected, **REDUCTION_TOLERANCE[torch.float64])


# Channels last, but for the stride of what holds one element.
ODD_STRIDES = [
    ("weight", (4, 3, 4, 4), (1, 3, 3, 1), (9, 1, 3, 1), {"stride": (3, 2), "padding": (2, 0)}),
    ("weight", (4, 4, 4, 1), (4, 4, 2, 1), (8, 1, 4, 8), {"padding": 1, "dilation": (1, 2)}),
    ("weight", (3, 4, 4, 1), (6, 2, 2, 1), (4, 1, 2, 4), {"stride": 2, "groups": 2}),
    ("weight", (1, 4, 3, 4), (6, 2, 1, 2), (4, 1, 2, 2), {"stride": 2, "groups": 2}),
    ("input_teacher", (2, 4, 1, 4), (6, 2, 1, 2), (16, 1, 2, 4), {"stride": 2, "groups": 2}),
]


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize(("which", "images", "kernels", "strides", "settings"), ODD_STRIDES)
def test_what_holds_one_element_has_any_stride(
    device, dtype, which, images, kernels, strides, settings
):
    # torch's convolutions refuse some of these, or add up what lies elsewhere.
    def channels_last(shape: tuple[int, ...], odd: bool) -> Tensor:
        tensor = torch.randn(shape, dtype=dtype, device=device)
        tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor.as_strided(shape, strides) if odd else tensor

    tensors = [channels_last(images, which == "input_teacher" and side == 0) for side in range(2)]
    tensors += [channels_last(kernels, which == "weight") for _ in range(2)]
    tensors += [torch.randn(kernels[0], dtype=dtype, device=device) for _ in range(2)]
    tensors = [t.requires_grad_(i % 2 == 1) for i, t in enumerate(tensors)]
    plain = [torch.empty(t.shape, dtype=dtype, device=device).copy_(t.detach()) for t in tensors]
    plain = [t.requires_grad_(i % 2 == 1) for i, t in enumerate(plain)]
    for alpha, beta in [(1.0, 0.0), (0.9, 0.3)]:
        places = {"alpha": alpha, "beta": beta, **settings}
        found = loss_and_gradients(fsc_ext.cross_distill_layer, tensors, **places)
        expected = loss_and_gradients(reference.cross_distill_layer, plain, **places)
        torch.testing.assert_close(found, expected, rtol=3e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize(("channels", "offset"), [(5, 0), (8, 1), (8, 2), (19, 3)])
def test_layer_takes_weights_of_any_width_and_address(device, dtype, channels, offset):
    # On GPUs 16 bytes of a row are copied at a time where all of them begin at multiples of 16.
    def at_offset(*shape: int) -> Tensor:
        size = torch.Size(shape).numel()
        return torch.randn(offset + size, dtype=dtype, device=device)[offset:].view(shape)

    shapes = [(2, channels, 6, 5)] * 2 + [(6, channels, 3, 3)] * 2 + [(6,)] * 2
    tensors = [at_offset(*shape).requires_grad_(i % 2 == 1) for i, shape in enumerate(shapes)]
    found = loss_and_gradients(fsc_ext.cross_distill_layer, tensors, alpha=0.7, beta=0.4)
    expected = loss_and_gradients(reference.cross_distill_layer, tensors, alpha=0.7, beta=0.4)
    # Against gradients of 100: what Winograd's transforms round, weights next to 0 have too.
    is_by_winograd = device.type == "cpu" and not EMULATED
    loose = {"rtol": 3e-5, "atol": 3e-4 if is_by_winograd else 1e-4}
    tolerance = loose if dtype == torch.float32 else REDUCTION_TOLERANCE[dtype]
    torch.testing.assert_close(found, expected, **tolerance)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("channels", [5, 24])
@pytest.mark.parametrize("filters", [6, 20, 72])
def test_layer_of_any_width(device, filters, channels, layout):
    # On GPUs narrow layers have narrow tiles, few pixels split the products, and neighbouring
    # channels are copied together where there are multiples of four of them.
    shapes = [(3, channels, 9, 7)] * 2 + [(filters, channels, 3, 3)] * 2 + [(filters,)] * 2
    tensors = [torch.randn(shape, device=device) for shape in shapes]
    tensors = [t.requires_grad_(i % 2 == 1) for i, t in enumerate(tensors)]
    arranged = [layouts(t).get(layout, t).detach().requires_grad_(t.requires_grad) for t in tensors]
    settings = {"alpha": 0.7, "beta": 0.4, "padding": 1, "stride": (1, 2)}
    found = loss_and_gradients(fsc_ext.cross_distill_layer, arranged, **settings)
    expected = loss_and_gradients(reference.cross_distill_layer, tensors, **settings)
    # Sums of up to 216 products of the order of one, and gradients over 108 pixels.
    torch.testing.assert_close(found, expected, rtol=3e-5, atol=3e-4)


@pytest.mark.parametrize("activation", ["relu", "none"])
@pytest.mark.parametrize(("alpha", "beta"), CORNERS)
def test_layer_gradcheck(device, activation, alpha, beta):
    def layer(*tensors: Tensor) -> Tensor:
        settings = {"alpha": alpha, "beta": beta, "activation": activation}
        return fsc_ext.cross_distill_layer(*tensors, **settings, stride=(2, 3), padding=1)

    assert torch.autograd.gradcheck(layer, layer_inputs(device, batch=1), fast_mode=True)


def test_layer_gradient_where_both_sides_agree(device):
    # Equal live outputs leave the residual 0, as dead student outputs do.
    tensors = layer_inputs(device)
    tensors[3] = tensors[2].detach().requires_grad_()
    tensors[5] = tensors[4].detach().requires_grad_()
    tensors[1] = torch.where(torch.rand_like(tensors[0]) < 0.02, 0, tensors[0]).requires_grad_()
    settings = {"alpha": 0.6, "beta": 0.5}
    found = loss_and_gradients(fsc_ext.cross_distill_layer, tensors, **settings)
    expected = loss_and_gradients(reference.cross_distill_layer, tensors, **settings)
    torch.testing.assert_close(found, expected, **REDUCTION_TOLERANCE[torch.float64])


def test_mix_and_residual_gradcheck(device):
    teacher, student = (
        torch.randn(2, 3, 4, device=device, dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    )
    mix = fsc_ext.soft_cross_mix
    assert torch.autograd.gradcheck(lambda a, b: mix(a, b, 0.7, 0.2), (teacher, student))
    assert torch.autograd.gradgradcheck(lambda a, b: mix(a, b, 0.7, 0.2), (teacher, student))
    for activation in ("relu", "none"):
        loss = lambda s, a=activation: fsc_ext.distill_residual(s, teacher.detach(), a)[0]  # noqa: E731
        assert torch.autograd.gradcheck(loss, (student,))


def test_training_loop_with_modules(device):
    conv_t, conv_s = (torch.nn.Conv2d(4, 6, 3, padding=1, bias=False).to(device) for _ in range(2))
    h_t, h_s = torch.randn(2, 5, 4, 9, 9, device=device)
    optimizer, losses = torch.optim.Adam(conv_s.parameters(), lr=0.01), []
    for _ in range(20):
        optimizer.zero_grad()
        loss = fsc_ext.cross_distill_layer(
            h_t, h_s, conv_t.weight, conv_s.weight, alpha=0.9, beta=0.3, padding=1
        )
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert conv_t.weight.grad is None


def count_allocations(tensors: list[Tensor], **settings: float) -> int:
    with torch.profiler.profile() as profile:
        fsc_ext.cross_distill_layer(*tensors, **settings)
    return sum(event.name in ("aten::empty_like", "aten::clone") for event in profile.events())


def test_corners_make_no_mixed_copy(device):
    if EMULATED or device.type == "cuda":
        pytest.skip("the fused kernel mixes what it loads")
    tensors = [t.detach() for t in layer_inputs(device, torch.float32)]
    base = count_allocations(tensors, alpha=1, beta=1)
    assert count_allocations(tensors, alpha=0, beta=0) == base
    assert count_allocations(tensors, alpha=0.5, beta=1) == base + 1
    assert count_allocations(tensors, alpha=0.5, beta=0.5) == base + 2


def test_opcheck(device):
    for layout in ("contiguous", "channels_last"):
        tensors = [layouts(t.detach()).get(layout, t.detach()) for t in layer_inputs(device)]
        arguments = [0.9, 0.3, "relu", [1, 1], [1, 1], [1, 1], 1]
        _, residual = _ops.cross_distill_layer(*tensors, *arguments)
        loss = torch.ones((), dtype=torch.float64, device=device)
        for mask in ([True, True, True], [False, True, False]):
            sample = (loss, residual, *tensors, *arguments, mask)
            torch.library.opcheck(_ops.cross_distill_layer_backward.default, sample)
        tensors = [t.requires_grad_(i % 2 == 1) for i, t in enumerate(tensors)]
        torch.library.opcheck(_ops.cross_distill_layer.default, (*tensors, *arguments))
        tensors[4] = tensors[5] = None
        torch.library.opcheck(_ops.cross_distill_layer.default, (*tensors, *arguments))
        mixed = (tensors[0], tensors[1], 0.9, 0.3)
        torch.library.opcheck(_ops.soft_cross_mix.default, mixed)
        sample = (tensors[1], tensors[0], "relu")
        torch.library.opcheck(_ops.distill_residual.default, sample)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("last", [(0, 1), (2, 3), (0, 3)], ids=["inputs", "weights", "one each"])
def test_opcheck_of_mixed_layouts(device, dtype, last):
    tensors = [t.detach() for t in layer_inputs(device, dtype)]
    tensors = [layouts(t)["channels_last"] if i in last else t for i, t in enumerate(tensors)]
    arguments = [0.9, 0.3, "relu", [1, 1], [1, 1], [1, 1], 1]
    _, residual = _ops.cross_distill_layer(*tensors, *arguments)
    sample = (torch.ones((), dtype=dtype, device=device), residual, *tensors, *arguments)
    for mask in ([True, True, True], [False, True, False]):
        torch.library.opcheck(_ops.cross_distill_layer_backward.default, (*sample, mask))
    tensors = [t.requires_grad_(i % 2 == 1) for i, t in enumerate(tensors)]
    torch.library.opcheck(_ops.cross_distill_layer.default, (*tensors, *arguments))


def test_empty_inputs(device):
    empty = torch.empty(0, 4, 8, 7, device=device)
    assert [x.shape for x in fsc_ext.soft_cross_mix(empty, empty, 0.5, 0.5)] == [empty.shape] * 2
    loss, residual = fsc_ext.distill_residual(empty, empty)
    assert loss.item() == 0 and residual.shape == empty.shape
    tensors = layer_inputs(device, torch.float32, batch=0)
    for activation in ("relu", "none"):
        found = loss_and_gradients(
            fsc_ext.cross_distill_layer, tensors, alpha=0.5, beta=0.5, activation=activation
        )
        assert all(value.abs().sum() == 0 for value in found)
        assert [g.shape for g in found[1:]] == [t.shape for t in tensors[1::2]]


def test_layer_gives_the_same_bits_again(device):
    tensors = layer_inputs(device, torch.float32)
    runs = [
        loss_and_gradients(fsc_ext.cross_distill_layer, tensors, alpha=0.9, beta=0.3)
        for _ in range(2)
    ]
    assert all(torch.equal(x, y) for x, y in zip(*runs, strict=True))


def test_compile_forward_and_backward(device):
    def layer(*tensors: Tensor, alpha: float) -> Tensor:
        x_t, x_s = fsc_ext.soft_cross_mix(tensors[0], tensors[1], alpha, 0.3)
        extra, _ = fsc_ext.distill_residual(x_s, x_t.detach())
        return extra + fsc_ext.cross_distill_layer(*tensors, alpha=alpha, beta=0.3, padding=1)

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    tensors = layer_inputs(device)
    for alpha in (0.9, 1.0):
        found = loss_and_gradients(compiled, tensors, alpha=alpha)
        expected = loss_and_gradients(layer, tensors, alpha=alpha)
        # cuDNN, which convolves the gradient of the input, does not promise the same bits again.
        close = {"rtol": 0, "atol": 0} if device.type == "cpu" else {"rtol": 1e-5, "atol": 1e-5}
        torch.testing.assert_close(found, expected, **close)
