"""What sentences about arguments say that helps: each remedy is in the sentence, and works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fsc
from fsc.walking.visitor import Visitor

IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(6) % 4


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )


def compress(images: Any = IMAGES, **asked: Any) -> fsc.Result:
    return fsc.compress(network(), images, **({"method": "l1"} | asked))


@pytest.mark.parametrize(
    ("labels", "remedy"),
    [
        (LABELS.tolist(), "got list; torch.as_tensor(labels) makes it one"),
        (tuple(LABELS.tolist()), "got tuple; torch.as_tensor(labels) makes it one"),
        (LABELS.numpy(), "got ndarray; torch.as_tensor(labels) makes it one"),
        (3, "got int; torch.as_tensor([labels]) makes it one"),
        (LABELS.float(), "got torch.float32; labels.long() makes them such"),
        (F.one_hot(LABELS), "got [6, 4]; labels.argmax(1) makes those of one-hot rows such"),
        (F.one_hot(LABELS).float(), "labels.argmax(1) makes those of one-hot rows such"),
        (LABELS[:, None], "got [6, 1]; labels.squeeze(1) makes them such"),
        (LABELS[:, None].float(), "got [6, 1]; labels.squeeze(1).long() makes them such"),
        (LABELS[:3], "one for each image, got [3]"),
        ("abc", "must be a torch.Tensor, got str"),
    ],
)
def test_labels_of_other_kinds(labels: Any, remedy: str) -> None:
    with pytest.raises((TypeError, ValueError)) as raised:
        compress(method=fsc.BackProp(steps=2), labels=labels)
    said = str(raised.value)
    assert said.startswith("compress: labels must be ") and said.endswith(remedy)
    expression = said.partition("; ")[2].partition(" makes")[0]
    if expression and not isinstance(labels, int):
        made = eval(expression, {"torch": torch, "labels": labels})  # as the user would type it
        assert torch.equal(made, LABELS) and made.dtype == torch.int64


@pytest.mark.parametrize(
    ("images", "remedy"),
    [
        (IMAGES[0], "got torch.float32 [3, 8, 8]; images[None] makes one image such"),
        (IMAGES.double(), "torch.float32, got torch.float64; images.float() has it"),
        (IMAGES.half(), "torch.float32, got torch.float16; images.float() has it"),
        (
            IMAGES.clamp(0, 1).mul(255).byte(),
            "; prepare them as those that the network was trained on, such as "
            "(images / 255 - mean) / std",
        ),
        (IMAGES.long(), "; prepare them as those that the network was trained on"),
        (IMAGES[0, 0], "got torch.float32 [8, 8]"),
    ],
)
def test_images_of_other_kinds(images: Any, remedy: str) -> None:
    calls: dict[str, Callable[[], object]] = {
        "compress": lambda: compress(images),
        "inspect": lambda: fsc.inspect(network(), images),
        "walk": lambda: fsc.walk(network(), network(), images, Visitor()),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"^{name}: images must ") as raised:
            call()
        assert str(raised.value).endswith(remedy)


def test_a_network_in_double_takes_images_in_double() -> None:
    with pytest.raises(ValueError, match=r"got torch.float32; images\.double\(\) has it$"):
        fsc.inspect(network().double(), IMAGES)


@pytest.mark.parametrize("path", ["/pets", Path("/pets")])
def test_a_path_is_to_be_opened(path: str | Path) -> None:
    with pytest.raises(TypeError, match=r"such as fsc\.images\.folder\.ImageFolder\(path\), or"):
        compress(path)


def test_a_result_is_no_network(tmp_path: Path) -> None:
    result: Any = compress()
    calls: list[Callable[[], object]] = [
        lambda: fsc.save(result, tmp_path / "student.safetensors"),
        lambda: fsc.export(result, tmp_path / "student.pt2", IMAGES),
        lambda: fsc.inspect(result, IMAGES),
        lambda: fsc.compress(result, IMAGES),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"got Result; its network is result\.student$"):
            call()
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, got dict$"):
        fsc.save({}, tmp_path / "student.safetensors")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "end"),
    [
        (fsc.MiR, "; MiR() is one"),
        (int, "got <class 'int'>"),
        ("second", "got 'second'; did you mean 'seconds'?"),
        ("CD-Soft", "got 'CD-Soft'; did you mean 'cd-soft'?"),
        ("zzz", "got 'zzz'"),
    ],
)
def test_methods_that_are_none(method: Any, end: str) -> None:
    with pytest.raises((TypeError, ValueError), match="^method must be one of") as raised:
        compress(method=method)
    assert str(raised.value).endswith(end)
