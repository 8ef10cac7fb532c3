"""Proximal operators and hard projections against their reference."""

import pytest
import torch
from torch import Tensor

import fsc_ext
from fsc_ext import reference
from fsc_ext.testing import FLOATING, devices, layouts

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)
LAYOUTS = ["contiguous", "strided", "channels_last"]
SHAPE = (6, 5, 3, 3)
_ops = torch.ops.fsc_ext

# Norms are summed in float64, in another order than the reference's: the scale may differ by one
# unit in the last place, and by some more where 1 - threshold / norm cancels.
GROUP_TOLERANCE = {
    torch.float32: {"rtol": 1e-6, "atol": 1e-7},
    torch.float64: {"rtol": 1e-13, "atol": 1e-14},
}
every_dtype = pytest.mark.parametrize("dtype", FLOATING, ids=str)
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


def arranged(values: Tensor, layout: str) -> Tensor:
    """A fresh tensor of these values in the layout."""
    return layouts(values.clone())[layout]


def with_ties(device: torch.device, dtype: torch.dtype = torch.float64) -> Tensor:
    """Few different magnitudes, zero and both signs among them."""
    return torch.randn(SHAPE, dtype=torch.float64, device=device).mul(2).round().div(2).to(dtype)


@every_dtype
@every_layout
@pytest.mark.parametrize("threshold", [0.0, 0.5, 10.0])
def test_prox_l1(device, dtype, layout, threshold):
    values = with_ties(device, dtype)
    expected = reference.prox_l1(values, threshold)
    assert torch.equal(fsc_ext.prox_l1(arranged(values, layout), threshold), expected)
    changed = arranged(values, layout)
    assert fsc_ext.prox_l1_(changed, threshold) is changed
    assert torch.equal(changed, expected)


@every_dtype
@every_layout
@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_prox_group_l2(device, dtype, layout, dim):
    values = torch.randn(SHAPE, dtype=dtype, device=device)
    values.select(dim, 0).zero_()
    others = [d for d in range(4) if d != dim % 4]
    threshold = 1.01 * values.square().sum(others).sqrt().median().item()  # between two norms
    expected = reference.prox_group_l2(values, threshold, dim)
    found = fsc_ext.prox_group_l2(arranged(values, layout), threshold, dim)
    torch.testing.assert_close(found, expected, **GROUP_TOLERANCE[dtype])
    assert torch.equal(found == 0, expected == 0)
    changed = arranged(values, layout)
    assert fsc_ext.prox_group_l2_(changed, threshold, dim) is changed
    assert torch.equal(changed, found)


def test_groups_of_a_vector_are_its_elements(device):
    values = torch.tensor([3.0, -0.5, 2.0], device=device)
    expected = reference.prox_l1(values, 1.0)
    for prox in (fsc_ext.prox_group_l2, reference.prox_group_l2):
        torch.testing.assert_close(prox(values, 1.0, 0), expected)
    assert torch.equal(reference.keep_topk_groups(values, 1, 0)[1], values > 2)
    shrunk, _ = reference.proximal(values, "soft_topk_groups", 1, 0)
    torch.testing.assert_close(shrunk, reference.prox_l1(values, 2.0))


def test_prox_leaves_neighbours_of_a_view_alone(device):
    for change in (
        lambda x: fsc_ext.prox_l1_(x, 0.5),
        lambda x: fsc_ext.prox_group_l2_(x, 0.5),
        lambda x: fsc_ext.keep_topk_(x, 3),
        lambda x: fsc_ext.keep_topk_groups_(x, 1),
    ):
        whole = torch.ones(4, 6, device=device)
        change(whole[1:3, ::2])
        assert (whole[[0, 3]] == 1).all() and (whole[:, 1::2] == 1).all()
        assert (whole[1:3, ::2] != 1).any()


@every_dtype
@every_layout
@pytest.mark.parametrize("count", [0, 1, 100, 270])
def test_keep_topk(device, dtype, layout, count):
    values = with_ties(device, dtype)
    expected, expected_mask = reference.keep_topk(values, count)
    changed = arranged(values, layout)
    mask = fsc_ext.keep_topk_(changed, count)
    assert torch.equal(changed, expected) and torch.equal(mask, expected_mask)
    assert mask.sum() == count


@every_dtype
@every_layout
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_keep_topk_groups(device, dtype, layout, dim):
    values = with_ties(device, dtype)
    values.select(dim, 2).copy_(-values.select(dim, 0))
    for count in range(SHAPE[dim] + 1):
        expected, expected_mask = reference.keep_topk_groups(values, count, dim)
        changed = arranged(values, layout)
        mask = fsc_ext.keep_topk_groups_(changed, count, dim)
        assert torch.equal(changed, expected) and torch.equal(mask, expected_mask)


def test_group_of_one_element(device):
    weight = torch.tensor([3.0, -0.5, 0.0], device=device)
    assert fsc_ext.prox_group_l2(weight, 1.0).tolist() == [2.0, 0.0, 0.0]
    assert fsc_ext.keep_topk_groups_(weight, 1, dim=0).tolist() == [True, False, False]


def test_gradcheck(device):
    weight = torch.randn(4, 3, 2, 2, dtype=torch.float64, device=device)
    for dim in (0, 1, -1):
        weight.select(dim, 0).zero_()
    weight.requires_grad_()
    assert torch.autograd.gradcheck(lambda w: fsc_ext.prox_l1(w, 0.3), weight)
    for dim in (0, 1, -1):
        prox = lambda w, d=dim: fsc_ext.prox_group_l2(w, 1.5, d)  # noqa: E731
        assert torch.autograd.gradcheck(prox, weight)
        assert torch.autograd.gradgradcheck(prox, weight)
    vector = torch.tensor([0, 0.2, -3, 1], dtype=torch.float64, device=device, requires_grad=True)
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda w: fsc_ext.prox_group_l2(w, 0.5), vector)


@every_dtype
@every_layout
def test_gradients_equal_the_reference(device, dtype, layout):
    values = with_ties(device, dtype)
    grad_output = torch.randn(SHAPE, dtype=dtype, device=device)
    for op, arguments in [("prox_l1", (0.5,)), ("prox_group_l2", (3.0, 0))]:
        gradients = []
        for module in (fsc_ext, reference):
            weight = arranged(values, layout).requires_grad_()
            output = getattr(module, op)(weight, *arguments)
            gradients += torch.autograd.grad(output, weight, grad_output)
        # The fused formula runs in float64, the reference's chain in the dtype of the weight.
        unit = torch.finfo(dtype).eps
        torch.testing.assert_close(*gradients, rtol=16 * unit, atol=16 * unit)


def test_opcheck(device):
    for weight in (
        torch.randn(SHAPE, device=device),
        torch.randn(SHAPE, device=device).contiguous(memory_format=torch.channels_last),
        torch.randn(5, 6, device=device).t(),
    ):
        leaf = weight.detach().requires_grad_()
        torch.library.opcheck(_ops.prox_l1.default, (leaf, 0.5))
        torch.library.opcheck(_ops.prox_group_l2.default, (leaf, 1.0, 0))
        torch.library.opcheck(_ops.prox_l1_.default, (weight, 0.5))
        torch.library.opcheck(_ops.prox_group_l2_.default, (weight, 1.0, 1))
        torch.library.opcheck(_ops.keep_topk_.default, (weight, 3))
        torch.library.opcheck(_ops.keep_topk_groups_.default, (weight, 2, 1))


def test_empty_inputs(device):
    for shape in [(0, 3, 3, 3), (4, 0, 3, 3)]:
        empty = torch.empty(shape, device=device)
        assert fsc_ext.prox_l1(empty, 0.5).shape == shape
        assert fsc_ext.prox_l1_(empty, 0.5).shape == shape
        assert fsc_ext.keep_topk_(empty, 0).shape == shape
        for dim in (0, 1):
            assert fsc_ext.prox_group_l2(empty, 0.5, dim).shape == shape
            assert fsc_ext.prox_group_l2_(empty, 0.5, dim).shape == shape
            mask = fsc_ext.keep_topk_groups_(empty, shape[dim], dim)
            assert mask.shape == (shape[dim],) and mask.all()


def test_nan_stays_nan(device):
    weight = torch.tensor([[float("nan"), 1.0], [3.0, 4.0]], device=device)
    assert fsc_ext.prox_l1(weight, 0.5).isnan().tolist() == [[True, False], [False, False]]
    assert fsc_ext.prox_group_l2(weight, 0.5).isnan().tolist() == [[True, True], [False, False]]


@every_dtype
def test_threshold_beyond_the_range_of_the_dtype(device, dtype):
    infinity = float("inf")
    values = torch.tensor([infinity, -infinity, 3e38, 0.0], dtype=dtype, device=device)
    assert fsc_ext.prox_l1(values, 1e300).tolist() == [infinity, -infinity, 0, 0]
    assert fsc_ext.prox_l1_(values, 1e300).tolist() == [infinity, -infinity, 0, 0]


def test_same_bits_for_any_number_of_threads(device):
    weight = torch.randn(256, 512, 3, device=device)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 1):
            torch.set_num_threads(count)
            found.append([fsc_ext.prox_group_l2(weight, 20.0, dim) for dim in (0, 1, 2)])
            found[-1].append(fsc_ext.prox_l1(weight, 0.5))
            found[-1].append(fsc_ext.keep_topk_groups_(weight.clone(), 100))
    finally:
        torch.set_num_threads(threads)
    for again in found[1:]:
        assert all(torch.equal(x, y) for x, y in zip(found[0], again, strict=True))


def test_compile_forward_and_backward(device):
    def shrink(weight: Tensor) -> Tensor:
        return fsc_ext.prox_group_l2(fsc_ext.prox_l1(weight, 0.2), 1.0, 1).square().sum()

    compiled = torch.compile(shrink, fullgraph=True, backend="aot_eager")
    weight = torch.randn(SHAPE, device=device, requires_grad=True)
    found, expected = compiled(weight), shrink(weight)
    assert torch.equal(found, expected)
    gradients = [torch.autograd.grad(loss, weight)[0] for loss in (found, expected)]
    assert torch.equal(*gradients)


def test_compile_in_place(device):
    def project(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fsc_ext.prox_l1_(weight, 0.2)
        fsc_ext.prox_group_l2_(weight, 0.5, 0)
        elements = fsc_ext.keep_topk_(weight, 60)
        groups = fsc_ext.keep_topk_groups_(weight, 3, 1)
        return weight * 2, elements, groups

    compiled = torch.compile(project, fullgraph=True, backend="aot_eager")
    first = torch.randn(SHAPE, device=device)
    second = first.clone()
    found, expected = compiled(first), project(second)
    assert torch.equal(first, second) and not torch.equal(first, torch.zeros_like(first))
    assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))
