"""CIFAR-100 from the command line: a hundred classes, and weights found by their name."""

import json
import pickle

import numpy as np
import pytest
import torch

from fsc import models
from fsc.networks import checkpoint


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data" / "cifar100" / "cifar-100-python"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": list(map(str, range(100)))}))
    for split in ("train", "test"):
        rows = generator.integers(0, 256, (100, 3072)).astype(np.uint8)
        batch = {"data": rows, "fine_labels": list(range(100))}
        (folder / split).write_bytes(pickle.dumps(batch, protocol=4))
    torch.manual_seed(0)
    teacher = models.build("resnet14", num_classes=100)
    path = tmp_path / "data" / "cifar100_resnet14.safetensors"
    checkpoint.save(teacher, path, name="resnet14")
    return tmp_path / "data"


def test_a_student_for_a_hundred_classes(fsc, root, tmp_path):
    data = ("--data", "cifar100", "--data-root", root, "--test-images", 9)
    given = ("--model", "resnet14", "--scheme", "res-50", "--method", "l1", "--shots", 1)
    result = fsc("compress", *data, *given, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["num_images"] == 100
    assert checkpoint.load(tmp_path / "out" / "model.safetensors").linear.out_features == 100
    result = fsc("evaluate", tmp_path / "out", *data)
    assert result.exit_code == 0, result.output
