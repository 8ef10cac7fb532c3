"""A few cases of the campaign's part `operators`, and that it finds what is wrong."""

import calls_step
import operators
import pytest
import torch
from bounded import WrongError
from part import Fault

import fsc_ext

NAMES = [drawn.__name__ for drawn in operators.DRAWN]


@pytest.fixture(autouse=True)
def few_calls(monkeypatch):
    monkeypatch.setattr(operators, "CALLS", 4)


def test_every_operator_is_called():
    assert sorted(NAMES) == sorted(set(fsc_ext.__all__) - {"build_info"})


@pytest.mark.parametrize("name", NAMES)
def test_case(name, tmp_path):
    assert operators.case(NAMES.index(name), tmp_path) == operators.case(
        NAMES.index(name), tmp_path
    )


def wrong_value(input, threshold):
    return torch.nn.functional.softshrink(input, threshold) * 1.0001


def wrong_argument(input, threshold):
    found = torch.nn.functional.softshrink(input, threshold)
    input.detach().flatten()[:1].zero_()
    return found


def wrong_refusal(input, threshold):
    raise IndexError("prox_l1: input is out of range")


@pytest.mark.parametrize("wrong", [wrong_value, wrong_argument, wrong_refusal])
def test_what_is_wrong_is_found(wrong, monkeypatch, tmp_path):
    monkeypatch.setattr(fsc_ext, "prox_l1", wrong)
    with pytest.raises(Fault, match=r"^prox_l1\(input=.*, threshold=.*\), drawn of \d+: "):
        for number in range(0, 10 * len(NAMES), len(NAMES)):
            operators.case(NAMES.index("prox_l1") + number, tmp_path)


def adam_of_torch(weight, average, square, lr, betas):
    """The weight behind the first step of torch.optim.Adam, whose gradient is 0."""
    parameter = torch.nn.Parameter(weight.clone())
    optimizer = torch.optim.Adam([parameter], lr=lr, betas=betas)
    moments = {"exp_avg": average.clone(), "exp_avg_sq": square.clone()}
    optimizer.state[parameter] = {"step": torch.zeros(()), **moments}
    parameter.grad = torch.zeros_like(weight)
    optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("average", [3e38, 1e34])
def test_adam_passes_the_range_where_torch_does_and_only_there(average):
    state = {"weight": torch.ones(1), "exp_avg": torch.tensor([average])}
    state["exp_avg_sq"] = torch.tensor([4e3])
    # Of four times the average it would take the root of the square to lead back.
    settings = {"lr": 0.4, "betas": (0.9, 0.9999)}
    arguments = {"grad": torch.zeros(1), "step": 1, "eps": 1e-8, **settings}
    before = {**state, **arguments, "penalty": "none", "amount": 0.0, "dim": 0, "mask": None}
    after = {name: tensor.clone() for name, tensor in state.items()}
    fsc_ext.adam_prox_(**after, **arguments)
    torch.testing.assert_close(after["weight"], adam_of_torch(*state.values(), **settings))
    assert after["weight"].isfinite() == (average < 1e38)
    calls_step.check_step(before, after, None)
    exact = {name: tensor.double() for name, tensor in state.items()}
    fsc_ext.adam_prox_(**exact, **{**arguments, "grad": torch.zeros(1, dtype=torch.float64)})
    after["weight"] = 1.001 * exact["weight"].float()
    with pytest.raises(WrongError, match="weight"):
        calls_step.check_step(before, after, None)
    if average < 1e38:
        after["weight"].fill_(-torch.inf)
        with pytest.raises(WrongError, match="weight"):
            calls_step.check_step(before, after, None)
