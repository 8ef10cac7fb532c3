"""How a sentence gives the value that it refuses."""

import numpy as np
import pytest
import torch
from networks import chain
from torch import nn

import fsc
from fsc.methods import Alternation
from fsc.wording import shown

NETWORK, IMAGES = nn.Linear(3, 3), torch.zeros(2, 3, 16, 16)
LONG, IMAGE = "a" * 5000, torch.zeros(1, 3, 8, 8)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (torch.zeros(2, 3), "Tensor [2, 3]"),
        (torch.tensor(2.5), "tensor(2.5000)"),
        (np.zeros((4, 1)), "ndarray [4, 1]"),
        (nn.Sequential(NETWORK), "Sequential"),
        ("a", "'a'"),
        ("b" * 300 + "/c.json", f"'{'b' * 139}…{'b' * 52}/c.json'"),
    ],
)
def test_values_are_short(value, expected):
    assert shown(value) == expected


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: fsc.export(NETWORK, IMAGES, "e.onnx"),
            r"path must be a path, got Tensor \[2, 3, ",
        ),
        (lambda: fsc.save(NETWORK, NETWORK), "path must be a path, got Linear$"),
        (lambda: fsc.compress(NETWORK, IMAGES, method=IMAGES), r"got Tensor \[2, 3, 16, 16\]$"),
        (
            lambda: fsc.compress(NETWORK, IMAGES.numpy()),
            "ndarray; torch.from_numpy makes them such",
        ),
        (lambda: fsc.compress(NETWORK, IMAGES), "compress: images must be what .* it fails with"),
    ],
)
def test_sentences_name_what_the_caller_named(call, said):
    with pytest.raises((TypeError, ValueError), match=said):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: fsc.CrossDistillation(objective=chain()),
        lambda: fsc.CrossDistillation(solver=chain()),
        lambda: fsc.MiR(features=LONG),
        lambda: fsc.MiR(precision=LONG),
        lambda: Alternation(training=chain()),
        lambda: fsc.compress(chain(), IMAGE, method=LONG),
        lambda: fsc.compress(chain(), IMAGE, style=LONG),
        lambda: fsc.compress(chain(), IMAGE, progress=LONG),
        lambda: fsc.compress(chain(), IMAGE, scheme=[LONG]),
        lambda: fsc.compress(chain(), IMAGE, ignored=[chain()]),
        lambda: fsc.prune_iteratively(chain(), IMAGE, align_to=LONG),
    ],
    ids=str.split(
        "objective solver features precision training method style progress scheme ignored align_to"
    ),
)
def test_one_line_of_few_words(call):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    said = str(caught.value)
    assert ", got " in said
    assert len(said) < 600
    assert "\n" not in said
