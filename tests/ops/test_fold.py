"""fuse_conv_bn and absorb_conv1x1 against the reference and against the layers they replace."""

from typing import Any

import pytest
import torch
from torch import Tensor

from fsc_ext import absorb_conv1x1, fuse_conv_bn, reference
from fsc_ext.testing import EMULATED, FLOATING, REDUCTION_TOLERANCE, devices, layouts, strided

EPS = 1e-5
SHAPES = [(6, 4, 3, 3), (5, 7, 1, 1), (8, 1, 3, 3), (4, 9), (3, 2, 5), (2, 3, 2, 2, 2)]


def bn_inputs(
    shape: tuple[int, ...], dtype: torch.dtype = torch.float64, device: Any = "cpu"
) -> list[Any]:
    def vector() -> Tensor:
        return torch.randn(shape[0], dtype=dtype, device=device)

    weight = torch.randn(shape, dtype=dtype, device=device)
    return [weight, vector(), vector(), vector().exp(), vector(), vector(), EPS]


def pointwise_inputs(
    shape: tuple[int, ...], dtype: torch.dtype = torch.float64, device: Any = "cpu"
) -> list[Tensor]:
    weight = torch.randn(shape, dtype=dtype, device=device)
    bias, pointwise_bias = weight.new_empty(shape[0]).normal_(), weight.new_empty(3).normal_()
    return [weight, bias, weight.new_empty(3, shape[0]).normal_(), pointwise_bias]


@pytest.mark.parametrize("device", devices(), ids=str)
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fuse_matches_reference(shape: tuple[int, ...], dtype: torch.dtype, device: Any) -> None:
    inputs = bn_inputs(shape, dtype, device)
    expected = reference.fuse_conv_bn(*inputs)
    for layout, weight in layouts(inputs[0]).items():
        fused = fuse_conv_bn(weight, *(strided(x) for x in inputs[1:6]), EPS)
        assert torch.equal(fused[0], expected[0]), layout
        assert torch.equal(fused[1], expected[1]), layout


@pytest.mark.parametrize("device", devices(), ids=str)
@pytest.mark.parametrize("missing", [(1,), (4,), (5,), (1, 5), (4, 5), (1, 4, 5)], ids=str)
def test_fuse_without_optional_vectors(missing: tuple[int, ...], device: Any) -> None:
    inputs = bn_inputs((6, 4, 3, 3), torch.float32, device)
    for i in missing:
        inputs[i] = None
    for actual, expected in zip(
        fuse_conv_bn(*inputs), reference.fuse_conv_bn(*inputs), strict=True
    ):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("groups", [1, 2])
def test_fused_layer_does_what_both_did(groups: int) -> None:
    conv = torch.nn.Conv2d(4, 6, 3, padding=1, groups=groups, dtype=torch.float64)
    norm = torch.nn.BatchNorm2d(6, dtype=torch.float64)
    norm(torch.randn(9, 6, 5, 5, dtype=torch.float64) * 3 + 1)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    norm.eval()
    weight, bias = fuse_conv_bn(
        conv.weight,
        conv.bias,
        norm.running_mean,
        norm.running_var,
        norm.weight,
        norm.bias,
        norm.eps,
    )
    images = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    fused = torch.nn.functional.conv2d(images, weight, bias, padding=1, groups=groups)
    torch.testing.assert_close(fused, norm(conv(images)), rtol=1e-11, atol=1e-12)


def test_fuse_keeps_channels_last() -> None:
    inputs = bn_inputs((6, 4, 3, 3))
    inputs[0] = inputs[0].to(memory_format=torch.channels_last)
    assert fuse_conv_bn(*inputs)[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (4, 0, 3, 3), (0, 2)], ids=str)
def test_empty_weights(shape: tuple[int, ...]) -> None:
    inputs = bn_inputs(shape)
    weight, bias = fuse_conv_bn(*inputs)
    assert weight.shape == shape
    assert torch.equal(bias, reference.fuse_conv_bn(*inputs)[1])
    weight, bias = absorb_conv1x1(*pointwise_inputs(shape))
    assert weight.shape == (3, *shape[1:])
    assert bias.shape == (3,)


@pytest.mark.parametrize("device", devices(), ids=str)
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_absorb_matches_reference(shape: tuple[int, ...], dtype: torch.dtype, device: Any) -> None:
    inputs = pointwise_inputs(shape, dtype, device)
    expected = reference.absorb_conv1x1(*inputs)
    for weight in layouts(inputs[0]).values():
        absorbed = absorb_conv1x1(weight, *(strided(x) for x in inputs[1:]))
        torch.testing.assert_close(absorbed, expected, **REDUCTION_TOLERANCE[dtype])


@pytest.mark.parametrize("missing", [(1,), (3,), (1, 3)], ids=str)
def test_absorb_without_biases(missing: tuple[int, ...]) -> None:
    inputs: list[Any] = pointwise_inputs((5, 4, 3, 3))
    for i in missing:
        inputs[i] = None
    expected = reference.absorb_conv1x1(*inputs)
    torch.testing.assert_close(
        absorb_conv1x1(*inputs), expected, **REDUCTION_TOLERANCE[torch.float64]
    )


def test_absorbed_layer_does_what_both_did() -> None:
    conv = torch.nn.Conv2d(4, 6, 3, stride=2, dtype=torch.float64)
    pointwise = torch.nn.Conv2d(6, 5, 1, dtype=torch.float64)
    weight, bias = absorb_conv1x1(conv.weight, conv.bias, pointwise.weight, pointwise.bias)
    images = torch.randn(2, 4, 9, 9, dtype=torch.float64)
    absorbed = torch.nn.functional.conv2d(images, weight, bias, stride=2)
    torch.testing.assert_close(absorbed, pointwise(conv(images)), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("missing", [(), (1,), (4,), (5,), (1, 4, 5)], ids=str)
def test_fuse_gradcheck(missing: tuple[int, ...]) -> None:
    inputs = bn_inputs((3, 2, 2, 2))
    for i in (0, 1, 4, 5):
        inputs[i] = None if i in missing else inputs[i].requires_grad_()
    assert torch.autograd.gradcheck(fuse_conv_bn, inputs)
    assert torch.autograd.gradgradcheck(fuse_conv_bn, inputs)


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_fuse_gradients_match_reference(dtype: torch.dtype) -> None:
    inputs = bn_inputs((6, 4, 3, 3), dtype)
    wanted = [inputs[i].requires_grad_() for i in (0, 1, 4, 5)]

    def gradients(function: Any) -> tuple[Tensor, ...]:
        weight, bias = function(*inputs)
        return torch.autograd.grad(weight.square().sum() + bias.exp().sum(), wanted)

    torch.testing.assert_close(
        gradients(fuse_conv_bn), gradients(reference.fuse_conv_bn), **REDUCTION_TOLERANCE[dtype]
    )


def test_absorb_gradcheck() -> None:
    inputs = [x.requires_grad_() for x in pointwise_inputs((4, 2, 2, 2))]
    assert torch.autograd.gradcheck(absorb_conv1x1, inputs)
    inputs[2] = inputs[2].detach().view(3, 4, 1, 1).requires_grad_()
    assert torch.autograd.gradcheck(absorb_conv1x1, inputs)


def test_opcheck() -> None:
    ops = torch.ops.fsc_ext
    inputs = bn_inputs((4, 3, 3, 3))
    for i in (0, 1, 4, 5):
        inputs[i].requires_grad_()
    torch.library.opcheck(ops.fuse_conv_bn, inputs)
    bare = [inputs[0].detach(), None, *inputs[2:4], None, None, EPS]
    for layout in layouts(bare[0]).values():
        torch.library.opcheck(ops.fuse_conv_bn, [layout, *bare[1:]])
    pointwise = [x.requires_grad_() for x in pointwise_inputs((4, 3, 3, 3))]
    torch.library.opcheck(ops.absorb_conv1x1, pointwise)
    weight = pointwise[0].detach().to(memory_format=torch.channels_last)
    torch.library.opcheck(ops.absorb_conv1x1, (weight, None, pointwise[2].view(3, 4, 1, 1), None))


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile(dynamic: bool) -> None:
    def loss(inputs: list[Any], pointwise: list[Tensor]) -> Tensor:
        weight, bias = fuse_conv_bn(*inputs)
        weight, bias = absorb_conv1x1(weight, bias, *pointwise)
        return weight.square().sum() + bias.exp().sum()

    inputs, pointwise = bn_inputs((4, 3, 3, 3)), pointwise_inputs((4, 3))[2:]
    wanted = [x.requires_grad_() for x in (inputs[0], inputs[1], inputs[4], *pointwise)]
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    actual = torch.autograd.grad(compiled(inputs, pointwise), wanted)
    torch.testing.assert_close(actual, torch.autograd.grad(loss(inputs, pointwise), wanted))


WEIGHT, VECTOR = torch.ones(4, 3, 2, 2), torch.ones(4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({0: torch.ones(4)}, r"weight must be \[C_out, C_in, ...\], got \[4\]"),
        ({0: WEIGHT.int()}, "weight must be float32 or float64"),
        ({1: torch.ones(5)}, r"bias must be \[C_out\] with C_out = 4, got \[5\]"),
        ({2: torch.ones(1, 4)}, r"running_mean must be \[C_out\] .* got \[1, 4\]"),
        ({3: VECTOR.double()}, "running_var must have the dtype of weight"),
        ({4: torch.ones(3)}, "bn_weight must be"),
        ({5: torch.ones(3)}, "bn_bias must be"),
        ({6: -1.0}, "eps must be finite and at least 0, got -1"),
        ({6: float("nan")}, "eps must be finite"),
        (
            {3: torch.tensor([1, 1, -2.0, 1]), 6: 0.5},
            r"running_var \+ eps .* got -1.5 in channel 2",
        ),
        ({3: torch.tensor([1, 0.0, 1, 1]), 6: 0.0}, r"running_var \+ eps .* got 0 in channel 1"),
        ({3: VECTOR * float("nan")}, r"running_var \+ eps must be positive, got nan in channel 0"),
        ({2: torch.ones(4, requires_grad=True)}, "running_mean must not require a gradient"),
        ({3: torch.ones(4, requires_grad=True)}, "running_var must not require a gradient"),
    ],
)
def test_bad_arguments_of_fuse(changed: dict[int, Any], message: str) -> None:
    if EMULATED and r"running_var \+ eps" in message:
        pytest.skip("device code does not wait to see a variance; the channel becomes NaN")
    inputs: list[Any] = [WEIGHT, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, EPS]
    for i, value in changed.items():
        inputs[i] = value
    with pytest.raises(RuntimeError, match=message):
        fuse_conv_bn(*inputs)


VECTORS = ["bias", "running_mean", "running_var", "bn_weight", "bn_bias"]


@pytest.mark.parametrize("name", ["weight", *VECTORS])
def test_two_devices_in_fuse(name: str) -> None:
    vectors = dict.fromkeys(VECTORS, VECTOR)
    tensors = {"weight": WEIGHT} | vectors
    tensors[name] = tensors[name].to("meta")
    with pytest.raises(ValueError, match=f"^fuse_conv_bn: .* one device, got .*{name} on meta"):
        fuse_conv_bn(**tensors, eps=EPS)


@pytest.mark.parametrize("name", ["weight", "bias", "pointwise_weight", "pointwise_bias"])
def test_two_devices_in_absorb(name: str) -> None:
    tensors = {"weight": WEIGHT, "bias": VECTOR}
    tensors |= {"pointwise_weight": torch.ones(3, 4), "pointwise_bias": torch.ones(3)}
    tensors[name] = tensors[name].to("meta")
    with pytest.raises(ValueError, match=f"^absorb_conv1x1: .* one device, got .*{name} on meta"):
        absorb_conv1x1(**tensors)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({0: torch.ones(4)}, r"weight must be \[C_out, C_in, ...\], got \[4\]"),
        ({0: WEIGHT.int()}, "weight must be float32 or float64"),
        ({1: torch.ones(3)}, r"absorb_conv1x1: bias must be \[C_out\] with C_out = 4, got \[3\]"),
        ({1: VECTOR.double()}, "bias must have the dtype of weight"),
        ({2: torch.ones(3, 5)}, r"pointwise_weight must be \[C_new, C_out\] or .* got \[3, 5\]"),
        ({2: torch.ones(3, 4, 3, 3)}, "pointwise_weight must be"),
        ({2: torch.ones(3, 4).double()}, "pointwise_weight must have the dtype"),
        ({3: VECTOR}, r"pointwise_bias must be \[C_new\] with C_new = 3, got \[4\]"),
        ({3: torch.ones(3).double()}, "pointwise_bias must have the dtype of weight"),
    ],
)
def test_bad_arguments_of_absorb(changed: dict[int, Any], message: str) -> None:
    inputs: list[Any] = [WEIGHT, VECTOR, torch.ones(3, 4), torch.ones(3)]
    for i, value in changed.items():
        inputs[i] = value
    with pytest.raises(RuntimeError, match=message):
        absorb_conv1x1(*inputs)
