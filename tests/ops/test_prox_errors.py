"""What the proximal operators and projections refuse, each in one sentence."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import fsc_ext
from fsc_ext.testing import EMULATED, devices

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)

ERRORS: list[tuple[str, Callable[[Tensor], object], str]] = [
    (
        "prox_l1",
        lambda w: fsc_ext.prox_l1(w, -1.0),
        "threshold must be finite and at least 0, got -1",
    ),
    ("prox_l1", lambda w: fsc_ext.prox_l1(w, float("nan")), "threshold must be .*, got nan"),
    ("prox_l1", lambda w: fsc_ext.prox_l1(w.int(), 1.0), "input must be float32 .*, got Int"),
    ("prox_l1_", lambda w: fsc_ext.prox_l1_(w, float("inf")), "threshold must be .*, got inf"),
    ("prox_l1_", lambda w: fsc_ext.prox_l1_(w.int(), 1.0), "input must be float32 .*, got Int"),
    ("prox_group_l2", lambda w: fsc_ext.prox_group_l2(w, -0.5), "threshold must be .*, got -0.5"),
    ("prox_group_l2", lambda w: fsc_ext.prox_group_l2(w, 1, 2), r"dim must be in \[-2, 1\].*got 2"),
    ("prox_group_l2", lambda w: fsc_ext.prox_group_l2(w.int(), 1), "weight must be float32"),
    (
        "prox_group_l2",
        lambda w: fsc_ext.prox_group_l2(w.sum(), 1),
        r"weight must have .*rank at least 1, got \[\]",
    ),
    ("prox_group_l2_", lambda w: fsc_ext.prox_group_l2_(w, -0.5), "threshold must be .*, got -0.5"),
    ("prox_group_l2_", lambda w: fsc_ext.prox_group_l2_(w, 1, -3), r"dim must be in .*got -3"),
    ("keep_topk_", lambda w: fsc_ext.keep_topk_(w, 7), r"count must be in \[0, 6\], got 7"),
    ("keep_topk_", lambda w: fsc_ext.keep_topk_(w, -1), r"count must be in \[0, 6\], got -1"),
    ("keep_topk_", lambda w: fsc_ext.keep_topk_(w.long(), 1), "weight must be float32"),
    ("keep_topk_", lambda w: fsc_ext.keep_topk_(w / 0 * 0, 1), "weight must not contain NaN"),
    ("keep_topk_groups_", lambda w: fsc_ext.keep_topk_groups_(w, 4), r"count must be in \[0, 3\]"),
    ("keep_topk_groups_", lambda w: fsc_ext.keep_topk_groups_(w, 1, 2), "dim must be in"),
    ("keep_topk_groups_", lambda w: fsc_ext.keep_topk_groups_(w.sum(), 1), "rank at least 1, got"),
    (
        "keep_topk_groups_",
        lambda w: fsc_ext.keep_topk_groups_(w / 0 * 0, 1),
        "must not contain NaN",
    ),
]


@pytest.mark.parametrize(("op", "call", "message"), ERRORS, ids=range(len(ERRORS)))
def test_errors(device, op, call, message):
    if "NaN" in message and (EMULATED or device.type == "cuda"):
        pytest.skip("device code does not wait to see a NaN")
    weight = torch.ones(2, 3, device=device)
    with pytest.raises(RuntimeError, match=f"^{op}: .*{message}"):
        call(weight)
    assert (weight == 1).all()


@pytest.mark.parametrize("op", ["prox_l1_", "prox_group_l2_", "keep_topk_", "keep_topk_groups_"])
def test_in_place_refuses_a_gradient(device, op):
    weight = torch.ones(2, 3, device=device, requires_grad=True)
    name = "input" if op == "prox_l1_" else "weight"
    with pytest.raises(RuntimeError, match=f"^{op}: {name} must not require a gradient"):
        getattr(fsc_ext, op)(weight, 1)
    with torch.no_grad():
        getattr(fsc_ext, op)(weight, 1)
    assert (weight != 1).any()


@pytest.mark.parametrize(
    "project",
    [
        lambda w: fsc_ext.prox_l1_(w, 0.1),
        lambda w: fsc_ext.prox_group_l2_(w, 0.1),
        lambda w: fsc_ext.keep_topk_(w, 3),
        lambda w: fsc_ext.keep_topk_groups_(w, 1),
    ],
)
def test_backward_after_a_projection_of_what_it_saved_is_refused(project, device) -> None:
    weight = torch.randn(4, 3, device=device)
    leaf = torch.randn(4, 3, device=device, requires_grad=True)
    output = leaf * weight
    project(weight)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()
