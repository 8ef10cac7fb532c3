import pytest
import torch
from torch import nn

import fsc
from fsc import models
from fsc.models.densenet import densenet
from fsc.models.mobilenetv2 import mobilenetv2
from fsc.models.preactivation_resnet import preactivation_resnet
from fsc.models.recognition import recognise
from fsc.models.resnet import resnet
from fsc.models.vgg import vgg
from fsc.networks import cost
from fsc.networks.pretrained import load_pretrained

CHECKPOINTS = {
    "resnet20": ("cifar10_resnet20_akamaster.pt", 269_722),
    "resnet32": ("cifar10_resnet32_akamaster.pt", 464_154),
    "resnet44": ("cifar10_resnet44_akamaster.pt", 658_586),
    "resnet56": ("cifar10_resnet56_akamaster.pt", 853_018),
    "vgg16": ("cifar10_vgg16.pt", 14_724_042),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_published_checkpoint_loads_strictly(data_root, name):
    file, num_parameters = CHECKPOINTS[name]
    path = data_root / "checkpoints" / file
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
    [
        *(resnet(8, 7, 1), resnet(14), vgg(16, 7, 1), vgg(19), mobilenetv2(7, 1)),
        *(preactivation_resnet(11, 7, 1), preactivation_resnet(20), densenet(10, 7, 1)),
    ],
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
    depths = {"resnet14": 14, "resnet110": 110, "vgg13": 13, "vgg19": 19, "mobilenetv2": 53}
    # The published count of VGG has three linear layers where ours has one, that of ResNet-164 no
    # layer in a shortcut.
    others = {"vgg13": 2, "vgg19": 2, "resnet164": -3}
    for name, depth in (depths | {"resnet164": 164, "densenet40": 40}).items():
        modules = models.skeleton(name).modules()
        layers = [m for m in modules if isinstance(m, nn.Conv2d | nn.Linear)]
        assert len(layers) + others.get(name, 0) == depth, name


@pytest.mark.parametrize(
    ("name", "parameters", "parameters_100", "flops"),
    [
        # Liu et al. 2017, Table 1: 20.04 M and 20.08 M, 1.70 M and 1.73 M, 1.02 M and 1.06 M
        # parameters, 7.97e8, 4.99e8 and 5.33e8 operations, two a multiply-accumulate.
        ("vgg19", 20_035_018, 20_081_188, 398_182_400),
        ("resnet164", 1_703_258, 1_726_388, 247_669_760),
        ("densenet40", 1_019_722, 1_060_132, 264_853_248),
        ("vgg13", 9_413_066, 9_459_236, 228_313_088),
    ],
)
def test_sizes_are_the_published_ones(name, parameters, parameters_100, flops):
    small, large = models.skeleton(name), models.skeleton(name, num_classes=100)
    assert cost.parameters(small) == parameters and cost.parameters(large) == parameters_100
    image = torch.zeros(1, 3, 32, 32, device="meta")
    assert cost.flops(large, image) == flops


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
        (lambda: vgg(11), "depth must be 13, 16 or 19, got 11"),
        (lambda: preactivation_resnet(57), "depth must be 9n\\+2, n at least 1, got 57"),
        (lambda: preactivation_resnet(2), "depth must be 9n\\+2, n at least 1, got 2"),
        (lambda: densenet(41), "depth must be 3n\\+4 with n at least 1, got 41"),
        (lambda: densenet(4), "depth must be 3n\\+4 with n at least 1, got 4"),
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


@pytest.mark.parametrize("name", ["vgg13", "resnet164", "densenet40"])
def test_half_of_every_layer_can_go(name):
    """That the cut network computes what the masked one does is checked by `compress` itself."""
    torch.manual_seed(0)
    model, images = models.build(name).eval(), torch.randn(2, 3, 16, 16)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_()
    result = fsc.compress(model, images, method="l1", pruning_ratio=0.5)
    assert set(result.report.left.values()) == {"they reach the output of the network"}
    sizes = {n: m.out_channels for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    student = dict(result.student.named_modules())
    assert all(student[layer].out_channels == size // 2 for layer, size in sizes.items())
