from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fsc_ext
from fsc import models
from fsc.networks.pretrained import load_pretrained
from fsc.networks.surgery import fold_batch_norm, insert_pointwise, mask_channels, remove_channels
from fsc.networks.tracing import consumers, layer_names, trace
from fsc.walking.activations import following_activation


def randomize_batch_norms(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.0)
            module.bias.data.normal_(0.0, 0.3)
            module.running_mean.normal_(0.0, 0.3)
            module.running_var.uniform_(0.8, 1.5)
    return model.eval()


def halves(model: nn.Module) -> dict[str, Tensor]:
    """A random half of the channels of every convolution that can be pruned."""
    graph = trace(model)
    kept = {}
    for name in layer_names(model, graph)[:-1]:
        try:
            consumers(model, graph, name)
        except ValueError:
            continue
        out_channels = model.get_submodule(name).out_channels
        kept[name] = torch.randperm(out_channels)[: out_channels // 2].sort().values
    return kept


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
    shared = nn.BatchNorm2d(3)
    twice = nn.Sequential(nn.Conv2d(3, 3, 1), shared, nn.Conv2d(3, 3, 1), shared)
    with pytest.raises(ValueError, match="module '1' must be called once, got 2 calls"):
        fold_batch_norm(twice)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("name", ["small", *models.names()])
def test_masked_equals_sliced(name: str, folded: bool) -> None:
    model = small() if name == "small" else randomize_batch_norms(models.build(name))
    if folded:
        fold_batch_norm(model)
    check_masked_equals_sliced(model, torch.randn(2, 3, 32, 32))


@pytest.mark.parametrize("name", ["resnet20", "resnet56", "vgg16"])
def test_masked_equals_sliced_on_trained_weights(name: str, data_root: Path) -> None:
    suffix = "" if name == "vgg16" else "_akamaster"
    model = models.build(name)
    load_pretrained(model, data_root / "checkpoints" / f"cifar10_{name}{suffix}.pt")
    check_masked_equals_sliced(model.eval(), torch.randn(2, 3, 32, 32))


def check_masked_equals_sliced(model: nn.Module, images: Tensor) -> None:
    kept = halves(model)
    assert kept
    masked, sliced = deepcopy(model), deepcopy(model)
    mask_channels(masked, kept)
    remove_channels(sliced, kept, images[:1])
    expected = masked(images)
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(sliced(images), expected, rtol=0, atol=1e-5 * max(scale, 1.0))
    assert float((model(images) - expected).detach().abs().max()) > 1e-3 * scale
    for name, indices in kept.items():
        before, after = model.get_submodule(name), sliced.get_submodule(name)
        assert after.out_channels == after.weight.shape[0] == len(indices)
        assert masked.get_submodule(name).out_channels == before.out_channels
    untouched = {name for name, m in model.named_modules() if isinstance(m, nn.Conv2d)} - {*kept}
    for name in untouched:
        before, after = model.get_submodule(name), sliced.get_submodule(name)
        assert after.out_channels == before.out_channels


def test_slicing_keeps_the_chosen_filters_and_what_reads_them() -> None:
    model = small()
    sliced = deepcopy(model)
    remove_channels(
        sliced, {"0": torch.tensor([1, 4]), "3": torch.tensor([2])}, torch.ones(1, 3, 8, 8)
    )
    assert torch.equal(sliced[0].weight, model[0].weight[[1, 4]])
    assert torch.equal(sliced[1].running_var, model[1].running_var[[1, 4]])
    assert torch.equal(sliced[3].weight, model[3].weight[[2]][:, [1, 4]])
    assert torch.equal(sliced[8].weight, model[8].weight[:, 8:12])


def test_masking_zeroes_rows_norms_and_columns() -> None:
    model = small()
    masked = deepcopy(model)
    mask_channels(masked, {"0": torch.tensor([1, 4]), "3": torch.tensor([2])})
    gone = [0, 2, 3, 5]
    for tensor in (masked[0].weight, masked[0].bias, masked[1].weight, masked[1].bias):
        assert not tensor[gone].any()
    assert not masked[1].running_mean[gone].any()
    assert not masked[3].weight[:, gone].any()
    assert torch.equal(masked[3].weight[2][[1, 4]], model[3].weight[2][[1, 4]])
    columns = masked[8].weight.abs().sum(0).nonzero().flatten()
    assert columns.tolist() == [8, 9, 10, 11]


def test_slicing_keeps_flags_of_training_and_gradients() -> None:
    model = small().train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    remove_channels(model, {"0": torch.tensor([0, 1])}, torch.ones(1, 3, 8, 8))
    assert model.training and model[3].training and not model[1].training
    assert not model[0].weight.requires_grad and model[0].bias.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "indices", "message"),
    [
        ("nowhere", [0], r"that of a Conv2d, got 'nowhere' \(nothing\)"),
        ("8", [0], r"that of a Conv2d, got '8' \(Linear\)"),
        ("0", [], r"layer '0' must be integers \[count\] with count at least 1"),
        ("0", [0.0, 1.0], "layer '0' must be integers .* got torch.float32"),
        ("0", [1, 1], r"strictly increasing from 0 to 5, got \[1, 1\]"),
        ("0", [2, 1], r"strictly increasing from 0 to 5, got \[2, 1\]"),
        ("0", [-1, 2], r"strictly increasing from 0 to 5, got \[-1, 2\]"),
        ("3", [0, 4], r"layer '3' must be strictly increasing from 0 to 3, got \[0, 4\]"),
    ],
)
def test_bad_indices_are_named_and_change_nothing(
    name: str, indices: list[float], message: str
) -> None:
    model = small()
    before = deepcopy(model.state_dict())
    kept = {"3": torch.tensor([0]), name: torch.tensor(indices)}
    with pytest.raises(ValueError, match=message):
        mask_channels(model, kept)
    with pytest.raises(ValueError, match=message):
        remove_channels(model, kept, torch.ones(1, 3, 8, 8))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_channels_of_a_residual_sum_cannot_be_removed() -> None:
    model = models.build("resnet20")
    with pytest.raises(ValueError, match=r"layer 'layer2\.0\.conv2'.*node 'add"):
        remove_channels(model, {"layer2.0.conv2": torch.arange(4)}, torch.ones(1, 3, 32, 32))


def test_grouped_layers_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 2, 1))
    for name in ("0", "1"):
        with pytest.raises(ValueError, match="must not be grouped, got 2 groups in '1'"):
            mask_channels(model, {name: torch.tensor([0, 1])})


def test_example_inputs_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"example_inputs of \[1, 4, 8, 8\] must run together"):
        remove_channels(small(), {"0": torch.tensor([0])}, torch.ones(1, 4, 8, 8))


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
