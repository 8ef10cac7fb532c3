"""Shares of the channels, weights or bits of layers: rounding, what is ignored, refusals."""

import pytest
import torch
from branching import Gated, branching
from torch import nn

import fsc
from fsc import models, schemes

IMAGE = torch.zeros(1, 3, 32, 32)


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
    with pytest.raises(ValueError, match="2 of 2 layers .* because Softmax '1' mixes"):
        schemes.structured(model, 0.5, IMAGE)
    with pytest.raises(
        ValueError,
        match="1 of 2 layers keep .* reach the output of the network; ignored holds 0",
    ):
        schemes.structured(chain_of(4, 2), 0.5, IMAGE, ["0"])
    with pytest.raises(
        ValueError,
        match="structured: pruning_ratio: layer '9' must be one .*, got none; such are '0', '1'$",
    ):
        schemes.structured(chain_of(4, 2), {"9": 0.5}, IMAGE)


def test_nothing_to_prune_counts_what_its_reasons_count():
    twice = nn.Conv2d(3, 3, 1)
    with pytest.raises(ValueError, match="none: 1 of 1 layers .*; once: .* called more than once"):
        schemes.structured(nn.Sequential(twice, twice), 0.5, IMAGE)
    layers = [twice, nn.ReLU(), twice, nn.Conv2d(3, 5, 1), nn.Softmax(1), nn.Conv2d(5, 2, 1)]
    with pytest.raises(ValueError) as error:
        schemes.structured(nn.Sequential(*layers), 0.5, IMAGE)
    assert "none: 3 of 3 layers" in str(error.value) and str(error.value).count("once: ") == 3


def test_nothing_to_prune_has_every_reason_the_commonest_first():
    layers = [nn.Conv2d(3, 4, 1), nn.Softmax(1), nn.Conv2d(4, 5, 1), nn.Softmax(1)]
    single = [nn.Conv2d(5, 1, 1), nn.Conv2d(1, 2, 1)]
    with pytest.raises(ValueError) as error:
        schemes.structured(nn.Sequential(*layers, *single), 0.5, IMAGE)
    sentence = str(error.value)
    told = [
        "4 of 4 layers keep all of theirs; 2 times: channels of '0' stay, because",
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
