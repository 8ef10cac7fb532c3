"""Networks of which only 1x1 convolutions are trained."""

import copy
import warnings

import pytest
import torch
from torch import nn

import fsc
from fsc import models
from fsc.networks.decoupling import decoupled_of
from fsc.schemes import pointwise_alone
from fsc.training import supervised


def randomised() -> nn.Module:
    """ResNet-14 whose BatchNorms do something."""
    torch.manual_seed(0)
    model = models.build("resnet14")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model


def test_it_computes_what_the_network_computes() -> None:
    model, images = randomised().eval().double(), torch.randn(3, 3, 16, 16).double()
    made = pointwise_alone(model)
    assert set(decoupled_of(made)) == {n for n, m in model.named_modules() if is_large(m)}
    with torch.no_grad():
        torch.testing.assert_close(made(images), model(images), rtol=0, atol=1e-10)


def is_large(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1


def test_training_moves_pointwise_convolutions_and_no_taps() -> None:
    made = pointwise_alone(randomised())
    before = copy.deepcopy(made.state_dict())
    images, labels = torch.randn(12, 3, 8, 8), torch.arange(12) % 10
    supervised.train(made, images, labels, epochs=1, batch_size=6)
    for name in decoupled_of(made):
        taps = made.get_submodule(f"{name}.depthwise").weight  # [C_in T, 1, kH, kW]
        assert torch.equal(taps, before[f"{name}.depthwise.weight"])
        rows = taps.view(-1, 9, 9)
        eye = torch.eye(9).expand_as(rows)
        torch.testing.assert_close(rows @ rows.transpose(1, 2), eye, rtol=0, atol=1e-5)
        moved = made.get_submodule(f"{name}.pointwise").weight
        assert not torch.equal(moved, before[f"{name}.pointwise.weight"])


def test_the_given_network_is_left_as_it_was() -> None:
    model = randomised()
    before = copy.deepcopy(model.state_dict())
    pointwise_alone(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not decoupled_of(model)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_larger_convolutions_that_still_take_gradients_are_named() -> None:
    class Own(nn.Conv2d):
        pass

    class Net(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.twice(self.twice(x))
            for name in ("plain", "grouped", "own", "depthwise", "small", "up", "frozen"):
                x = self.get_submodule(name)(x)
            return x

    model = Net()
    model.twice, model.plain = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
    model.grouped, model.own = nn.Conv2d(4, 4, 3, groups=2), Own(4, 4, 3)
    model.depthwise, model.small = nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 1)
    model.up, model.frozen = nn.ConvTranspose2d(4, 4, 3), nn.Conv2d(4, 4, 3, groups=2)
    model.aside = nn.Conv2d(4, 4, 3)
    model.frozen.requires_grad_(False)
    with pytest.warns(fsc.CompressionWarning) as caught:
        made = pointwise_alone(model)
    assert set(decoupled_of(made)) == {"plain"}
    (said,) = (str(each.message) for each in caught)
    assert said.startswith("pointwise_alone: larger convolutions still take gradients: 'twice' ")
    assert "'grouped' stays whole: it has 2 groups" in said
    assert "'own' stays whole: it is a Own" in said
    assert "'depthwise' stays whole: it is depthwise already" in said
    assert "'up' stays whole: it is a ConvTranspose2d" in said
    assert "'aside' stays whole: the network does not call it" in said
    assert not any(f"'{name}'" in said for name in ("plain", "small", "frozen"))


def test_nothing_is_said_where_every_larger_convolution_is_decoupled() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pointwise_alone(models.build("resnet14"))
    assert [str(each.message) for each in caught] == []


def test_a_network_without_such_a_convolution_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    with pytest.raises(
        ValueError, match="must have a convolution with a kernel larger than 1x1 .* got none in"
    ):
        pointwise_alone(model)


def test_a_network_whose_convolutions_stay_whole_is_told_why() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.ReLU())
    with pytest.raises(ValueError, match="can be decoupled, got none: '0' stays whole: it has 2 g"):
        pointwise_alone(model)
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got str"):
        pointwise_alone("resnet14")  # type: ignore[arg-type]
