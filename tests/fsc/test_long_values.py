"""A value stands in its sentence in a few words, however long Python's own words for it are."""

import pytest
import torch
from networks import chain

import fsc
from fsc.methods import Alternation

LONG = "a" * 5000
IMAGES = torch.zeros(1, 3, 8, 8)


@pytest.mark.parametrize(
    "call",
    [
        lambda: fsc.CrossDistillation(objective=chain()),
        lambda: fsc.CrossDistillation(solver=chain()),
        lambda: fsc.MiR(features=LONG),
        lambda: Alternation(training=chain()),
        lambda: fsc.compress(chain(), IMAGES, method=LONG),
        lambda: fsc.compress(chain(), IMAGES, style=LONG),
        lambda: fsc.compress(chain(), IMAGES, ignored=[chain()]),
        lambda: fsc.prune_iteratively(chain(), IMAGES, align_to=LONG),
    ],
    ids=str.split("objective solver features training method style ignored align_to"),
)
def test_one_line_of_few_words(call):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    said = str(caught.value)
    assert ", got " in said
    assert len(said) < 600
    assert "\n" not in said
