"""Cutting channels out, and masking them."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fsc import models
from fsc.channels.cutting import cut_channels, filters, mask_channels
from fsc.channels.groups import ChannelGroup
from fsc.channels.proof import channel_groups, fault_of_cut
from fsc.networks.pretrained import load_pretrained
from fsc.networks.surgery import fold_batch_norm


def small() -> nn.Sequential:
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.Sigmoid(),
        nn.Conv2d(6, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.3)
            module.bias.data.normal_(0.0, 0.3)
    return model.eval()


def groups_of(model: nn.Module) -> list[ChannelGroup]:
    return channel_groups(model, torch.zeros(1, 3, 8, 8))


def test_cutting_keeps_the_chosen_filters_and_what_reads_them() -> None:
    model = small()
    cut = deepcopy(model)
    cut_channels(cut, groups_of(model), {"0": torch.tensor([1, 4]), "3": torch.tensor([2])})
    assert torch.equal(cut[0].weight, model[0].weight[[1, 4]])
    assert torch.equal(cut[1].running_var, model[1].running_var[[1, 4]])
    assert torch.equal(cut[3].weight, model[3].weight[[2]][:, [1, 4]])
    assert torch.equal(cut[8].weight, model[8].weight[:, 8:12])
    assert (cut[1].num_features, cut[3].in_channels, cut[3].out_channels) == (2, 2, 1)


def test_masking_zeroes_rows_norms_and_columns() -> None:
    model = small()
    masked = deepcopy(model)
    mask_channels(masked, groups_of(model), {"0": torch.tensor([1, 4]), "3": torch.tensor([2])})
    gone = [0, 2, 3, 5]
    for tensor in (masked[0].weight, masked[0].bias, masked[1].weight, masked[1].bias):
        assert not tensor[gone].any()
    assert not masked[1].running_mean[gone].any()
    assert not masked[3].weight[:, gone].any()
    assert torch.equal(masked[3].weight[2][[1, 4]], model[3].weight[2][[1, 4]])
    columns = masked[8].weight.abs().sum(0).nonzero().flatten()
    assert columns.tolist() == [8, 9, 10, 11]


@pytest.mark.parametrize("name", ["resnet20", "resnet56", "vgg16"])
def test_masked_equals_cut_on_trained_weights(name: str, data_root: Path) -> None:
    suffix = "" if name == "vgg16" else "_akamaster"
    model = models.build(name)
    load_pretrained(model, data_root / "checkpoints" / f"cifar10_{name}{suffix}.pt")
    model = model.eval().double()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    groups = channel_groups(model, images[:1])
    kept = {}
    for group in groups:
        if group.frozen is None:
            stays = ~group.free
            stays[group.free.nonzero().flatten()[::3]] = True
            kept[group.name] = stays.nonzero().flatten()
    assert fault_of_cut(model, groups, kept, (images,)) is None


def test_a_folded_batch_norm_loses_nothing() -> None:
    model = small()
    groups = groups_of(model)
    fold_batch_norm(model)
    cut_channels(model, groups, {"0": torch.tensor([1, 4])})
    assert isinstance(model[1], nn.Identity) and model(torch.ones(1, 3, 8, 8)).shape == (1, 5)


def test_cutting_keeps_flags_of_training_and_gradients() -> None:
    model = small().train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    cut_channels(model, groups_of(model), {"0": torch.tensor([0, 1])})
    assert model.training and model[3].training and not model[1].training
    assert not model[0].weight.requires_grad and model[0].bias.requires_grad


@pytest.mark.parametrize(
    ("name", "indices", "message"),
    [
        ("nowhere", [0], "must name groups of channels, got 'nowhere'"),
        ("0", [], r"channels of '0' must be integers \[count\] with count at least 1"),
        ("0", [0.0, 1.0], "channels of '0' must be integers .* got torch.float32"),
        ("0", [1, 1], r"strictly increasing from 0 to 5, got \[1, 1\]"),
        ("0", [2, 1], r"strictly increasing from 0 to 5, got \[2, 1\]"),
        ("0", [-1, 2], r"strictly increasing from 0 to 5, got \[-1, 2\]"),
        ("3", [0, 4], r"channels of '3' must be strictly increasing from 0 to 3, got \[0, 4\]"),
        ("8", [0], "channel 1 of '8' must stay, because they reach the output of the network"),
    ],
)
def test_bad_channels_are_named_and_change_nothing(
    name: str, indices: list[float], message: str
) -> None:
    model = small()
    before, groups = deepcopy(model.state_dict()), groups_of(model)
    kept = {"3": torch.tensor([0]), name: torch.tensor(indices)}
    for change in (mask_channels, cut_channels):
        with pytest.raises(ValueError, match=message):
            change(model, groups, kept)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_filters_of_a_transposed_convolution_come_by_output_channel() -> None:
    layer = nn.ConvTranspose2d(4, 6, 3, groups=2)
    image = torch.zeros(1, 4, 1, 1)
    rows: Tensor = filters(layer)
    assert rows.shape == (6, 2, 3, 3)
    for channel in range(4):
        image.zero_()[0, channel] = 1
        expected = layer(image)[0] - layer.bias[:, None, None]  # [6, 3, 3]
        mine = range(3) if channel < 2 else range(3, 6)
        for row in mine:
            torch.testing.assert_close(rows[row, channel % 2], expected[row])
