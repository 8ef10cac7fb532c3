"""What an operator changes has memory of its own, whatever lies between its elements."""

import pytest
import torch

import fsc_ext
from fsc_ext.testing import devices

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)

IN_PLACE = {
    "prox_l1_": ("input", lambda x: fsc_ext.prox_l1_(x, 0.5)),
    "prox_group_l2_": ("weight", lambda x: fsc_ext.prox_group_l2_(x, 0.5)),
    "keep_topk_": ("weight", lambda x: fsc_ext.keep_topk_(x, 1)),
    "keep_topk_groups_": ("weight", lambda x: fsc_ext.keep_topk_groups_(x, 1)),
    "foreach_prox_group_l2_": (
        r"weights\[0\]",
        lambda x: fsc_ext.foreach_prox_group_l2_([x], 0.5),
    ),
    "sgd_prox_": ("weight", lambda x: fsc_ext.sgd_prox_(x, torch.ones_like(x), lr=0.1)),
}
LOOP = {"learning_rates": torch.ones(1).double(), "amounts": torch.ones(1).double()}


@pytest.mark.parametrize("name", IN_PLACE)
@pytest.mark.parametrize("strides", [(0, 1), (1, 1), (2, 1)], ids=str)
def test_elements_that_share_memory(device, name, strides):
    argument, change = IN_PLACE[name]
    flat = torch.arange(1.0, 13.0, device=device)
    with pytest.raises(RuntimeError, match=f"^{name}: {argument} must have memory for each"):
        change(flat.as_strided((4, 3), strides))
    assert torch.equal(flat, torch.arange(1.0, 13.0, device=device))


@pytest.mark.parametrize("name", IN_PLACE)
def test_elements_among_those_of_others(device, name):
    """Strides that no order of the dimensions nests, and no two elements in one place."""
    flat = torch.arange(1.0, 13.0, device=device)
    view = flat.as_strided((3, 2), (2, 3))  # 0, 3, 2, 5, 4, 7
    copy = view.clone()
    IN_PLACE[name][1](view)
    IN_PLACE[name][1](copy)
    assert torch.equal(view, copy)


def test_gaps_of_each_other(device):
    flat = torch.ones(9, device=device)
    fsc_ext.foreach_prox_group_l2_([flat[::2], flat[1::2]], 0.5)
    assert torch.equal(flat, torch.full_like(flat, 0.5))
    with pytest.raises(RuntimeError, match=r"weights\[1\] must have memory of its own, got that"):
        fsc_ext.foreach_prox_group_l2_([flat[:-2:2], flat[2::2]], 0.5)
    moments = torch.zeros(5, device=device), flat[1:6]
    with pytest.raises(RuntimeError, match="exp_avg_sq must have memory of its own, got that of w"):
        fsc_ext.adam_prox_(flat[::2], torch.ones(5, device=device), *moments, 1, lr=0.1, dim=0)
    assert torch.equal(flat, torch.full_like(flat, 0.5))


def test_a_gap_as_large_as_what_is_repeated(device):
    flat = torch.arange(8.0, device=device)
    hessian, target = flat.as_strided((2, 2), (0, 3)), torch.ones(1, 2, device=device)  # 0, 3
    fsc_ext.solve_quadratic_(flat[1:3].view(1, 2), hessian, target, **LOOP)
    assert flat[0] == 0 and flat[3] == 3


@pytest.mark.parametrize("argument", ["direction", "target"])
def test_line_search_reads_what_it_moves(device, argument):
    output = torch.ones(2, 3, device=device)
    others = {"direction": output.clone(), "target": output.clone(), argument: output}
    with pytest.raises(RuntimeError, match=f"^line_search_relu_: {argument} must have memory of"):
        fsc_ext.line_search_relu_(output, **others)
    assert torch.equal(output, torch.ones_like(output))


def test_sums_of_themselves(device):
    gram = torch.ones(2, 2, device=device)
    for name, arguments in (
        ("student", (gram, None, None, gram, None)),
        ("gram_cross", (gram, gram, None, gram.clone(), gram.clone())),
    ):
        with pytest.raises(RuntimeError, match=f"^gram_accumulate_: {name} must have memory of"):
            fsc_ext.gram_accumulate_(*arguments)
    with pytest.raises(RuntimeError, match="gram_student must have memory for each"):
        fsc_ext.gram_accumulate_(gram[:1].expand(2, 2), None, None, gram.clone(), None)
    assert torch.equal(gram, torch.ones_like(gram))


def test_loops_read_what_they_change(device):
    weight = torch.ones(2, 2, device=device)
    for name in ("hessian", "target"):
        tensors = {"hessian": weight.clone(), "target": weight.clone(), name: weight}
        with pytest.raises(RuntimeError, match=f"^solve_quadratic_: {name} must have memory of"):
            fsc_ext.solve_quadratic_(weight, **tensors, **LOOP)
    weight = torch.ones(1, 1, 1, 1, device=device)
    for name in ("input", "target"):
        tensors = {"input": weight.clone(), "target": weight.clone(), name: weight}
        with pytest.raises(RuntimeError, match=f"^solve_relu_: {name} must have memory of its own"):
            fsc_ext.solve_relu_(weight, **tensors, **LOOP)
