import copy
import tempfile
from typing import Any

import pytest
import torch
from networks import chain
from torch import nn

from fsc import models
from fsc.walking import walk as walking
from fsc.walking.frontier import AT_WORK, Frontier
from fsc.walking.spill import bytes_of_walk
from fsc.walking.visitor import Visitor
from fsc.walking.walk import walk


class Everything(Visitor):
    def wants(self, name: str) -> bool:
        return True


@pytest.mark.parametrize("name", ["chain", "resnet20", "vgg16"])
def test_a_walk_never_holds_more(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    teacher = chain() if name == "chain" else models.build(name).eval()
    images = torch.randn(4, 3, 32, 32)
    frontiers = []

    def watched(*arguments: Any) -> Frontier:
        frontiers.append(Frontier(*arguments))
        return frontiers[0]

    monkeypatch.setattr(walking, "Frontier", watched)
    walk(teacher, copy.deepcopy(teacher), images, Everything(), batch_size=2)
    limit = 2 * len(images) * bytes_of_walk(teacher, images[:1]).held
    assert limit / 2 <= frontiers[0].peak_bytes <= limit


def test_the_network_stays_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(inplace=True)).train()
    bytes_of_walk(model, torch.zeros(1, 1, 4, 4))
    assert model.training and model[1].inplace


def test_the_largest_value_is_that_of_one_node() -> None:
    model = nn.Sequential(nn.Conv2d(1, 6, 1), nn.Conv2d(6, 2, 1))
    found = bytes_of_walk(model, torch.zeros(1, 1, 4, 4))
    assert (found.held, found.largest) == (4 * 16 * (6 + 2), 4 * 16 * 6)


def test_what_fits_beside_its_room_stays_in_memory(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))  # a file could not be made
    teacher = nn.Sequential(nn.Identity(), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3))
    images = torch.randn(100, 3, 8, 8)
    one = bytes_of_walk(teacher, images[:1])
    budget = 2 * len(images) * one.held + AT_WORK * 5 * one.largest
    walk(teacher, copy.deepcopy(teacher), images, Everything(), batch_size=5, memory_budget=budget)
    with pytest.raises(OSError, match="missing"):
        walk(teacher, copy.deepcopy(teacher), images, Everything(), memory_budget=budget // 8)
