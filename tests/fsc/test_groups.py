"""Which channels go together, which stay, and why."""

import copy
from dataclasses import replace

import branching
import pytest
import torch
from branching import NETWORKS
from foreign_layers import ResponseNorm
from torch import Tensor, nn

from fsc import models
from fsc.channels.cutting import cut_channels, mask_channels
from fsc.channels.groups import ChannelGroup, group_written_by, rows_left
from fsc.channels.proof import channel_groups, check_cut
from fsc.networks.plain import plain

IMAGE = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def groups_of(kind: type[nn.Module]) -> dict[str, ChannelGroup]:
    return {group.name: group for group in channel_groups(branching.branching(kind), IMAGE)}


def half(group: ChannelGroup) -> Tensor:
    """What stays when every second free channel goes."""
    stays = torch.ones(group.size, dtype=torch.bool)
    stays[group.free.nonzero().flatten()[1::2]] = False
    return stays.nonzero().flatten()


@pytest.mark.parametrize("kind", NETWORKS)
def test_cut_equals_masked_and_is_smaller(kind: type[nn.Module]) -> None:
    model = plain(branching.branching(kind), IMAGE).double()
    groups = channel_groups(model, IMAGE)
    kept = {group.name: half(group) for group in groups if group.frozen is None}
    masked, cut = copy.deepcopy(model), copy.deepcopy(model)
    mask_channels(masked, groups, kept)
    cut_channels(cut, groups, kept)
    images = torch.randn(3, 3, 12, 12, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(cut(images), masked(images), rtol=0, atol=1e-12)
        assert not torch.allclose(cut(images), model(images), atol=1e-6)
    for name, rows in rows_left(groups, kept).items():
        module = cut.get_submodule(name)
        size = module.out_features if isinstance(module, nn.Linear) else module.out_channels
        assert size == len(rows)


def test_additions_join_what_is_added() -> None:
    groups = groups_of(branching.Residual)
    stream = groups["stem.0"]
    assert stream.named("writer") == ["stem.0", "first.1"]
    assert stream.named("reader") == ["first.0.0", "shortcut", "second.0.0"]
    assert stream.named("carrier") == ["stem.1"] and stream.size == 8
    assert groups["shortcut"].named("writer") == ["shortcut", "second.1"]
    assert groups["head.2"].frozen == "they reach the output of the network"


def test_channels_that_meet_zeros_stay() -> None:
    groups = groups_of(branching.Padded)
    assert groups["stem.0"].named("writer") == ["stem.0", "wide"]
    assert groups["stem.0"].size == 12 and int(groups["stem.0"].free.sum()) == 8


def test_concatenations_and_parts_keep_places_apart() -> None:
    groups = groups_of(branching.Joined)
    assert groups["layers.0.2"].named("reader") == ["layers.1.2", "up"]
    places = {s.name: s.channels.tolist() for s in groups["layers.0.2"].slots}
    assert places["layers.1.2"] == [-1] * 8 + [0, 1, 2, 3]
    assert places["up"] == [-1] * 8 + [0, 1, 2, 3] + [-1] * 4
    # The two halves of `up` are multiplied: a channel of it is one of each.
    up = groups["up"]
    assert up.size == 6 and up.slots[0].channels.tolist() == [*range(6), *range(6)]


def test_gates_masks_scales_and_depthwise_layers() -> None:
    groups = groups_of(branching.Gated)
    body = groups["body.0"]
    assert body.named("writer") == ["body.0", "excite"] and body.size == 8
    assert set(body.named("carrier")) == {"body.1", "depthwise", "scale"}
    assert next(s for s in body.slots if s.name == "scale").axis == 0
    assert groups["mask"].frozen is not None
    assert groups["squeeze"].is_gate and not body.is_gate


def test_grouped_layers_lose_the_same_of_every_block_through_a_shuffle() -> None:
    groups = groups_of(branching.Shuffled)
    assert (groups["stem.0"].size, groups["first"].size, groups["second"].size) == (4, 3, 4)
    assert all(group.frozen is None for name, group in groups.items() if name != "head.2")


def test_pixels_made_of_channels_go_together_and_sizes_in_the_code_freeze() -> None:
    groups = groups_of(branching.Reshaped)
    assert groups["wide"].slots[0].channels.tolist() == [0] * 4 + [1] * 4 + [0] * 4 + [1] * 4
    assert groups["up"].size == 3
    assert "does not run without some of them" in str(groups["hidden"].frozen)
    assert groups["last"].frozen is None


def test_norms_slopes_and_flattened_maps() -> None:
    groups = groups_of(branching.Normed)
    assert groups["body.0"].size == 4  # a whole group of the GroupNorm each
    assert groups["body.3"].named("carrier") == ["body.4"]
    features = next(s for s in groups["body.6"].slots if s.name == "hidden")
    assert features.channels.tolist() == [c for c in range(6) for _ in range(4)]
    assert groups["hidden"].named("carrier") == ["norm"]


def test_normalizations_over_all_channels_take_those_that_stay() -> None:
    groups = groups_of(branching.ChannelsLast)
    stream = groups["stem"]
    assert stream.named("writer") == ["stem", "narrow"] and int(stream.free.sum()) == 8
    assert stream.named("carrier") == ["depthwise", "norm"]
    found = {name: group.is_normalised for name, group in groups.items()}
    assert found == {"stem": True, "widen": True, "last": True, "head.2": False}


def test_sizes_written_into_a_forward_are_cut() -> None:
    model = plain(branching.branching(branching.Sized), IMAGE)
    groups = {group.name: group for group in channel_groups(model, IMAGE)}
    assert [g.name for g in groups.values() if g.frozen is not None] == ["head.2"]
    stem = groups["block.stem.0"]
    assert stem.size == 12 and int(stem.free.sum()) == 12
    assert [len(s.channels) for s in stem.slots if s.role == "size"] == [12 - 8, 8]


def test_a_mean_over_channels_reads_them() -> None:
    layers = [nn.Conv2d(3, 8, 3), ResponseNorm(8), nn.Conv2d(8, 4, 1)]
    model = plain(nn.Sequential(*layers).eval(), IMAGE)
    group = channel_groups(model, IMAGE)[0]
    assert group.frozen is None and int(group.free.sum()) == 8
    assert group.named("reader") == ["1.convolution", "2"]


def test_what_is_called_twice_or_mixed_stays_and_says_so() -> None:
    groups = groups_of(branching.Twice)
    assert groups["stem.0"].frozen.startswith("layer 'shared' is called more than once; ")
    assert groups["mixed"].frozen.startswith("softmax mixes them: ")
    assert groups["last"].frozen is None and "shared" not in groups


# A depth more or less of a network runs the same code.
@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet20", 16), ("resnet56", 16), ("vgg16", 32), ("vgg19", 32), ("resnet164", 16),
     ("densenet40", 16), ("resnet34", 32), ("mobilenetv2", 32)],
)  # fmt: skip
def test_published_networks(name: str, size: int) -> None:
    model = models.build(name).eval()
    groups = channel_groups(model, torch.zeros(1, 3, size, size))
    written = {layer for group in groups for layer in group.named("writer")}
    layers = {n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    carried = {layer for group in groups for layer in group.named("carrier")}  # depthwise ones
    assert written == layers - carried
    assert [group.name for group in groups if group.frozen] == [groups[-1].name]


def test_half_precision_and_training_mode_are_left_as_they_are() -> None:
    model = branching.branching(branching.Residual).train()
    before = copy.deepcopy(model.state_dict())
    channel_groups(model, IMAGE)
    assert model.training and model.stem.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_group_is_found_by_any_layer_that_writes_it() -> None:
    groups = channel_groups(branching.branching(branching.Residual), IMAGE)
    group = group_written_by("first.1", groups)
    assert group is not None and group.name == "stem.0"
    assert group_written_by("nowhere", groups) is None


class Halves(nn.Module):
    """Two halves of one convolution, each with an activation of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.body(x).chunk(2, 1)
        return self.last(torch.cat([first.relu(), second.sigmoid()], 1)).mean((2, 3))


class SharedNorm(nn.Module):
    """A normalization without parameters behind two layers, and a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1)
        self.norm, self.last = nn.BatchNorm2d(8, affine=False), nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.norm(self.first(x)), nn.functional.relu(input=self.norm(self.second(x)))]
        return self.last(torch.cat(parts, 1)).mean((2, 3))


class Casting(nn.Module):
    """A network that goes on in float32 whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).float().mean((2, 3)))


def test_equal_parts_of_one_value_lose_the_same_channels() -> None:
    body = channel_groups(Halves(), IMAGE)[0]
    assert body.size == 4 and body.slots[0].channels.tolist() == [0, 1, 2, 3] * 2


def test_a_normalization_behind_two_layers_keeps_both_whole() -> None:
    groups = {group.name: group for group in channel_groups(SharedNorm().eval(), IMAGE)}
    for name in ("first", "second"):
        assert groups[name].frozen.startswith("layer 'norm' is called more than once; ")


def test_a_network_that_does_not_run_in_float64_is_tried_as_it_is() -> None:
    body = channel_groups(Casting(), IMAGE)[0]
    assert (body.name, body.size, body.frozen) == ("body", 8, None)


def test_a_cut_that_computes_something_else_is_refused() -> None:
    model = Halves()
    body, last = channel_groups(model, IMAGE)
    slots = tuple(replace(s, channels=torch.arange(8)) for s in body.slots)
    untied = replace(body, size=8, slots=slots, free=torch.ones(8, dtype=torch.bool))
    with pytest.raises(ValueError, match="channels of 'body' cannot be cut: the output changes"):
        check_cut(model, [untied, last], {"body": torch.tensor([0, 1, 2, 3, 4, 5])}, IMAGE)


def test_an_example_that_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"example_inputs of \[1, 1, 12, 12\] must run together"):
        channel_groups(Halves(), IMAGE[:, :1])
