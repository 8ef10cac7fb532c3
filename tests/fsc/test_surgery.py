from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import nn

import fsc_ext
from fsc import models
from fsc.networks.surgery import fold_batch_norm, insert_pointwise
from fsc.networks.tracing import trace
from fsc.walking.activations import following_activation


def randomize_batch_norms(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.0)
            module.bias.data.normal_(0.0, 0.3)
            module.running_mean.normal_(0.0, 0.3)
            module.running_var.uniform_(0.8, 1.5)
    return model.eval()


def small(convolution: Callable[..., nn.Module] = nn.Conv2d) -> nn.Sequential:
    model = nn.Sequential(
        convolution(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.Sigmoid(),
        nn.Conv2d(6, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    return randomize_batch_norms(model)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("name", ["small", "resnet20", "vgg16"])
def test_folding_keeps_the_outputs(name: str, dtype: torch.dtype, tolerance: float) -> None:
    model = small() if name == "small" else randomize_batch_norms(models.build(name))
    model.to(dtype)
    folded = deepcopy(model)
    fold_batch_norm(folded)
    images = torch.randn(2, 3, 32, 32, dtype=dtype)
    expected = model(images)
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(folded(images), expected, rtol=0, atol=tolerance * max(scale, 1.0))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert all(m.bias is not None for m in folded.modules() if isinstance(m, nn.Conv2d))


def test_folding_shows_the_activation_behind_the_layer() -> None:
    model = models.build("resnet20")
    graph = trace(model)
    assert following_activation(model, graph, "layer1.0.conv1") == "none"
    fold_batch_norm(model)
    assert following_activation(model, graph, "layer1.0.conv1") == "relu"
    assert following_activation(model, graph, "layer1.0.conv2") == "none"


def test_folding_leaves_a_norm_that_does_not_read_a_convolution_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    fold_batch_norm(model)
    assert isinstance(model[2], nn.BatchNorm2d) and model[3].bias.shape == (2,)


def test_folding_refuses_what_it_cannot_fold_and_changes_nothing() -> None:
    model = small()
    model[4] = nn.BatchNorm2d(4, track_running_stats=False)
    before = deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="module '4' must keep running statistics"):
        fold_batch_norm(model)
    assert before.keys() == model.state_dict().keys()


def test_folding_leaves_a_norm_that_is_called_twice_and_folds_the_others() -> None:
    shared = nn.BatchNorm2d(3)
    layers = nn.Conv2d(3, 3, 1), shared, nn.Conv2d(3, 3, 1), shared
    model = nn.Sequential(*layers, nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    randomize_batch_norms(model)
    images = torch.randn(2, 3, 8, 8)
    expected = model(images)
    fold_batch_norm(model)
    assert model[1] is shared and model[3] is shared and isinstance(model[5], nn.Identity)
    torch.testing.assert_close(model(images), expected)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("pointwise_bias", [False, True])
def test_inserted_pointwise_layer_can_be_absorbed(bias: bool, pointwise_bias: bool) -> None:
    explicit = nn.Sequential(nn.Conv2d(3, 4, 3, bias=bias), nn.ReLU()).double().eval()
    absorbed = deepcopy(explicit)
    weight = torch.randn(4, 4, dtype=torch.float64)
    shift = torch.randn(4, dtype=torch.float64) if pointwise_bias else None
    insert_pointwise(explicit, "0", weight, shift)
    assert [*explicit.state_dict()][0] == "0.0.weight"
    convolution = absorbed[0]
    fused = fsc_ext.absorb_conv1x1(convolution.weight, convolution.bias, weight, shift)
    convolution.weight, convolution.bias = (nn.Parameter(tensor) for tensor in fused)
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(explicit(images), absorbed(images), rtol=0, atol=1e-10)


def test_pointwise_layer_that_does_not_fit_is_named() -> None:
    model = small()
    with pytest.raises(
        ValueError, match=r"weight must be \[C_out, 6\] for layer '0', got \[6, 5\]"
    ):
        insert_pointwise(model, "0", torch.ones(6, 5))
    with pytest.raises(ValueError, match=r"bias must be \[6\], got \[5\]"):
        insert_pointwise(model, "0", torch.ones(6, 6), torch.ones(5))
    with pytest.raises(ValueError, match=r"insert_pointwise: name must .* got '1' \(BatchNorm2d\)"):
        insert_pointwise(model, "1", torch.ones(6, 6))
