"""Steps on lists of tensors against the same steps one by one, bit for bit."""

import pytest
import torch

import fsc_ext
from fsc_ext.testing import EMULATED, FLOATING, compiled, devices, layouts

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)
HARD = ("topk", "topk_groups")
# Device code alone takes half precision.
TAKEN = [*FLOATING, torch.float16, torch.bfloat16] if EMULATED else FLOATING
every_dtype = pytest.mark.parametrize("dtype", TAKEN, ids=str)

# Odd sizes, blocks of one element and of several, nothing at all in between.
SHAPES = [(6, 4, 3, 3), (1, 1), (7, 5), (0, 3), (2, 300, 2), (3, 1, 3, 3), (1, 1031), (5, 0)]
PENALTIES = {
    "none": [0.0] * 8,
    "l1": [0.01, 0.0, 0.5, 1.0, 0.03, 1e300, 0.02, 0.1],
    "group_l2": [0.5, 0.1, 0.0, 1.0, 0.3, 0.2, 0.01, 0.1],
    "topk": [100, 1, 0, 0, 500, 9, 31, 0],
    "topk_groups": [3, 1, 2, 0, 11, 0, 1000, 0],
    "soft_topk": [100, 0, 35, 0, 500, 9, 31, 0],
    "soft_topk_groups": [3, 1, 2, 3, 11, 0, 1000, 0],
}
every_penalty = pytest.mark.parametrize("penalty", PENALTIES)


def drawn(device, dtype, shapes=SHAPES):
    return [torch.randn(shape, device=device).to(dtype) for shape in shapes]


def zeros(like):
    return [torch.zeros_like(tensor) for tensor in like]


def clones(lists):
    return [[tensor.clone() for tensor in tensors] for tensors in lists]


def masks_of(weights, penalty):
    return [torch.ones_like(w, dtype=torch.bool) for w in weights] if penalty in HARD else None


def assert_same(found, expected):
    """Whether all tensors of two lists of lists have the same bits."""
    pairs = zip(sum(found, []), sum(expected, []), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def one_by_one(op, lists, masks, amounts, *arguments, **settings):
    for i, tensors in enumerate(zip(*lists, strict=True)):
        mask = None if masks is None else masks[i]
        op(*tensors, *arguments, amount=amounts[i], mask=mask, **settings)


def moved(penalty, dtype, device, shapes=SHAPES, amounts=None):
    """What two steps of Adam make of lists, and of the same tensors one by one."""
    weights, grads = drawn(device, dtype, shapes), drawn(device, dtype, shapes)
    together = [weights, grads, zeros(weights), zeros(weights)]
    masks, amounts = masks_of(weights, penalty), amounts or PENALTIES[penalty]
    alone, settings = clones(together), {"lr": 0.1, "penalty": penalty}
    alone_masks = masks_of(weights, penalty)
    for number in (1, 2):
        fsc_ext.foreach_adam_prox_(*together, number, amounts=amounts, masks=masks, **settings)
        one_by_one(fsc_ext.adam_prox_, alone, alone_masks, amounts, number, **settings)
    return [*together, masks or []], [*alone, alone_masks or []]


@every_dtype
@every_penalty
def test_adam(device, dtype, penalty):
    found, expected = moved(penalty, dtype, device)
    assert assert_same(found, expected)


@every_dtype
@every_penalty
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd(device, dtype, penalty, momentum):
    weights, grads = drawn(device, dtype), drawn(device, dtype)
    together = [weights, grads, *([drawn(device, dtype)] if momentum else [])]
    masks, amounts = masks_of(weights, penalty), PENALTIES[penalty]
    alone, alone_masks = clones(together), masks_of(weights, penalty)
    settings = {"lr": 0.1, "penalty": penalty, "momentum": momentum}
    fsc_ext.foreach_sgd_prox_(*together, amounts=amounts, masks=masks, **settings)
    one_by_one(fsc_ext.sgd_prox_, alone, alone_masks, amounts, **settings)
    assert assert_same([*together, masks or []], [*alone, alone_masks or []])


@pytest.mark.parametrize("count", [47, 48, 49, 100])
def test_more_tensors_than_a_table_holds(device, count):
    shapes = [(1 + i % 5, 3 + i) for i in range(count)]
    amounts = [i / 100 for i in range(count)]
    found, expected = moved("l1", torch.float32, device, shapes, amounts)
    assert assert_same(found, expected)
    # Neither kernel stands still.
    assert all(first.any() for first in found[2])


def test_against_torch(device):
    weights, grads = drawn(device, torch.float64), drawn(device, torch.float64)
    parameters = [weight.clone().requires_grad_() for weight in weights]
    adam, moments = torch.optim.Adam(parameters, lr=0.1), (zeros(weights), zeros(weights))
    settings = {"lr": 0.1, "penalty": "l1", "amounts": PENALTIES["l1"]}
    for number in (1, 2, 3):
        scaled = [grad * number for grad in grads]
        for parameter, grad in zip(parameters, scaled, strict=True):
            parameter.grad = grad
        adam.step()
        for parameter, threshold in zip(parameters, PENALTIES["l1"], strict=True):
            parameter.data = torch.nn.functional.softshrink(parameter.data, threshold)
        fsc_ext.foreach_adam_prox_(weights, scaled, *moments, number, **settings)
    for weight, parameter in zip(weights, parameters, strict=True):
        torch.testing.assert_close(weight, parameter.detach(), rtol=1e-12, atol=1e-13)


@every_dtype
@pytest.mark.parametrize("penalty", ["l1", "topk_groups"])
def test_unaligned_tensors(device, dtype, penalty):
    # Every other weight starts one element behind a boundary of 16 bytes, as do some gradients.
    def placed(tensor, offset):
        memory = torch.empty(tensor.numel() + offset, device=device, dtype=dtype)
        return memory[offset:].view_as(tensor).copy_(tensor)

    shapes = [(4, 9), (5, 16), (3, 7), (8, 8)]
    weights = [placed(w, i % 2) for i, w in enumerate(drawn(device, dtype, shapes))]
    grads = [placed(g, i // 2) for i, g in enumerate(drawn(device, dtype, shapes))]
    together = [weights, grads, zeros(weights), zeros(weights)]
    alone, amounts = clones(together), [0.1, 0.2, 0.3, 0.4] if penalty == "l1" else [3, 2, 1, 5]
    masks, alone_masks = masks_of(weights, penalty), masks_of(weights, penalty)
    settings = {"lr": 0.1, "penalty": penalty}
    fsc_ext.foreach_adam_prox_(*together, 1, amounts=amounts, masks=masks, **settings)
    one_by_one(fsc_ext.adam_prox_, alone, alone_masks, amounts, 1, **settings)
    assert assert_same(together, alone)


@pytest.mark.parametrize("grads_in", [None, "contiguous"])
@pytest.mark.parametrize("penalty", ["l1", "group_l2", "topk"])
def test_layouts(device, penalty, grads_in):
    shapes = [(6, 4, 3, 3), (5, 3, 2, 2), (2, 7, 1, 3)]
    weights, grads = drawn(device, torch.float32, shapes), drawn(device, torch.float32, shapes)
    alone = [weights, grads, zeros(weights), zeros(weights)]
    order = ["channels_last", "strided", "contiguous"]
    together = [
        [layouts(tensor)[name] for tensor, name in zip(tensors, order, strict=True)]
        for tensors in clones(alone)
    ]
    if grads_in is not None:
        together[1] = [layouts(grad)[grads_in] for grad in grads]
    strides = [weight.stride() for weight in together[0]]
    masks, alone_masks = masks_of(together[0], penalty), masks_of(weights, penalty)
    settings, amounts = {"lr": 0.1, "penalty": penalty}, [2, 3, 1]
    fsc_ext.foreach_adam_prox_(*together, 1, amounts=amounts, masks=masks, **settings)
    one_by_one(fsc_ext.adam_prox_, alone, alone_masks, amounts, 1, **settings)
    assert assert_same([*together, masks or []], [*alone, alone_masks or []])
    assert [weight.stride() for weight in together[0]] == strides


def test_groups_along_another_dimension(device):
    weights, grads = drawn(device, torch.float32), drawn(device, torch.float32)
    alone, amounts = clones([weights, grads]), [0.5] * 8
    settings = {"lr": 0.1, "penalty": "group_l2", "dim": -2}
    fsc_ext.foreach_sgd_prox_(weights, grads, amounts=amounts, **settings)
    one_by_one(fsc_ext.sgd_prox_, alone, None, amounts, **settings)
    assert assert_same([weights, grads], alone)


def test_empty(device):
    fsc_ext.foreach_adam_prox_([], [], [], [], 1, lr=0.1)
    fsc_ext.foreach_sgd_prox_([], [], lr=0.1, momentum=0.5, penalty="topk", amounts=[], masks=[])
    nothing = [torch.empty(0, 3, device=device), torch.empty(2, 0, device=device)]
    fsc_ext.foreach_sgd_prox_(nothing, zeros(nothing), lr=0.1, penalty="l1", amounts=[1, 2])
    assert [tensor.shape for tensor in nothing] == [(0, 3), (2, 0)]


def test_every_changed_tensor_says_so(device):
    weights, grads = drawn(device, torch.float32), drawn(device, torch.float32)
    moments, masks = (zeros(weights), zeros(weights)), masks_of(weights, "topk")
    changed = [*weights, *moments[0], *moments[1], *masks]
    before = [tensor._version for tensor in changed]
    settings = {"lr": 0.1, "penalty": "topk", "amounts": PENALTIES["topk"]}
    fsc_ext.foreach_adam_prox_(weights, grads, *moments, 1, masks=masks, **settings)
    assert all(a._version > b for a, b in zip(changed, before, strict=True))
    assert not any(grad._version for grad in grads)


@pytest.mark.parametrize("penalty", ["l1", "topk"])
def test_opcheck(device, penalty):
    weights, grads = drawn(device, torch.float64), drawn(device, torch.float64)
    masks, amounts = masks_of(weights, penalty) or [], [float(a) for a in PENALTIES[penalty]]
    torch.library.opcheck(
        torch.ops.fsc_ext.foreach_adam_prox_,
        (weights, grads, zeros(weights), zeros(weights), masks, 1, 0.1, 0.9, 0.999, 1e-8, penalty,
         amounts, 1),
    )  # fmt: skip
    torch.library.opcheck(
        torch.ops.fsc_ext.foreach_sgd_prox_, (weights, grads, [], [], 0.1, 0.0, "none", None, 1)
    )


def test_compiles(device):
    weights, grads = drawn(device, torch.float32), drawn(device, torch.float32)
    moments, amounts = (zeros(weights), zeros(weights)), PENALTIES["l1"]
    expected = clones([weights, grads, *moments])
    settings = {"lr": 0.1, "penalty": "l1", "amounts": amounts}
    fsc_ext.foreach_adam_prox_(*expected, 1, **settings)

    def step(weights, grads, moments):
        fsc_ext.foreach_adam_prox_(weights, grads, *moments, 1, **settings)
        return [weight * 2 for weight in weights]

    doubled = compiled(step)(weights, grads, moments)
    assert assert_same([weights, *moments], [expected[0], *expected[2:]])
    assert assert_same([doubled], [[2 * weight for weight in expected[0]]])


def test_nothing_stands_beside_no_weights(device):
    with pytest.raises(
        RuntimeError, match="amounts must hold 0 numbers, one for each of weights, got 1"
    ):
        fsc_ext.foreach_sgd_prox_([], [], lr=0.1, penalty="l1", amounts=[1.0])
