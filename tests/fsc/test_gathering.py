"""Images in whatever form users have them give the tensor that they are."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

import fsc
from fsc import models
from fsc.networks.gathering import gathered

IMAGES = torch.randn(5, 3, 8, 8)
LABELS = torch.arange(5)
MODEL = torch.nn.Conv2d(3, 4, 3)


class Pairs(Dataset):
    """What torchvision's data sets are like: no `__iter__`, an image and its class."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return IMAGES[index], int(LABELS[index])


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        list(IMAGES),
        [IMAGES[:2], IMAGES[2:]],
        (image for image in IMAGES),
        TensorDataset(IMAGES, LABELS),
        Pairs(),
        DataLoader(TensorDataset(IMAGES, LABELS), batch_size=2),
        DataLoader(Pairs(), batch_size=3),
        [[IMAGES, LABELS]],
        tuple(IMAGES),
    ],
    ids=str.split("tensor images batches generator tensors dataset loader pairs lists tuple"),
)
def test_every_form_is_the_same_tensor(images):
    assert torch.equal(gathered("compress", images, MODEL)[0], IMAGES)


@pytest.mark.parametrize(
    "given",
    [
        [{"img": image, "label": int(label)} for image, label in zip(IMAGES, LABELS, strict=True)],
        [{"img": IMAGES[:2], "label": LABELS[:2]}, {"img": IMAGES[2:], "label": LABELS[2:]}],
    ],
    ids=["images", "batches"],
)
def test_images_that_have_a_name_of_their_own(given):
    """As datasets of Hugging Face give them, where the network takes one tensor."""
    images, labels = gathered("compress", given, MODEL)
    assert torch.equal(images, IMAGES)
    assert torch.equal(labels, LABELS)


def test_labels_in_floating_point_are_no_images():
    images, labels = gathered("compress", [{"img": IMAGES, "label": LABELS / 2}], MODEL)
    assert torch.equal(images, IMAGES) and labels is None


class ByName(torch.nn.Module):
    """Takes a batch as data sets give it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.conv(batch["img"]) + batch["meta"].mean()


@pytest.mark.parametrize("names", [["img", "meta"], ["img", "label"]])
def test_a_network_of_dicts_keeps_them(names):
    """Also where they are not what it needs, which it says itself."""
    batch = dict(zip(names, (IMAGES, LABELS), strict=True))
    assert gathered("compress", [batch], ByName())[0][0].keys() == batch.keys()


@pytest.mark.parametrize(
    ("items", "error", "said"),
    [
        ([{"img": IMAGES}, {"other": IMAGES}], ValueError, "come as 'img' in every dict, got one"),
        ([{"img": IMAGES[0].numpy(), "label": 1}], TypeError, "got ndarray; torch.from_numpy"),
        ([{"img": IMAGES}, {"img": IMAGES.numpy()}], TypeError, "got ndarray; torch.from_numpy"),
        ([{"label": 1}], TypeError, "must come as tensors, alone or before their labels, got dict"),
    ],
    ids=["lost", "array", "later", "label"],
)
def test_dicts_without_images(items, error, said):
    with pytest.raises(error, match=said):
        gathered("compress", items, MODEL)


def test_signals_and_rows_come_one_by_one_or_in_batches():
    for model, images in (
        (torch.nn.Conv1d(3, 4, 3), torch.randn(5, 3, 20)),
        (torch.nn.Conv3d(3, 4, 3), torch.randn(5, 3, 4, 4, 4)),
        (torch.nn.Linear(7, 4), torch.randn(5, 7)),
    ):
        for given in (list(images), images.split(2), DataLoader(TensorDataset(images, LABELS), 2)):
            assert torch.equal(gathered("compress", given, model)[0], images)


class Unused(torch.nn.Sequential):
    """Holds a convolution that it does not call in front of the one that reads images."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Conv1d(3, 4, 3), torch.nn.Conv2d(3, 4, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self[1](x)


class Video(torch.nn.Sequential):
    """Sees the pictures of a video, [N, T, C, H, W], one by one."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        number, time, *_ = x.shape
        seen = self[0](x.flatten(0, 1)).mean((2, 3))  # [NT, C]
        return self[1](seen.unflatten(0, (number, time)).mean(1))


@pytest.mark.parametrize(
    ("model", "images"),
    [
        (torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4)), IMAGES),
        (Unused(), IMAGES),
        (Video(), torch.randn(5, 2, 3, 8, 8)),
        (Video().bfloat16(), torch.randn(5, 2, 3, 8, 8)),
        (torch.nn.Conv2d(1, 4, 3), IMAGES[:, :1]),  # runs on a single image, too
        (torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).train(), IMAGES),
    ],
    ids=str.split("flattened unused video half one_channel training"),
)
def test_the_network_says_what_an_image_is(model, images):
    modes = [module.training for module in model.modules()]
    for given in (list(images), images.split(2), DataLoader(TensorDataset(images, LABELS), 2)):
        assert torch.equal(gathered("compress", given, model)[0], images)
    assert [module.training for module in model.modules()] == modes


def test_what_may_be_an_image_or_a_batch_is_one_tensor_or_a_loader():
    tokens = torch.randn(5, 4, 3, 7)
    model = torch.nn.Linear(7, 4)
    loader = DataLoader(TensorDataset(tokens), 2)
    assert torch.equal(gathered("compress", loader, model)[0], tokens)
    with pytest.raises(ValueError, match=r"come as one tensor where .* got \[4, 3, 7\]; stack"):
        gathered("compress", list(tokens), model)


@pytest.mark.parametrize(
    ("images", "error", "sentence"),
    [
        ([], ValueError, "compress: images must hold at least one, got none"),
        ([IMAGES, IMAGES[:, :, :4]], ValueError, r"one size, .* \[3, 8, 8\] and .* \[3, 4, 8\]"),
        ([IMAGES, IMAGES.double()], ValueError, "one size, dtype and device, got torch.float32"),
        ([[IMAGES[0], IMAGES[1]]], ValueError, "one batch or image at a time, got a list of 2"),
        ([IMAGES[0, 0]], ValueError, r"\[C, H, W\] or \[N, C, H, W\], or as .*, got \[8, 8\]"),
        ([IMAGES, IMAGES[0, 0]], ValueError, r"3 axes, or 4 in batches, .*, got \[8, 8\]"),
        ((IMAGES, torch.arange(len(IMAGES))), ValueError, r"\]; labels of all .* as labels=$"),
        ([np.zeros((3, 8, 8))], TypeError, "must come as tensors, .* got ndarray"),
        ({"images": [0.0]}, TypeError, "a torch.Tensor for every input, got list for 'images'"),
        ("images.pt", TypeError, "an iterable of images, got str"),
        (7, TypeError, "an iterable of images, got int"),
    ],
)
def test_what_is_no_image_is_refused(images, error, sentence):
    with pytest.raises(error, match=sentence):
        gathered("compress", images, MODEL)


def test_pictures_ask_for_a_transform():
    image = pytest.importorskip("PIL.Image").new("RGB", (8, 8))
    with pytest.raises(TypeError, match="give the Dataset a transform to tensors"):
        gathered("compress", [(image, 0)], MODEL)


def test_a_loader_goes_into_a_compression():
    images = torch.randn(4, 3, 32, 32)
    loader = DataLoader(TensorDataset(images, torch.zeros(4)), batch_size=3)
    report = fsc.compress(models.build("resnet20").eval(), loader, method="l1", flops=0.5).report
    assert report.num_images == 4
