"""How a sentence gives the value that it refuses."""

import numpy as np
import pytest
import torch
from torch import nn

import fsc
from fsc.arguments import shown

NETWORK, IMAGES = nn.Linear(3, 3), torch.zeros(2, 3, 16, 16)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (torch.zeros(2, 3), "Tensor [2, 3]"),
        (torch.tensor(2.5), "tensor(2.5000)"),
        (np.zeros((4, 1)), "ndarray [4, 1]"),
        (nn.Sequential(NETWORK), "Sequential"),
        ("a", "'a'"),
        ("b" * 300, f"'{'b' * 199}…"),
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
