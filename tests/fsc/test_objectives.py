import pytest

from fsc.layers.objectives import Convex, Correction, Estimation, Imitation, Soft


def test_terms_are_those_of_the_papers_equations() -> None:
    terms = {
        kind: [(t.weight, t.alpha, t.beta) for t in kind.terms]
        for kind in (Estimation(), Correction(), Imitation(), Convex(0.6), Soft(0.9, 0.3))
    }
    assert terms[Estimation()] == [(1, 1, 1)]
    assert terms[Correction()] == [(1, 1, 0)]
    assert terms[Imitation()] == [(1, 0, 1)]
    assert terms[Convex(0.6)] == [(0.6, 1, 0), (0.4, 0, 1)]
    assert terms[Soft(0.9, 0.3)] == [(1, 0.9, 0.3)]


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_shares_outside_the_unit_interval_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"mu must be in \[0, 1\], got"):
        Convex(value)
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\], got"):
        Soft(value, 0.5)
    with pytest.raises(ValueError, match=r"beta must be in \[0, 1\], got"):
        Soft(0.5, value)
