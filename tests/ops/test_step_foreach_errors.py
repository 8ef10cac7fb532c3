"""The error messages of steps on lists; whatever is wrong, nothing has changed."""

import pytest
import torch

import fsc_ext
from fsc_ext.testing import devices

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)

SHAPES = [(2, 3), (16, 8, 3, 3), (4, 5)]


def like(*changes):
    """Ones in the shapes of three weights, other tensors at the given indices."""
    return [dict(changes).get(i, torch.ones(shape)) for i, shape in enumerate(SHAPES)]


ADAM = {"exp_avgs": like(), "exp_avg_sqs": like(), "step": 1}
TWICE = torch.ones(4, 5)
BOOLS = [torch.ones(shape, dtype=torch.bool) for shape in SHAPES]
SHARED_ERRORS = [
    ({"weights": like((1, torch.ones(2).long()))}, r"weights\[1\] must be float32 or float64"),
    ({"weights": like((2, TWICE.double())), "grads": like((2, TWICE.double()))},
     r"weights\[2\] must have the dtype of weights\[0\] \(Float\), got Double"),
    ({"weights": like((2, torch.ones(4, 5, requires_grad=True)))},
     r"weights\[2\] must not require a gradient, because a step in place has none"),
    ({"weights": like((0, torch.tensor(1.0)))},
     r"weights\[0\] must have rank at least 1, got \[\]"),
    ({"weights": [torch.ones(2, 3), TWICE, TWICE], "grads": [torch.ones(2, 3), TWICE, TWICE]},
     r"weights\[2\] must have memory of its own, got that of weights\[1\]"),
    ({"grads": like()[:2]}, "grads must hold 3 tensors, one for each of weights, got 2"),
    ({"weights": [], "grads": like()}, "grads must hold 0 tensors, one for each of weights, got 3"),
    ({"grads": like((1, torch.ones(16, 8, 3)))},
     r"grads\[1\] must have the shape of weights\[1\] \[16, 8, 3, 3\], got \[16, 8, 3\]"),
    ({"grads": like((0, torch.ones(2, 3).double()))},
     r"grads\[0\] must have the dtype of weights\[0\] \(Float\), got Double"),
    ({"lr": -1.0}, "lr must be finite and at least 0, got -1"),
    ({"penalty": "l0"}, "penalty must be none, l1, .* got 'l0'"),
    ({"penalty": "l1"}, "amounts must be given with every penalty but none, got no amounts"),
    ({"amounts": [1.0]}, "amounts must hold 3 numbers, one for each of weights, got 1"),
    ({"penalty": "l1", "amounts": [1.0, 0.0, -1.0]},
     r"amounts\[2\] must be finite and at least 0, got -1"),
    ({"penalty": "soft_topk", "amounts": [7, 1, 1]},
     r"amounts\[0\] must be a whole number in \[0, 6\], got 7"),
    ({"penalty": "soft_topk_groups", "amounts": [1, 1.5, 1]},
     r"amounts\[1\] must be a whole number in \[0, 8\], got 1.5"),
    ({"penalty": "topk", "amounts": [1, 1, 1]},
     "masks must be given with penalty topk or topk_groups and with no other"),
    ({"masks": BOOLS}, "masks must be given with penalty topk or topk_groups and with no other"),
    ({"penalty": "topk", "amounts": [1, 1, 1], "masks": BOOLS[:1]},
     "masks must hold 3 tensors, one for each of weights, got 1"),
    ({"penalty": "topk", "amounts": [1, 1, 1], "masks": like()},
     r"masks\[0\] must be bool, got Float"),
    ({"penalty": "topk", "amounts": [1, 1, 1], "masks": [*BOOLS[:2], BOOLS[0]]},
     r"masks\[2\] must have the shape of weights\[2\] \[4, 5\], got \[2, 3\]"),
    ({"dim": 2, "penalty": "group_l2", "amounts": [1, 1, 1]},
     r"dim must be in \[-2, 1\] for weights\[0\] of rank 2, got 2"),
]  # fmt: skip
ADAM_ERRORS = [
    ({"exp_avgs": like((1, torch.ones(16, 8, 3)))},
     r"exp_avgs\[1\] must have the shape of weights\[1\] \[16, 8, 3, 3\], got \[16, 8, 3\]"),
    ({"exp_avg_sqs": like((2, torch.ones(4, 5).double()))},
     r"exp_avg_sqs\[2\] must have the dtype of weights\[2\]"),
    ({"exp_avgs": like()[:1]}, "exp_avgs must hold 3 tensors, one for each of weights, got 1"),
    ({"exp_avgs": like((2, TWICE)), "exp_avg_sqs": like((2, TWICE))},
     r"exp_avg_sqs\[2\] must have memory of its own, got that of exp_avgs\[2\]"),
    ({"step": 0}, "step must be at least 1, got 0"),
    ({"betas": (0.9, 1.0)}, r"betas must be in \[0, 1\), got \(0.9, 1\)"),
    ({"eps": -1.0}, "eps must be finite and at least 0, got -1"),
]  # fmt: skip
SGD_ERRORS = [
    ({"momentum": 1.0, "momentum_buffers": like()}, r"momentum must be in \[0, 1\), got 1"),
    ({"momentum": 0.5},
     "momentum_buffers must be given where momentum is not 0 and only there, got momentum 0.5"),
    ({"momentum_buffers": like()}, "momentum_buffers must be given where momentum is not 0"),
    ({"momentum": 0.5, "momentum_buffers": like()[:2]},
     "momentum_buffers must hold 3 tensors, one for each of weights, got 2"),
    ({"momentum": 0.5, "momentum_buffers": like((1, torch.ones(2)))},
     r"momentum_buffers\[1\] must have the shape of weights\[1\]"),
]  # fmt: skip


def on_device(arguments, device):
    """The arguments on a device; what stood there twice still does."""
    moved = {}

    def move(value):
        if isinstance(value, list):
            return [move(part) for part in value]
        if not torch.is_tensor(value):
            return value
        copy = value.to(device, copy=True).detach().requires_grad_(value.requires_grad)
        return moved.setdefault(id(value), copy)

    return {name: move(value) for name, value in arguments.items()}


def assert_refused(op, arguments, message):
    """That an operator refuses its arguments and leaves them as they were."""
    tensors = [
        x for v in arguments.values() if isinstance(v, list) for x in v if torch.is_tensor(x)
    ]
    before = [(tensor.clone(), tensor._version) for tensor in tensors]
    with pytest.raises(RuntimeError, match=f"^{op.__name__}: {message}"):
        op(**arguments)
    for tensor, (value, version) in zip(tensors, before, strict=True):
        assert torch.equal(tensor, value) and tensor._version == version


@pytest.mark.parametrize(("changes", "message"), [*SHARED_ERRORS, *ADAM_ERRORS])
def test_errors_of_adam(device, changes, message):
    arguments = {"weights": like(), "grads": like(), "lr": 0.1, **ADAM, **changes}
    if "weights" in changes:
        # So that only the rule in question is broken.
        for name in ("exp_avgs", "exp_avg_sqs"):
            arguments[name] = [torch.zeros_like(w) for w in arguments["weights"]]
    assert_refused(fsc_ext.foreach_adam_prox_, on_device(arguments, device), message)


@pytest.mark.parametrize(("changes", "message"), [*SHARED_ERRORS, *SGD_ERRORS])
def test_errors_of_sgd(device, changes, message):
    arguments = {"weights": like(), "grads": like(), "lr": 0.1, **changes}
    assert_refused(fsc_ext.foreach_sgd_prox_, on_device(arguments, device), message)


def test_two_devices(device):
    lists = on_device({"weights": like(), "grads": like(), **ADAM}, device)
    lists["exp_avgs"][1] = lists["exp_avgs"][1].to("meta")
    where = r"weights\[0\] on .* and exp_avgs\[1\] on meta"
    with pytest.raises(ValueError, match="foreach_adam_prox_: .* one device, got " + where):
        fsc_ext.foreach_adam_prox_(**lists, lr=0.1)


def test_parts_of_one_tensor(device):
    rows = torch.ones(6, 4, device=device)
    grads = [torch.ones(4, 4, device=device)] * 2
    assert_refused(
        fsc_ext.foreach_sgd_prox_,
        {"weights": [rows[2:], rows[:4]], "grads": grads, "lr": 1.0},
        r"weights\[0\] must have memory of its own, got that of weights\[1\]",
    )
    # Columns lie between each other, but not in each other's memory.
    fsc_ext.foreach_sgd_prox_(
        [rows[:4, ::2], rows[:4, 1::2]], [grad[:, :2] for grad in grads], lr=1.0
    )
    assert not rows[:4].any() and rows[4:].all()


def test_what_overlaps_itself_or_is_read_elsewhere(device):
    one, row = torch.ones(2, 2, device=device), torch.ones(1, 2, device=device)
    assert_refused(
        fsc_ext.foreach_sgd_prox_,
        {"weights": [one, row.expand(2, 2)], "grads": [one.clone(), one.clone()], "lr": 1.0},
        r"weights\[1\] must have memory for each of its elements, got strides \[0, 1\]",
    )
    weights = [one.clone(), one.clone()]
    assert_refused(
        fsc_ext.foreach_sgd_prox_,
        {"weights": weights, "grads": [one, weights[0]], "lr": 1.0},
        r"grads\[1\] must have memory of its own, got that of weights\[0\]",
    )


@pytest.mark.parametrize(("changes", "message"), [
    ({"grads": [torch.ones(2), None]}, r"grads\[1\] must be a tensor, got NoneType"),
    ({"grads": None}, "grads must be a list of tensors, got NoneType"),
    ({"weights": 3}, "weights must be a list of tensors, got int"),
])  # fmt: skip
def test_what_is_no_list_of_tensors(device, changes, message):
    with pytest.raises(TypeError, match="foreach_sgd_prox_: " + message):
        fsc_ext.foreach_sgd_prox_(
            **{"weights": [torch.ones(2)] * 2, "grads": [torch.ones(2)] * 2, "lr": 1.0, **changes}
        )


def test_any_iterable_and_vectors_with_matrices(device):
    weights = {"weight": torch.ones(3, 2, device=device), "bias": torch.ones(3, device=device)}
    grads = (torch.ones_like(weight) for weight in weights.values())
    fsc_ext.foreach_sgd_prox_(weights.values(), grads, lr=0.25, penalty="l1", amounts=(0.25, 0.5))
    assert (weights["weight"] == 0.5).all() and (weights["bias"] == 0.25).all()
