import pytest
import torch
from branching import Gated, Twice, branching
from torch import nn

import fsc
from fsc import models, schemes
from fsc.channels.proof import channel_groups
from fsc.networks import cost

IMAGE = torch.zeros(1, 3, 32, 32)


def thinned_resnet(kept):
    model = models.build("resnet56")
    for layer, count in kept.items():
        block = model.get_submodule(layer.removesuffix(".conv1"))
        first, second = block.conv1, block.conv2
        block.conv1 = nn.Conv2d(first.in_channels, count, 3, first.stride, 1, bias=False)
        block.bn1 = nn.BatchNorm2d(count)
        block.conv2 = nn.Conv2d(count, second.out_channels, 3, 1, 1, bias=False)
    return model


def thinned_vgg(kept):
    model = models.build("vgg16")
    width = 3
    for index, layer in enumerate(model.features):
        if isinstance(layer, nn.Conv2d):
            before, width = width, kept.get(f"features.{index}", layer.out_channels)
            model.features[index] = nn.Conv2d(before, width, 3, padding=1, bias=False)
            model.features[index + 1] = nn.BatchNorm2d(width)
    return model


@pytest.mark.parametrize(
    ("name", "num_parameters", "macs"),
    [
        ("res-50", 517_000, 75_276_928),
        ("res-60", 437_318, 62_227_072),
        ("res-70", 370_338, 50_872_960),
        ("res-90", 230_620, 30_007_936),
    ],
)
def test_residual_scheme_has_the_size_of_the_released_code(name, num_parameters, macs):
    model = thinned_resnet(schemes.named(name, "resnet56").kept)
    assert cost.parameters(model) == num_parameters
    assert cost.flops(model, IMAGE) == macs


@pytest.mark.parametrize(
    ("name", "printed"), [("res-50", 50), ("res-60", 42), ("res-70", 35), ("res-90", 21)]
)
def test_table_11_counts_one_channel_less_than_the_released_code(name, printed):
    kept = schemes.named(name, "resnet56").kept
    model = thinned_resnet({layer: count - 1 for layer, count in kept.items()})
    assert cost.parameters(model) // 10_000 == printed


def test_vgg_50_has_the_size_of_table_10():
    model = thinned_vgg(schemes.named("vgg-50", "vgg16").kept)
    # The network of the paper has one hidden linear layer of 512 units more: 14.99 M, not 14.72.
    hidden = 512 * 512
    dense = models.build("vgg16")
    assert round((cost.parameters(dense) + hidden + 512) / 1e6, 2) == 14.99
    assert cost.parameters(model) + hidden + 512 == pytest.approx(4.53e6, abs=0.011e6)
    # The last two printed digits need the bias and the normalization, three for every output.
    outputs = 139_264
    assert round((cost.flops(model, IMAGE) + hidden + 3 * outputs) / 1e9, 3) == 0.082


@pytest.mark.parametrize(
    ("name", "num_parameters", "macs"),
    [
        # Table 10 prints 6.11 M and 0.208 G.
        ("vgg-a", 6.11, 0.208),
        # Table 10 prints 4.37 M and 0.137 G: five per cent and three above what 60 % and 20 % give.
        ("vgg-b", 4.17, 0.133),
        # Table 10 prints 2.92 M and 0.061 G, which 75 % of blocks one to four cannot give.
        ("vgg-c", 2.29, 0.024),
    ],
)
def test_other_vgg_schemes_beside_table_10(name, num_parameters, macs):
    model = thinned_vgg(schemes.named(name, "vgg16").kept)
    hidden = 512 * 512  # the hidden linear layer of the paper's network
    assert (cost.parameters(model) + hidden + 512) // 10_000 / 100 == num_parameters
    assert (cost.flops(model, IMAGE) + hidden) // 1_000_000 / 1000 == macs


@pytest.mark.parametrize("model_name", ["resnet56", "vgg19"])
def test_sparse_scheme_treats_each_layer_equally(model_name):
    model = models.build(model_name)
    scheme = schemes.named("sparse-90", model_name)
    assert scheme == schemes.sparse(model, 0.9)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            assert scheme.kept[name] == round(0.1 * module.weight.numel())
    assert len(schemes.sparse(model, 0.9, ignored=list(scheme.kept)[:2]).kept) == (
        len(scheme.kept) - 2
    )


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({}, "scheme 'mine' prunes no layer"),
        ({"conv9": 1}, "layer 'conv9' must be a convolution of ResNet, got none"),
        ({"linear": 1}, "layer 'linear' must be a convolution of ResNet, got Linear"),
        ({"conv1": 0}, "layer 'conv1' must keep 1 to 432 weights, got 0"),
        ({"conv1": 433}, "layer 'conv1' must keep 1 to 432 weights, got 433"),
        ({"conv1": 2.0}, "layer 'conv1' must keep 1 to 432 weights, got 2.0"),
    ],
)
def test_sparse_scheme_that_does_not_fit(kept, message):
    with pytest.raises(ValueError, match=message):
        schemes.check(schemes.SparseScheme("mine", kept), models.build("resnet20"), IMAGE)


def test_resnet56_skips_the_published_convolutions():
    model = models.build("resnet56")
    order = [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    pruned = {order.index(name) + 1 for name in schemes.named("res-50", "resnet56").kept}
    assert pruned == set(range(2, 55, 2)) - {16, 20, 38, 54}


def test_other_depths_skip_the_changes_of_width_and_the_last_block():
    kept = schemes.named("res-50", "resnet20").kept
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(3)]
    whole = {"layer2.0", "layer3.0", "layer3.2"}
    assert list(kept) == [f"{block}.conv1" for block in blocks if block not in whole]
    assert set(kept.values()) == {9, 17, 33}


# The deepest have no published scheme, and take as long as all others together.
@pytest.mark.parametrize(
    "model_name", [name for name in models.names() if name not in ("resnet164", "densenet40")]
)
def test_named_schemes_fit_their_networks(model_name):
    model = models.build(model_name)
    groups = channel_groups(model, IMAGE)
    for name in schemes.names():
        if schemes.fits(name, model_name):
            scheme = schemes.named(name, model_name)
            if isinstance(scheme, schemes.Scheme):
                schemes.channels_left(scheme, model, groups)
            else:
                schemes.check(scheme, model, IMAGE)
        else:
            with pytest.raises(ValueError, match=f"scheme {name!r} is for".replace("+", r"\+")):
                schemes.named(name, model_name)


def test_unknown_scheme():
    with pytest.raises(ValueError, match="one of res-50, .*, w4a32, got 'res-55'"):
        schemes.named("res-55", "resnet56")


def test_naming_a_scheme_draws_no_random_numbers():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    schemes.named("vgg-50", "vgg16")
    assert torch.equal(torch.rand(3), expected)


def chain_of(*widths):
    return nn.Sequential(
        *(nn.Conv2d(a, b, 1) for a, b in zip((3, *widths[:-1]), widths, strict=True))
    )


@pytest.mark.parametrize(
    ("ratio", "kept"), [(0, [10, 3]), (0.7, [3, 1]), (0.9, [1, 1]), (0.25, [8, 2])]
)
def test_structured_shares_are_rounded_and_leave_one(ratio, kept):
    scheme = schemes.structured(chain_of(10, 3, 4), ratio, IMAGE)
    assert scheme.kept == dict(zip("01", kept, strict=True))


def test_structured_prunes_every_group_and_leaves_the_ignored():
    scheme = schemes.structured(models.build("resnet20"), 0.5, IMAGE)
    inner = {f"layer{s}.{b}.conv1" for s in (1, 2, 3) for b in range(3)}
    assert set(scheme.kept) == inner | {"conv1"}
    # Of the stream only the 16 channels that meet no zeros of a shortcut can go.
    assert (scheme.kept["conv1"], scheme.kept["layer3.2.conv1"]) == (8, 32)
    vgg = schemes.structured(models.build("vgg16"), 0.5, IMAGE, ignored=["features.0"])
    assert len(vgg.kept) == 12 and vgg.name == "structured-50"
    inside = schemes.structured(models.build("resnet20"), 0.5, IMAGE, ["layer2.1.conv2"])
    assert set(inside.kept) == inner


def test_the_squeeze_of_a_gate_stays_unless_it_is_named():
    gated = branching(Gated)
    assert set(schemes.structured(gated, 0.5, IMAGE).kept) == {"body.0", "last"}
    assert schemes.structured(gated, {"squeeze": 0.5}, IMAGE).kept == {"squeeze": 2}


def test_shares_of_their_own():
    scheme = schemes.structured(chain_of(10, 4, 2), {"0": 0.3, "1": 0.5}, IMAGE)
    assert scheme == schemes.Scheme("structured", {"0": 7, "1": 2})
    sparse = schemes.sparse(chain_of(10, 4), {"1": 0.75})
    assert sparse == schemes.SparseScheme("sparse", {"1": 10})


def _structured(model, ratio, ignored):
    return schemes.structured(model, ratio, IMAGE, ignored)


@pytest.mark.parametrize("make", [_structured, schemes.sparse])
@pytest.mark.parametrize(
    ("ratio", "ignored", "message"),
    [
        (1.0, [], "pruning_ratio must be at least 0 and below 1, got 1.0"),
        ({"0": -0.1}, [], "pruning_ratio must be at least 0 and below 1, got -0.1"),
        (float("nan"), [], "pruning_ratio must be at least 0 and below 1, got nan"),
        (0.5, ["9"], "ignored must .*, got '9'"),
    ],
)
def test_shares_that_do_not_fit(make, ratio, ignored, message):
    with pytest.raises(ValueError, match=f"{make.__name__.strip('_')}: {message}"):
        make(chain_of(4, 2), ratio, ignored)


def test_sparse_shares_that_leave_nothing_to_prune():
    with pytest.raises(ValueError, match="must leave a convolution to prune, got none"):
        schemes.sparse(chain_of(4, 2), 0.5, ["0", "1"])
    with pytest.raises(ValueError, match="must name convolutions that can lose .* got '9'"):
        schemes.sparse(chain_of(4, 2), {"9": 0.5})


def test_nothing_to_prune_says_why():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Softmax(1), nn.Conv2d(4, 2, 1))
    with pytest.raises(ValueError, match="2 of 2 sets .* because Softmax '1' mixes"):
        schemes.structured(model, 0.5, IMAGE)
    with pytest.raises(
        ValueError,
        match="1 of 2 sets of channels .* reach the output of the network; ignored holds 0",
    ):
        schemes.structured(chain_of(4, 2), 0.5, IMAGE, ["0"])
    with pytest.raises(
        ValueError,
        match="structured: pruning_ratio: layer '9' must be one .*, got none; such are '0', '1'$",
    ):
        schemes.structured(chain_of(4, 2), {"9": 0.5}, IMAGE)


def test_nothing_to_prune_has_every_reason_the_commonest_first():
    layers = [nn.Conv2d(3, 4, 1), nn.Softmax(1), nn.Conv2d(4, 5, 1), nn.Softmax(1)]
    single = [nn.Conv2d(5, 1, 1), nn.Conv2d(1, 2, 1)]
    with pytest.raises(ValueError) as error:
        schemes.structured(nn.Sequential(*layers, *single), 0.5, IMAGE)
    sentence = str(error.value)
    told = [
        "4 of 4 sets of channels that go together cannot; 2 times: channels of '0' stay, because",
        "; once: channels of '4' stay, because all of its channels go together",
        "; once: channels of '5' stay, because they reach the output of the network",
    ]
    places = [sentence.find(part) for part in told]
    assert -1 not in places and places == sorted(places)


@pytest.mark.parametrize(
    ("ignored", "got"),
    [
        (["layer1.0.conv1"], "got 'layer1.0.conv1'$"),
        (["layer1*"], "got 'layer1.0.conv1'$"),
        (["layer1.0.bn1"], "got 'layer1.0.conv1', whose channels go with those of 'layer1.0.bn1'$"),
        (
            ["layer1.1.conv2"],
            "got 'conv1', whose channels go with those of 'layer1.1.conv2'$",
        ),
    ],
)
def test_a_layer_with_a_share_of_its_own_must_not_be_ignored(ignored, got):
    shares = {"layer1.0.conv1": 0.5, "layer2.0.conv1": 0.5, "conv1": 0.25}
    rule = "structured: pruning_ratio must name no layer that is ignored, "
    with pytest.raises(ValueError, match=rule + got):
        schemes.structured(models.build("resnet14"), shares, IMAGE, ignored)


def test_single_weights_and_bits_of_a_layer_that_is_ignored_are_refused():
    with pytest.raises(ValueError, match="sparse: pruning_ratio must name no .* ignored, got '0'"):
        schemes.sparse(chain_of(4, 2), {"0": 0.5, "1": 0.5}, ["0"])
    with pytest.raises(ValueError, match="quantized: bits must name no .* ignored, got '0'"):
        schemes.quantized(chain_of(4, 2), {"0": 2, "1": 2}, ["0"])


def test_what_goes_with_an_ignored_layer_is_held_back_for_that():
    model = models.build("resnet14")
    scheme = schemes.structured(model, 0.5, IMAGE, ["layer1.0.conv2"])
    why = "they go with those of 'layer1.0.conv2', which is ignored"
    assert scheme.held_back["conv1"] == why
    assert scheme.held_back["layer1.0.conv2"] == "it is ignored"
    ignored = schemes.structured(model, 0.5, IMAGE, ["layer1.0.conv1"]).held_back
    assert set(ignored) == {"layer1.0.conv1", "linear"}


def test_an_ignored_layer_keeps_what_it_makes_and_may_read_fewer():
    model = models.build("resnet14").eval()
    given = {"pruning_ratio": 0.5, "ignored": [nn.Linear], "method": "l1"}
    student = fsc.compress(model, torch.randn(4, 3, 16, 16), **given).student
    assert student.linear.out_features == 10 and student.linear.in_features < 64


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({}, "scheme 'mine' prunes no layer"),
        ({"conv9": 1}, "layer 'conv9' must be one that makes channels, got none"),
        ({"bn1": 1}, "layer 'bn1' must be one that makes channels, got BatchNorm2d"),
        ({"conv1": 0}, "layer 'conv1' must keep 1 to 16 output channels, got 0"),
        ({"conv1": 17}, "layer 'conv1' must keep 1 to 16 output channels, got 17"),
        ({"conv1": 4.0}, "layer 'conv1' must keep 1 to 16 output channels, got 4.0"),
        ({"linear": 5}, "layer 'linear' must keep its 10 channels: they reach the output"),
        ({"layer2.0.conv2": 10}, "must keep at least 16 of its 32 channels, .* got 10"),
        ({"conv1": 8, "layer1.0.conv2": 9}, "layer 'layer1.0.conv2' must keep as many channels as"),
    ],
)
def test_check_refuses(kept, message):
    with pytest.raises(ValueError, match=message):
        schemes.check(schemes.Scheme("mine", kept), models.build("resnet14"), IMAGE)


def test_layers_that_share_channels_are_one():
    model = models.build("resnet14")
    groups = channel_groups(model, IMAGE)
    for kept in ({"conv1": 8}, {"layer1.0.conv2": 8}, {"conv1": 8, "layer3.1.conv2": 56}):
        assert schemes.channels_left(schemes.Scheme("mine", kept), model, groups) == {"conv1": 56}


def test_check_refuses_what_makes_no_channels_of_its_own():
    model = branching(Gated)
    for layer, message in (
        ("depthwise", "it is depthwise: its channels go with those of 'body.0'"),
        ("excite", "layer 'excite' must lose a multiple of 2 channels, which go together, got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            schemes.check(schemes.Scheme("mine", {layer: 13}), model, IMAGE)
    shared = schemes.Scheme("mine", {"shared": 2})
    with pytest.raises(ValueError, match="layer 'shared' must be called by the network, and once"):
        schemes.check(shared, branching(Twice), IMAGE)


def test_compression_finds_unprunable_layers_before_its_walk(monkeypatch):
    def ran(*arguments):
        pytest.fail("the method ran")

    monkeypatch.setattr(fsc.CrossDistillation, "compress", ran)
    with pytest.raises(ValueError, match="layer 'mixed' must keep its 6 channels: softmax mixes"):
        fsc.compress(
            branching(Twice),
            torch.randn(2, 3, 8, 8),
            method=fsc.CrossDistillation(),
            scheme=schemes.Scheme("mine", {"mixed": 4}),
        )


def test_what_is_ignored_is_named_alike_in_every_sentence():
    with pytest.raises(ValueError, match="got none.*; ignored holds Conv2d$"):
        schemes.structured(chain_of(4, 2), 0.5, IMAGE, [nn.Conv2d])
    with pytest.raises(ValueError, match="ignored must fit modules of the model, got Conv3d$"):
        schemes.structured(chain_of(4, 2), 0.5, IMAGE, [nn.Conv3d])
    rule = (
        "ignored must fit modules of the model, got 'Conv2d'; a type is given as the class itself"
    )
    with pytest.raises(ValueError, match=rule):
        schemes.structured(chain_of(4, 2), 0.5, IMAGE, ["Conv2d"])


@pytest.mark.parametrize(
    ("layer", "why"), [("1", "they reach the output"), ("9", "got none; such")]
)
def test_a_share_of_a_layer_that_cannot_lose_some_is_refused_by_its_argument(layer, why):
    with pytest.raises(ValueError, match=f"^compress: pruning_ratio: layer '{layer}' must .*{why}"):
        fsc.compress(chain_of(4, 2), torch.randn(2, 3, 16, 16), pruning_ratio={layer: 0.5})


def test_a_share_out_of_reach_names_what_was_given_with_it():
    images = torch.randn(2, 3, 16, 16)
    with pytest.raises(ValueError, match="at least 1.000 for this model with round_to=64: all"):
        fsc.compress(chain_of(8, 8, 2), images, flops=0.6, round_to=64)
    with pytest.raises(ValueError, match="for this model with ignored=Linear, style=normal: all"):
        fsc.compress(
            models.build("resnet14"), images, flops=0.01, ignored=[nn.Linear], style="normal"
        )
