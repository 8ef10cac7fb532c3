"""What `fsc.inspect` finds is what a compression would cut."""

import re

import pytest
import torch
from torch import Tensor, nn

import fsc
from fsc import models

IMAGES = torch.randn(2, 3, 16, 16)


class Gated(nn.Module):
    """A gate, a layer with odd padding and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.squeeze, self.expand = (
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 2, 1),
            nn.Conv2d(2, 8, 1),
        )
        self.body, self.head = nn.Conv2d(8, 6, 3), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = x * self.expand(self.squeeze(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.head(self.body(x).relu().mean((2, 3)))


def test_what_goes_together_and_what_stays():
    found = fsc.inspect(Gated(), IMAGES)
    together = {tuple(group.named("writer")) for group in found.groups}
    assert ("stem", "expand") in together and ("body",) in together
    assert set(found.left) == {"squeeze", "head"}
    assert "gate" in found.left["squeeze"] and "output" in found.left["head"]


def test_what_can_go_is_what_a_compression_cuts():
    model = Gated().eval()
    found = fsc.inspect(model, IMAGES)
    report = fsc.compress(model, IMAGES, method="l1", pruning_ratio=0.5).report
    assert set(report.kept) == {
        layer for group in found.groups for layer in group.named("writer")
    } - set(found.left)


def test_it_prints_a_table():
    told = str(fsc.inspect(Gated(), IMAGES))
    assert "can go" in told and "stem" in told
    assert "squeeze: they are the squeeze of a gate" in told


def test_it_is_plain_data():
    found = fsc.inspect(models.build("resnet20"), torch.randn(1, 3, 32, 32)).to_dict()
    assert found["parameters"] == 269_722 and found["groups"][0]["name"] == "conv1"


def test_bad_input_is_named():
    with pytest.raises(TypeError, match="model must be a torch.nn.Module, got str"):
        fsc.inspect("resnet20", IMAGES)
    with pytest.raises(ValueError, match="inspect: images must be floating point"):
        fsc.inspect(Gated(), IMAGES[0, 0])


def test_no_more_images_are_read_than_are_needed():
    read: list[int] = []

    def loader():
        for number in range(100):
            read.append(number)
            yield torch.randn(2, 3, 16, 16), torch.zeros(2)

    found = fsc.inspect(Gated(), loader())
    assert read == [0] and found.inputs == [(3, 16, 16)]


def test_images_of_other_channels_are_refused_in_the_words_of_compress():
    with pytest.raises(ValueError, match="inspect: images must have the 3 input channels .* got 1"):
        fsc.inspect(Gated(), torch.randn(1, 1, 16, 16))


class Every(nn.Module):
    """Convolutions of every fate: cut, depthwise, frozen, called twice, of the images, unused."""

    def __init__(self) -> None:
        super().__init__()
        self.of_images = nn.Conv2d(3, 3, 3, padding=1, groups=3)
        self.stem, self.twice = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.mixed = nn.Conv2d(8, 8, 1)
        self.behind = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.unused, self.head = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.stem(self.of_images(x)))
        x = self.behind(self.mixed(x)).softmax(1)
        return self.head(self.twice(self.twice(x)))


def test_every_convolution_of_the_network_stands_in_the_table():
    model = Every()
    found = fsc.inspect(model, IMAGES)
    words = re.findall(r"[\w.]+", str(found))
    assert {name for name, m in model.named_modules() if isinstance(m, nn.Conv2d)} <= set(words)
    (row,) = [line.split() for line in str(found).splitlines() if " depthwise " in line][1:]
    assert row == ["8", "stem", "depthwise", "mixed"]
    assert set(found.left) == {"mixed", "behind", "head", "of_images", "twice", "unused"}
    assert "called more than once" in found.left["twice"]
    assert found.left["of_images"].startswith("it filters channels that no layer makes")
    groups = {group["name"]: group for group in found.to_dict()["groups"]}
    assert groups["stem"]["depthwise"] == ["depthwise"] and set(found.to_dict()["apart"]) == {
        "of_images",
        "twice",
        "unused",
    }


def test_channels_of_grouped_convolutions_are_counted_as_their_layers_have_them():
    layers = [nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 1, groups=4), nn.Conv2d(16, 4, 1)]
    found = fsc.inspect(nn.Sequential(*layers), IMAGES)
    told = str(found).splitlines()
    assert told[1] == "24 of 28 channels can go, in 2 sets, each in all its layers:"
    assert [line.split() for line in told[4:6]] == [["8", "0", "1"], ["16", "1", "2"]]
    groups = found.to_dict()["groups"]
    assert [(group["channels"], group["can_go"]) for group in groups] == [(8, 8), (16, 16), (4, 0)]


class HeldInPart(nn.Module):
    """The first channel is a mask too, and stays with the one that goes where it goes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.grouped(x) + x[:, :1]


def test_channels_that_stay_in_part_are_counted_in_all_rows_too():
    found = fsc.inspect(HeldInPart(), IMAGES)
    told = " ".join(str(found).split())
    assert "4 of 10 channels can go, in 1 set, in all its layers:" in told and "4 of 6 stem" in told
    assert "stem: 2 of the 6 channels of its set, because" in told


def test_what_stays_in_part_is_told_with_the_reason():
    found = fsc.inspect(models.build("resnet20"), torch.randn(1, 3, 32, 32))
    told = " ".join(str(found).split())
    assert "16 of 64 conv1," in told
    assert "Keep some of their channels, 1:" in told
    assert "conv1: 48 of the 64 channels of its set, because they meet channels" in told
    assert found.to_dict()["groups"][0]["stays_because"].startswith("they meet channels")


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(("name", "side"), [("resnet20", 32), ("mobilenetv2", 64)])
def test_the_table_fits_a_window_and_uses_it(name: str, side: int, width: int):
    model = models.build(name)
    lines = fsc.inspect(model, torch.randn(1, 3, side, side)).table(width).splitlines()
    assert 0.85 * width < max(map(len, lines)) <= width
    layers = {n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert layers <= set(re.findall(r"[\w.]+", " ".join(lines)))


def test_where_nothing_can_go_there_is_no_table():
    told = str(fsc.inspect(nn.Sequential(nn.Conv2d(3, 4, 1)), IMAGES)).splitlines()
    assert told[1:] == [
        "0 of 4 channels can go",
        "",
        "Keep all of their channels, 1:",
        "  0: they reach the output of the network",
    ]
