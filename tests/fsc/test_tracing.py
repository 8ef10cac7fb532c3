import importlib

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fsc
from fsc import models
from fsc.networks.draws import varies
from fsc.networks.features import feature_nodes
from fsc.networks.out_of_place import out_of_place
from fsc.networks.tracing import (
    batch_norm_after,
    layer_names,
    shared_layers,
    trace,
)
from fsc.walking.activations import following_activation


class Functional(nn.Module):
    """Uses every form of ReLU and of reshaping that a forward may write."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.second = nn.Conv2d(4, 5, 3)
        self.third = nn.Conv2d(5, 6, 1)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x), inplace=True)
        x = torch.relu(F.max_pool2d(self.second(x), 2))
        x = self.third(x).relu_()
        x = F.avg_pool2d(x, x.size()[3])
        return self.head(x.view(x.shape[0], -1))


class Overwriting(nn.Module):
    """Reads values again after it has written over them."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convolution(x)
        self.relu(y)
        z = y * 2
        z.sub_(1)
        torch.relu_(z)
        F.leaky_relu(z, 0.1, True)
        return y + z


class TwoBranches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.left = nn.Conv2d(4, 4, 1)
        self.right = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return torch.cat([self.left(x), self.right(x)], 1)


class DependsOnData(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_layers_stand_in_the_order_of_execution() -> None:
    class Reversed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.late = nn.Linear(4, 2)
            self.early = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.late(self.early(x).mean((2, 3)))

    model = Reversed()
    assert layer_names(model, trace(model)) == ["early", "late"]


def test_untraceable_module_is_named_with_reason_and_remedy() -> None:
    model = nn.Sequential(nn.Identity(), nn.Sequential(DependsOnData()))
    with pytest.raises(ValueError, match=r"module '1\.0'.*control flow.*torch\.fx\.wrap") as error:
        trace(model)
    assert "\n" not in str(error.value)


def test_untraceable_outermost_forward_is_named() -> None:
    with pytest.raises(ValueError, match=r"outermost forward \(DependsOnData\)"):
        trace(DependsOnData())


def test_the_failing_module_is_named_by_its_own_class_with_its_line() -> None:
    model = nn.Sequential(nn.Identity(), nn.Sequential(DependsOnData()))
    place = r"module '1\.0' \(DependsOnData\) failed at .*test_tracing\.py:\d+, `return x if x\.sum"
    with pytest.raises(ValueError, match=place):
        trace(model)


def test_a_module_of_a_library_can_only_be_replaced(tmp_path, monkeypatch) -> None:
    library = tmp_path / "site-packages"
    library.mkdir()
    (library / "paddings.py").write_text(
        "import torch\n\n\nclass Same(torch.nn.Module):\n    def forward(self, x):\n"
        "        return x[1:] if x.shape[0] % 2 else x\n"
    )
    monkeypatch.syspath_prepend(library)
    same = importlib.import_module("paddings").Same()
    with pytest.raises(
        ValueError, match=r"\(Same\) .*model\.set_submodule\('1', \.\.\.\)$"
    ) as error:
        trace(nn.Sequential(nn.Identity(), same))
    assert "paddings.py:6, `return x[1:] if" in str(error.value)
    with pytest.raises(ValueError, match="take another implementation of the network$"):
        trace(same)


def test_subclasses_with_the_forward_of_torch_are_layers() -> None:
    class Convolution(nn.Conv2d):
        pass

    class Padded(nn.Conv2d):
        def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return super()._conv_forward(F.pad(x, (1, 1, 1, 1)), weight, bias)

    class Norm(nn.BatchNorm2d):
        pass

    class Head(nn.Linear):
        pass

    class Stage(nn.Sequential):
        pass

    model = nn.Sequential(
        Stage(Convolution(3, 4, 1), Norm(4), nn.ReLU()),
        Padded(4, 4, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        Head(4, 2),
    ).eval()
    graph = trace(model)
    assert layer_names(model, graph) == ["0.0", "4"]
    assert batch_norm_after(model, graph, "0.0") == "0.1"
    assert feature_nodes(model, graph)[0][1].name == "_3"
    x = torch.randn(2, 3, 5, 5)
    assert torch.equal(torch.fx.GraphModule(model, graph)(x), model(x))


def test_a_module_without_a_forward_is_named() -> None:
    class Empty(nn.Module):
        pass

    with pytest.raises(ValueError, match=r"module '0' \(Empty\) failed"):
        trace(nn.Sequential(Empty()))


def test_overwriting_without_another_form_is_refused() -> None:
    class Zeroing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x + 1).zero_()

    with pytest.raises(ValueError, match=r"Tensor\.zero_ at node 'zero_'"):
        trace(Zeroing())


class Jittered(nn.Module):
    """Adds random numbers, each time as many or as many for each image."""

    def __init__(self, is_each: bool) -> None:
        super().__init__()
        self.conv, self.head, self.is_each = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), is_each

    def forward(self, x: Tensor) -> Tensor:
        drawn = torch.randn(x.shape[0], 8) if self.is_each else torch.randn(8)
        return self.head(self.conv(x).relu().mean((2, 3)) + 0.1 * drawn)


@pytest.mark.parametrize("is_each", [False, True])
def test_a_network_that_gives_something_else_each_time_is_told_so(is_each: bool) -> None:
    network, images = Jittered(is_each), torch.randn(6, 3, 8, 8)
    said = "model must give the same outputs for the same images .* random numbers; F.dropout "
    with pytest.raises(ValueError, match=rf"^inspect: {said}"):
        fsc.inspect(network, images)
    with pytest.raises(ValueError, match=rf"^compress: {said}"):
        fsc.compress(network, images, method="l1")
    before = torch.get_rng_state()
    assert varies(network, ((images,), {}))
    assert torch.equal(torch.get_rng_state(), before)
    assert not varies(network.conv, ((images,), {}))


def test_layers_called_twice_or_sharing_a_weight_are_no_layers_of_their_own() -> None:
    shared = nn.Conv2d(3, 3, 1)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.Conv2d(3, 2, 1))
    graph = trace(model)
    assert layer_names(model, graph) == ["3"]
    assert shared_layers(model, graph) == {
        "0": "layer '0' is called more than once; give each call a copy of it"
    }
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1))
    model[1].weight = model[0].weight
    graph = trace(model)
    assert layer_names(model, graph) == ["2"]
    assert shared_layers(model, graph)["1"].startswith("layer '1' shares a parameter with '0'; ")


def test_tracing_takes_evaluation_mode_and_restores_flags() -> None:
    class Dropping(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x, 0.5, training=self.training)

    model = nn.Sequential(nn.Conv2d(3, 3, 1), Dropping())
    model[0].eval()
    graph = trace(model)
    flags = [node.kwargs["training"] for node in graph.nodes if node.target is F.dropout]
    assert flags == [False]
    assert [model.training, model[0].training, model[1].training] == [True, False, True]


def test_graph_without_in_place_operations_computes_the_same() -> None:
    model = Overwriting().eval()
    x = torch.randn(2, 3, 4, 4)
    graph = trace(model)
    with out_of_place(model):
        assert not model.relu.inplace
        computed = torch.fx.GraphModule(model, graph)(x)
    assert model.relu.inplace
    assert torch.equal(computed, model(x))
    targets = [node.target for node in graph.nodes]
    assert "sub" in targets and "sub_" not in targets
    assert torch.relu in targets and torch.relu_ not in targets
    leaky = next(node for node in graph.nodes if node.target is F.leaky_relu)
    assert True not in [*leaky.args[1:], *leaky.kwargs.values()]


def test_activation_is_found_in_every_form() -> None:
    model = Functional()
    graph = trace(model)
    found = {name: following_activation(model, graph, name) for name in layer_names(model, graph)}
    assert found == {"first": "relu", "second": "none", "third": "relu", "head": "none"}


def test_batch_norm_after_a_layer() -> None:
    model = TwoBranches()
    graph = trace(model)
    assert batch_norm_after(model, graph, "stem.0") == "stem.1"
    assert batch_norm_after(model, graph, "left") is None


def test_layers_of_a_residual_network() -> None:
    model = models.build("resnet20")
    graph = trace(model)
    names = layer_names(model, graph)
    assert len(names) == 20
    assert names[:3] == ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
