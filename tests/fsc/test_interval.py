"""Intervals of accuracies: published values, limits, coverage."""

import math

import pytest

from fsc.report.interval import correct, wilson


def test_values_of_the_literature():
    # Newcombe (1998), Table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for right, total, low, high in (
        (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):  # fmt: skip
        found = wilson(100 * right / total, total)
        assert found == pytest.approx((100 * low, 100 * high), abs=0.006)


@pytest.mark.parametrize("total", [1, 7, 500])
def test_it_stays_within_percentages_and_holds_the_accuracy(total):
    for right in range(total + 1):
        low, high = wilson(100 * right / total, total)
        assert 0 <= low <= 100 * right / total + 1e-9 and 100 * right / total - 1e-9 <= high <= 100
        assert high > low


def test_it_holds_the_truth_about_nineteen_times_in_twenty():
    total, truth = 500, 0.9
    covered = sum(
        math.comb(total, right) * truth**right * (1 - truth) ** (total - right)
        for right in range(total + 1)
        if (ends := wilson(100 * right / total, total))[0] <= 100 * truth <= ends[1]
    )
    assert 0.94 < covered < 0.96


def test_accuracies_are_counts():
    assert correct(99.4, 500) == 497
    assert all(correct(100 * right / 10_000, 10_000) == right for right in range(0, 10_001, 7))


@pytest.mark.parametrize(
    ("top1", "num_images", "sentence"),
    [
        (100.5, 10, "top1 must be between 0 and 100 percent, got 100.5"),
        (50.0, 0, "num_images must be at least 1, got 0"),
    ],
)
def test_refuses_what_is_no_accuracy(top1, num_images, sentence):
    with pytest.raises(ValueError, match=sentence):
        wilson(top1, num_images)
