"""A slice of the campaign of equal bits, and that it finds what draws anew."""

from pathlib import Path

import bits
import pytest
from part import Fault


@pytest.mark.parametrize("name", ["cd-soft", "mir-before"])
def test_methods_give_the_same_bits(name: str, tmp_path: Path, one_thread: None) -> None:
    number = bits.METHODS.index(name)
    assert bits.case(number, tmp_path).startswith("same bits")


def test_another_seed_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real, count = bits.compressed, iter(range(9))

    def drifting(name: str, number: int, **limits: int) -> object:
        return real(name, number + next(count), **limits)

    monkeypatch.setattr(bits, "compressed", drifting)
    with pytest.raises(Fault, match="other bits"):
        bits.case(bits.METHODS.index("l1"), tmp_path)
