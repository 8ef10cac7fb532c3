import os
from pathlib import Path

import pytest
import torch
from torch import nn

from fsc import models
from fsc.models.mobilenetv2 import mobilenetv2
from fsc.models.recognition import recognise
from fsc.models.resnet import resnet
from fsc.models.vgg import vgg
from fsc.networks.pretrained import load_pretrained

CHECKPOINTS = {
    "resnet20": ("cifar10_resnet20_akamaster.pt", 269_722),
    "resnet32": ("cifar10_resnet32_akamaster.pt", 464_154),
    "resnet44": ("cifar10_resnet44_akamaster.pt", 658_586),
    "resnet56": ("cifar10_resnet56_akamaster.pt", 853_018),
    "vgg16": ("cifar10_vgg16.pt", 14_724_042),
}


def data_folder() -> Path:
    if not os.environ.get("FSC_DATA"):
        pytest.skip("FSC_DATA is not set")
    return Path(os.environ["FSC_DATA"])


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_published_checkpoint_loads_strictly(name):
    file, num_parameters = CHECKPOINTS[name]
    path = data_folder() / "checkpoints" / file
    model = models.build(name)
    model.load_state_dict(torch.load(path, weights_only=True), strict=True)
    assert sum(p.numel() for p in model.parameters()) == num_parameters
    assert all(p.dtype == torch.float32 for p in model.parameters())
    stored = torch.load(path, weights_only=True)
    loaded = load_pretrained(models.build(name), path)
    for key, value in loaded.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(value, stored[key].float()), key


@pytest.mark.parametrize(
    "model",
    [resnet(8, 7, 1), resnet(14), vgg(16, 7, 1), vgg(19), mobilenetv2(7, 1)],
    ids=lambda m: type(m).__name__,
)
def test_traced_network_gives_the_same_scores(model):
    model.eval()
    in_channels = next(m for m in model.modules() if isinstance(m, nn.Conv2d)).in_channels
    num_classes = [m for m in model.modules() if isinstance(m, nn.Linear)][-1].out_features
    x = torch.randn(2, in_channels, 32, 32)
    scores = model(x)
    assert scores.shape == (2, num_classes)
    assert torch.equal(torch.fx.symbolic_trace(model)(x), scores)


@pytest.mark.parametrize("name", ["resnet20", "vgg16"])
def test_every_activation_is_a_module_of_its_own_and_out_of_place(name):
    graph = torch.fx.symbolic_trace(models.build(name))
    calls = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    assert len(calls) == len(set(calls))
    activations = [m for m in graph.modules() if isinstance(m, nn.ReLU)]
    assert len(activations) == {"resnet20": 19, "vgg16": 13}[name]
    assert not any(m.inplace for m in activations)


def test_shortcut_subsamples_and_pads_on_both_sides():
    block = resnet(8).layer2[0]
    with torch.no_grad():
        block.bn2.weight.zero_()
    x = torch.rand(2, 16, 6, 6)
    out = block.eval()(x)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any() and not out[:, 24:].any()


def test_depth_is_the_number_of_layers_with_weights():
    for name, depth in (("resnet14", 14), ("resnet110", 110), ("vgg19", 19), ("mobilenetv2", 53)):
        layers = [m for m in models.build(name).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        # The published count of VGG has three linear layers where ours has one.
        assert len(layers) + 2 * name.startswith("vgg") == depth, name


def test_names_build_and_normalize():
    for name in models.names():
        with torch.device("meta"):
            models.build(name)
    assert models.normalization("resnet56") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert [models.image_side(name) for name in ("vgg16", "resnet34", "mobilenetv2")] == [
        32, 224, 224,
    ]  # fmt: skip
    assert models.normalization("vgg16") == ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


@pytest.mark.parametrize("function", [models.build, models.normalization, models.family])
def test_unknown_name_lists_the_known_ones(function):
    with pytest.raises(
        ValueError, match=r"one of resnet14, .*resnet34, mobilenetv2, got 'resnet21'"
    ):
        function("resnet21")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: resnet(21), "depth must be 6n\\+2 with n at least 1, got 21"),
        (lambda: resnet(2), "depth must be 6n\\+2 with n at least 1, got 2"),
        (lambda: vgg(11), "depth must be 16 or 19, got 11"),
        (lambda: models.build("vgg16", num_classes=0), "num_classes must be at least 1, got 0"),
        (lambda: models.build("vgg16", in_channels=-1), "in_channels must be at least 1, got -1"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", models.names())
def test_networks_are_recognised_by_their_weights(name):
    with torch.device("meta"):
        assert recognise(models.build(name, num_classes=7, in_channels=1)) == name


def test_other_networks_are_not_recognised():
    pruned = models.build("resnet20")
    pruned.layer1[0].conv1 = nn.Conv2d(16, 9, 3, padding=1, bias=False)
    for model in (pruned, nn.Linear(3, 3), nn.Sequential(nn.Conv2d(3, 3, 1)), nn.ReLU()):
        assert recognise(model) is None
