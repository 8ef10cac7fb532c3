"""A few cases of the campaign's part `operators`, and that it finds what is wrong."""

import operators
import pytest
import torch
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
