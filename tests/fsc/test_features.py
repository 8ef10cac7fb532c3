"""Features in front of the last layers, and networks cut off there."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsc import models
from fsc.networks.features import feature_heads, feature_nodes, reader_of, truncate
from fsc.networks.tracing import (
    layer_names,
    trace,
)


@pytest.mark.parametrize("pool", [nn.AdaptiveAvgPool2d(1), nn.MaxPool2d(4), None])
def test_features_before_and_after_pooling(pool: nn.Module | None) -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 5, 1)
            self.pool = pool
            self.head = nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = F.max_pool2d(self.convolution(x), 2)
            x = x.mean([-2, -1]) if self.pool is None else self.pool(x).flatten(1)
            return self.head(F.dropout(x, training=self.training))

    model = Pooled().eval()
    graph = trace(model)
    ((before, after),) = feature_nodes(model, graph)
    x = torch.randn(2, 3, 8, 8)
    maps = F.max_pool2d(model.convolution(x), 2)
    assert torch.equal(truncate(model, graph, before)(x), maps)
    assert torch.equal(model.head(truncate(model, graph, after)(x)), model(x))


def test_features_need_a_last_layer_and_where_nothing_is_pooled_are_what_it_reads() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(1), nn.Linear(16, 2))
    ((before, after),) = feature_nodes(model, trace(model))
    assert before is after and before.name == "_1"
    with pytest.raises(ValueError, match="must end in a Linear layer or conv.* got none"):
        feature_nodes(model[1:2], trace(model[1:2]))


def test_every_head_has_features() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv2d(3, 4, 1)
            self.classes = nn.Linear(4, 2)
            self.side = nn.Conv2d(4, 4, 1)
            self.boxes = nn.Conv2d(4, 6, 1)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            maps = F.relu(self.body(x))
            boxes = self.boxes(F.relu(self.side(maps)))
            return {"classes": self.classes(maps.mean((2, 3))), "boxes": boxes, "maps": maps}

    model = Heads()
    graph = trace(model)
    assert [str(head.target) for head in feature_heads(model, graph)] == ["boxes", "classes"]
    nodes = feature_nodes(model, graph)
    assert [before.name for before, _ in nodes] == ["relu_1", "relu"]
    x = torch.randn(2, 3, 4, 4)
    side, maps = truncate(model, graph, tuple(before for before, _ in nodes))(x)
    assert torch.equal(maps, F.relu(model.body(x)))
    assert torch.equal(side, F.relu(model.side(maps)))


def test_features_need_a_last_layer_of_torch() -> None:
    class Cosine(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, F.normalize(self.weight, dim=1))

    squeeze = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    cosine = nn.Sequential(*squeeze, nn.Linear(4, 4), nn.Sequential(Cosine(4, 2)))
    with pytest.raises(ValueError, match=r"the forward of torch\.nn, got '5\.0' \(Cosine\)"):
        feature_nodes(cosine, trace(cosine))


def test_features_in_front_of_a_convolution_that_classifies() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.AvgPool2d(4))
    graph = trace(model)
    ((before, after),) = feature_nodes(model, graph)
    x = torch.randn(2, 3, 4, 4)
    assert before is after and torch.equal(truncate(model, graph, before)(x), model[:2](x))


def test_the_layer_that_mixes_the_channels_of_a_value() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 5, 1)
    )
    first, activation, *_ = (node for node in trace(model).nodes if node.op == "call_module")
    assert reader_of(model, first) == reader_of(model, activation) == "3"
    with pytest.raises(ValueError, match="must be read by a convolution or Linear, got"):
        reader_of(model[:1], next(n for n in trace(model[:1]).nodes if n.op == "call_module"))


@pytest.mark.parametrize("name", ["resnet20", "vgg16"])
def test_truncated_network_shares_its_modules(name: str) -> None:
    model = models.build(name).eval()
    graph = trace(model)
    ((before, after),) = feature_nodes(model, graph)
    trunk = truncate(model, graph, before)
    width = model.get_submodule(layer_names(model, graph)[-1]).in_features
    assert trunk(torch.randn(1, 3, 32, 32)).shape[:2] == (1, width)
    shared = {id(parameter) for parameter in model.parameters()}
    assert {id(parameter) for parameter in trunk.parameters()} < shared
    assert set(trunk.state_dict()) < set(model.state_dict())
    assert truncate(model, graph, after)(torch.randn(2, 3, 32, 32)).shape == (2, width)


def test_truncation_refuses_a_node_of_another_graph() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1))
    node = next(iter(trace(model).nodes))
    with pytest.raises(ValueError, match="must be part of the graph, got 'input_1'"):
        truncate(model, trace(model), node)
