"""Schemes of the user's own, from JSON."""

import json

import pytest
import torch
from torch import nn

from fsc import schemes
from fsc.schemes import QuantizedScheme, Scheme, SparseScheme

IMAGE = torch.zeros(1, 3, 4, 4)


def network():
    return nn.Sequential(nn.Conv2d(3, 10, 1), nn.ReLU(), nn.Conv2d(10, 4, 1), nn.Conv2d(4, 2, 1))


@pytest.mark.parametrize(
    ("content", "scheme"),
    [
        ({"kept": {"0": 8}}, Scheme("mine", {"0": 8})),
        ({"pruning_ratio": 0.5}, Scheme("mine", {"0": 5, "2": 2})),
        ({"pruning_ratio": 0.5, "ignored": ["0"]}, Scheme("mine", {"2": 2})),
        ({"pruning_ratio": 0.5, "style": "normal"}, Scheme("mine", {"0": 5, "2": 2})),
        ({"pruning_ratio": {"0": 0.3, "2": 0.25}}, Scheme("mine", {"0": 7, "2": 3})),
        ({"kind": "sparse", "kept": {"0": 8}}, SparseScheme("mine", {"0": 8})),
        (
            {"kind": "sparse", "pruning_ratio": 0.9},
            SparseScheme("mine", {"0": 3, "2": 4, "3": 1}),
        ),
        (
            {"kind": "quantized", "bits": 2, "ignored": ["2"]},
            QuantizedScheme("mine", {"0": 2, "3": 2}),
        ),
        (
            {"kind": "quantized", "bits": {"2": 4}, "activation_bits": 3},
            QuantizedScheme("mine", {"2": 4}, 3),
        ),
    ],
)
def test_a_scheme_comes_from_json(tmp_path, content, scheme):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"name": "mine"} | content))
    found = schemes.from_json(path, network(), IMAGE)
    assert found == scheme
    schemes.check(found, network(), IMAGE)


def test_a_file_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match="scheme file .*none.json does not exist"):
        schemes.from_json(tmp_path / "none.json", network(), IMAGE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{'a'}", "is no JSON"),
        ("[1]", "content must be an object, got list"),
        ('{"kept": {"0": 1}}', "name must be a text, got None"),
        ('{"name": "", "kept": {"0": 1}}', "name must be a text, got ''"),
        (
            '{"name": "mine", "kind": "dense"}',
            "kind must be one of .*decoupled, got 'dense'",
        ),
        ('{"name": "mine"}', "structured scheme must hold kept or .*ignored, got nothing"),
        ('{"name": "mine", "kind": "sparse", "bits": 2}', "sparse scheme must hold .* got bits"),
        ('{"name": "mine", "kept": {"0": 1}, "pruning_ratio": 0.5}', "got kept, pruning_ratio"),
        ('{"name": "mine", "kept": []}', r"kept must map layers to numbers, got \[\]"),
        ('{"name": "mine", "kept": {"0": 0.5}}', r"kept\['0'\] must be an integer, got 0.5"),
        ('{"name": "mine", "kept": {"0": true}}', r"kept\['0'\] must be an integer, got True"),
        (
            '{"name": "mine", "ignored": ["0"]}',
            "pruning_ratio must be a number, or .* got nothing",
        ),
        (
            '{"name": "mine", "pruning_ratio": "0.5"}',
            "pruning_ratio must be a number, or .* got '0.5'",
        ),
        ('{"name": "mine", "pruning_ratio": {"0": "1"}}', "must be a number, got '1'"),
        (
            '{"name": "mine", "pruning_ratio": 0.5, "style": "cd"}',
            "style must be one of normal, residual, got 'cd'",
        ),
        (
            '{"name": "mine", "pruning_ratio": 0.5, "style": ["normal"]}',
            r"style must be one of normal, residual, got \['normal'\]",
        ),
        ('{"name": "mine", "pruning_ratio": 1.5}', "at least 0 and below 1, got 1.5"),
        ('{"name": "mine", "pruning_ratio": 0.5, "ignored": "0"}', "ignored must be a list"),
        (
            '{"name": "mine", "kind": "quantized", "bits": 2.5}',
            "bits must be an integer, or .* 2.5",
        ),
        ('{"name": "mine", "kind": "quantized", "bits": 9}', r"bits must be in \[1, 8\], got 9"),
    ],
)
def test_a_file_of_another_form(tmp_path, content, message):
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"scheme file .*mine.json.*{message}"):
        schemes.from_json(path, network(), IMAGE)
