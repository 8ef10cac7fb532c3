"""The part `growth`: a case on small images, and that it finds what grows."""

import growth
import pytest
from part import Fault


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(growth, "SIDE", 32)
    monkeypatch.setattr(growth, "SIZES", (4, 8, 16))


@pytest.mark.parametrize("number", range(growth.PART.count))
def test_case(number, tmp_path, monkeypatch):
    # Of so few images the times say nothing.
    real = growth.measured
    monkeypatch.setattr(growth, "measured", lambda *given: (len(given[1]), real(*given)[1]))
    assert growth.case(number, tmp_path) == "linear, within the budget"


@pytest.mark.parametrize(
    ("seconds_of", "bytes_of", "told"),
    [
        (lambda n: n**2, lambda n: 0, "takes 4.00 times as long on twice the images"),
        (lambda n: n, lambda n: n << 27, "takes 0.50 GiB on 4 images"),
    ],
)
def test_what_grows_too_fast_is_found(seconds_of, bytes_of, told, tmp_path, monkeypatch):
    def measured(method, images, budget):
        return seconds_of(len(images)), bytes_of(len(images))

    monkeypatch.setattr(growth, "measured", measured)
    with pytest.raises(Fault, match=told):
        growth.case(0, tmp_path)
