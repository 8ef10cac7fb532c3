import copy

import pytest
import torch
from networks import chain
from torch import nn

from fsc import models
from fsc.walking import walk as walking
from fsc.walking.frontier import Frontier
from fsc.walking.spill import largest_frontier
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

    def watched(memory_budget: int | None) -> Frontier:
        frontiers.append(Frontier(memory_budget))
        return frontiers[0]

    monkeypatch.setattr(walking, "Frontier", watched)
    walk(teacher, copy.deepcopy(teacher), images, Everything(), batch_size=2)
    limit = 2 * len(images) * largest_frontier(teacher, images[:1])
    assert limit / 2 <= frontiers[0].peak_bytes <= limit


def test_the_network_stays_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(inplace=True)).train()
    largest_frontier(model, torch.zeros(1, 1, 4, 4))
    assert model.training and model[1].inplace
