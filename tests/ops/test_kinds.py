"""What is no dense tensor is refused by every operator in one sentence that names the argument.

This is before the dispatcher sees it, so that tensors of one device speak for all.
"""

import pytest
import torch

import fsc_ext

ONE, ROWS = torch.ones(1), torch.ones(1, 1)
IMAGES = torch.ones(1, 1, 1, 1)
NONE = torch.ones(0, dtype=torch.float64)

# Arguments of valid calls by their names.
STEP = {"weight": ROWS, "grad": ROWS, "lr": 0.1, "dim": 0}
MOMENTS = {"exp_avg": ROWS, "exp_avg_sq": ROWS, "step": 1}
LISTS = {"weights": [ROWS], "grads": [ROWS], "lr": 0.1, "dim": 0}
LOOP = {"weight": ROWS, "target": ROWS, "learning_rates": NONE, "amounts": NONE}
NORM = {"running_mean": ONE, "running_var": ONE, "bn_weight": None, "bn_bias": None, "eps": 1.0}
CALLS = {
    "soft_cross_mix": {"input_teacher": ONE, "input_student": ONE, "alpha": 1.0, "beta": 1.0},
    "distill_residual": {"preactivation": ONE, "target": ONE},
    "cross_distill_layer": {
        "input_teacher": IMAGES, "input_student": IMAGES, "weight_teacher": IMAGES,
        "weight_student": IMAGES,
    },
    "prox_l1": {"input": ONE, "threshold": 1.0},
    "prox_l1_": {"input": ONE, "threshold": 1.0},
    "prox_group_l2": {"weight": ROWS, "threshold": 1.0},
    "prox_group_l2_": {"weight": ROWS, "threshold": 1.0},
    "foreach_prox_group_l2_": {"weights": [ROWS], "thresholds": 1.0},
    "keep_topk_": {"weight": ROWS, "count": 1},
    "keep_topk_groups_": {"weight": ROWS, "count": 1},
    "quantize_weight": {"weight": ROWS, "bits": 2},
    "prox_quantize": {"weight": ROWS, "bits": 2, "strength": 1.0},
    "adam_prox_": {**STEP, **MOMENTS},
    "sgd_prox_": STEP,
    "foreach_adam_prox_": {**LISTS, "exp_avgs": [ROWS], "exp_avg_sqs": [ROWS], "step": 1},
    "foreach_sgd_prox_": LISTS,
    "solve_quadratic_": {**LOOP, "hessian": ROWS},
    "solve_relu_": {**LOOP, "weight": IMAGES, "input": IMAGES, "target": IMAGES},
    "line_search_relu_": {"output": ROWS, "direction": ROWS, "target": ROWS},
    "elimination_order": {"weight": ROWS, "inverse": ROWS[None], "removable": 0},
    "fuse_conv_bn": {"weight": ROWS, "bias": None, **NORM},
    "foreach_fuse_conv_bn": {
        "weights": [ROWS], "biases": [None], "running_means": [ONE], "running_vars": [ONE],
        "bn_weights": [None], "bn_biases": [None], "eps": 1.0,
    },
    "absorb_conv1x1": {"weight": ROWS, "bias": None, "pointwise_weight": ROWS},
    "foreach_absorb_conv1x1": {
        "weights": [ROWS], "biases": [None], "pointwise_weights": [ROWS],
    },
    "gram_accumulate_": {
        "gram_student": ROWS, "gram_cross": None, "gram_teacher": None, "student": ROWS,
        "teacher": None,
    },
}  # fmt: skip
EVERY = [
    (name, argument)
    for name, arguments in CALLS.items()
    for argument, value in arguments.items()
    if isinstance(value, torch.Tensor | list)
]
every_argument = pytest.mark.parametrize(("name", "argument"), EVERY, ids=str)


def test_no_operator_is_left_out():
    assert sorted(CALLS) == sorted(set(fsc_ext.__all__) - {"build_info"})


def with_one(name, argument, wrong):
    """Something else in the place of a tensor, or of the first of a list, and how it is called."""
    is_list = isinstance(CALLS[name][argument], list)
    arguments = {**CALLS[name], argument: [wrong] if is_list else wrong}
    return arguments, f"^{name}: " + (rf"{argument}\[0\]" if is_list else argument)


@every_argument
@pytest.mark.parametrize("wrong", ["weight", 1.0, [ONE]], ids=["text", "number", "list"])
def test_no_tensor(name, argument, wrong):
    arguments, where = with_one(name, argument, wrong)
    with pytest.raises(TypeError, match=f"{where} must be a tensor, got "):
        getattr(fsc_ext, name)(**arguments)


@every_argument
def test_sparse(name, argument):
    arguments, where = with_one(name, argument, torch.ones(1, 1).to_sparse())
    with pytest.raises(RuntimeError, match=f"{where} must be a dense tensor, got "):
        getattr(fsc_ext, name)(**arguments)


@every_argument
def test_tangent(name, argument):
    """PyTorch would drop it, and every derivative in forward mode would be 0."""
    with torch.autograd.forward_ad.dual_level():
        wrong = torch.autograd.forward_ad.make_dual(ROWS, torch.ones_like(ROWS))
        arguments, where = with_one(name, argument, wrong)
        with pytest.raises(NotImplementedError, match=f"{where} must carry no tangent"):
            getattr(fsc_ext, name)(**arguments)


def test_derivatives_in_forward_mode():
    with pytest.raises(NotImplementedError, match="^prox_l1: input must carry no tangent"):
        torch.func.jvp(lambda x: fsc_ext.prox_l1(x, 0.5), (ROWS,), (ROWS,))


def test_batches_within_forward_mode():
    """What no tangent is carried by is left alone."""

    def product(y):
        return torch.func.vmap(lambda x: fsc_ext.prox_l1(x, 0.5))(torch.ones(3)) * y

    _, tangent = torch.func.jvp(product, (torch.ones(3),), (torch.ones(3),))
    assert torch.equal(tangent, torch.full((3,), 0.5))


LISTED = [(name, argument) for name, argument in EVERY if isinstance(CALLS[name][argument], list)]


@pytest.mark.parametrize(("name", "argument"), LISTED, ids=str)
@pytest.mark.parametrize("wrong", [None, 3, "ab", torch.tensor(1.0), torch.ones(1, 1), {}], ids=str)
def test_no_list(name, argument, wrong):
    with pytest.raises(TypeError, match=f"^{name}: {argument} must be a list of tensors, got"):
        getattr(fsc_ext, name)(**{**CALLS[name], argument: wrong})


@pytest.mark.parametrize("name", ["solve_quadratic_", "solve_relu_"])
def test_state_is_a_list(name):
    with pytest.raises(TypeError, match=f"^{name}: state must be a list of tensors, got float"):
        getattr(fsc_ext, name)(**CALLS[name], state=1.0)


@pytest.mark.parametrize("name", ["foreach_prox_group_l2_", "foreach_fuse_conv_bn"])
def test_numbers_of_no_layers_are_a_list(name):
    empty = {key: [] for key in CALLS[name]}
    last = list(empty)[-1]
    with pytest.raises(TypeError, match=f"^{name}: {last} must be a list of numbers, got NoneType"):
        getattr(fsc_ext, name)(**{**empty, last: None})
