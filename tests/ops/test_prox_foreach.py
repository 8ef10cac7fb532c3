"""Block soft thresholds of lists against the same weights one by one, bit for bit."""

import pytest
import torch

import fsc_ext
from fsc_ext import reference
from fsc_ext.testing import EMULATED, FLOATING, compiled, devices, layouts

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)
# Device code alone takes half precision.
TAKEN = [*FLOATING, torch.float16, torch.bfloat16] if EMULATED else FLOATING

# Odd sizes, one element, groups longer than a block, nothing at all in between.
SHAPES = [(6, 4, 3, 3), (1, 1), (7, 5), (0, 3), (2, 300, 2), (3, 1, 3, 3), (1, 1031), (5, 0)]
THRESHOLDS = [0.5, 0.1, 0.0, 1.0, 20.0, 1e300, 3.0, 0.1]


def drawn(device, dtype=torch.float32, shapes=SHAPES):
    return [torch.randn(shape, device=device).to(dtype) for shape in shapes]


def one_by_one(weights, thresholds, dim=0):
    pairs = zip(weights, thresholds, strict=True)
    return [fsc_ext.prox_group_l2(weight, threshold, dim) for weight, threshold in pairs]


def assert_same(found, expected):
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("dtype", TAKEN, ids=str)
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_lists(device, dtype, dim):
    weights = drawn(device, dtype)
    expected = one_by_one(weights, THRESHOLDS, dim)
    assert fsc_ext.foreach_prox_group_l2_(weights, THRESHOLDS, dim) is None
    assert_same(weights, expected)


def test_against_the_reference(device):
    weights = drawn(device, torch.float64)
    expected = [reference.prox_group_l2(weight, 2.0, 1) for weight in weights]
    fsc_ext.foreach_prox_group_l2_(weights, 2.0, 1)
    for weight, other in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-12, atol=1e-13)


# Groups of few elements a row are read together, and have tables of their own.
NARROW, OTHERS = (lambda i: (9 + i % 5, 1 + i % 7)), (lambda i: (1 + i % 5, 8 + i))


@pytest.mark.parametrize(
    "kinds", [[NARROW], [OTHERS], [NARROW, OTHERS]], ids=["narrow", "others", "both"]
)
@pytest.mark.parametrize("count", [55, 56, 57, 113])
def test_more_weights_than_a_table_holds(device, count, kinds):
    weights = drawn(device, shapes=[kinds[i % len(kinds)](i) for i in range(count)])
    thresholds = [i / 10 for i in range(count)]
    expected = one_by_one(weights, thresholds)
    fsc_ext.foreach_prox_group_l2_(weights, thresholds)
    assert_same(weights, expected)


def test_layouts(device):
    weights = drawn(device, shapes=[(6, 4, 3, 3)] * 3)
    expected = one_by_one(weights, [1.0] * 3, 1)
    order = ["channels_last", "strided", "contiguous"]
    changed = [layouts(w)[name] for w, name in zip(weights, order, strict=True)]
    strides = [weight.stride() for weight in changed]
    fsc_ext.foreach_prox_group_l2_(changed, 1.0, 1)
    assert_same(changed, expected)
    assert [weight.stride() for weight in changed] == strides


def test_empty_list(device):
    assert fsc_ext.foreach_prox_group_l2_([], []) is None
    assert fsc_ext.foreach_prox_group_l2_([], 1.0) is None
    with pytest.raises(RuntimeError, match="thresholds must hold 0 numbers"):
        fsc_ext.foreach_prox_group_l2_([], [1.0])


def test_every_weight_says_that_it_changed(device):
    weights = drawn(device)
    before = [weight._version for weight in weights]
    fsc_ext.foreach_prox_group_l2_(weights, THRESHOLDS)
    assert all(w._version > b for w, b in zip(weights, before, strict=True))


def test_opcheck(device):
    weights = drawn(device)
    weights[0] = layouts(weights[0])["channels_last"]
    torch.library.opcheck(torch.ops.fsc_ext.foreach_prox_group_l2_, (weights, THRESHOLDS, 1))


def test_compiles(device):
    weights = drawn(device)
    expected = one_by_one(weights, THRESHOLDS)

    def shrink(weights):
        fsc_ext.foreach_prox_group_l2_(weights, THRESHOLDS)
        return [weight * 2 for weight in weights]

    doubled = compiled(shrink)(weights)
    assert_same(weights, expected)
    assert_same(doubled, [2 * weight for weight in expected])


@pytest.mark.parametrize(("change", "arguments", "message"), [
    ({}, ([1.0],), "thresholds must hold 2 numbers, one for each of weights, got 1"),
    ({}, ([1.0, -1.0],), r"thresholds\[1\] must be finite and at least 0, got -1"),
    ({}, (float("nan"),), r"thresholds\[0\] must be finite and at least 0, got nan"),
    ({1: lambda: torch.ones(3).int()}, (1.0,), r"weights\[1\] must be float32 or float64"),
    ({1: lambda: torch.ones(3).double()}, (1.0,),
     r"weights\[1\] must have the dtype of weights\[0\]"),
    ({1: lambda: torch.tensor(1.0)}, (1.0,),
     r"weights\[1\] must have groups, so rank at least 1, got"),
    ({}, (1.0, 1), r"dim must be in \[-1, 0\] for weights\[1\] of rank 1, got 1"),
    ({1: lambda: torch.ones(1).expand(3)}, (1.0,),
     r"weights\[1\] must have memory for each of its"),
    ({1: None}, (1.0,), r"weights\[1\] must have memory of its own, got that of weights\[0\]"),
    ({1: lambda: torch.ones(3, requires_grad=True)}, (1.0,),
     r"weights\[1\] must not require a gradient"),
])  # fmt: skip
def test_errors(device, change, arguments, message):
    weights = [torch.ones(2, 3, device=device), torch.ones(3, device=device)]
    with device:
        for index, make in change.items():
            weights[index] = make() if make else weights[0]
    with pytest.raises(RuntimeError, match=f"^foreach_prox_group_l2_: {message}"):
        fsc_ext.foreach_prox_group_l2_(weights, *arguments)
    assert (weights[0] == 1).all()


def test_two_devices(device):
    weights = [torch.ones(2, device=device), torch.ones(2, device="meta")]
    with pytest.raises(ValueError, match=r"^foreach_prox_group_l2_: .* one device, got "):
        fsc_ext.foreach_prox_group_l2_(weights, 1.0)
