"""Images in folders: what is listed, what is decoded, and every folder that makes no sense."""

import importlib.util
import os
import shutil

import numpy as np
import pytest
import torch
from image_folders import write_classes, write_image
from PIL import Image
from torch.utils.data import DataLoader

from fsc.images.folder import NO_LABEL, ImageFolder, splits
from fsc.images.preparation import IMAGENET_MEAN, IMAGENET_STD, Preparation

PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_a_folder_for_each_class_is_a_sequence_for_a_data_loader(tmp_path):
    write_classes(tmp_path, ("dog", "cat"), count=3)
    images = ImageFolder(tmp_path, size=8)
    assert images.classes == ("cat", "dog") and images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    image, label = images[4]
    assert image.shape == (3, 8, 8) and image.dtype == torch.float32 and label == 1
    for workers in (0, 1):
        batches = list(DataLoader(images, batch_size=4, num_workers=workers))
        assert [tuple(x.shape) for x, _ in batches] == [(4, 3, 8, 8), (2, 3, 8, 8)]
        assert torch.cat([y for _, y in batches]).tolist() == images.labels.tolist()
        assert torch.equal(torch.cat([x for x, _ in batches]), images.decoded())
    assert len(list(images)) == 6


def test_parts_are_not_decoded(tmp_path, monkeypatch):
    write_classes(tmp_path, count=4)
    images = ImageFolder(tmp_path, size=8)
    decoded = []
    real = Preparation.read
    monkeypatch.setattr(
        Preparation, "read", lambda self, path: decoded.append(path.name) or real(self, path)
    )
    part = images[2:6]
    assert len(part) == 4 and part.labels.tolist() == [0, 0, 1, 1] and not decoded
    assert torch.equal(part.decoded(), torch.stack([images[i][0] for i in range(2, 6)]))
    assert images.at([7, 0]).labels.tolist() == [1, 0]
    decoded.clear()
    images[:1].decoded()
    assert decoded == ["0.png"]


def test_links_lead_to_each_image_once(tmp_path):
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    write_classes(data, ("cat", "dog"), count=2)
    for index in range(3):
        write_image(elsewhere / f"{index}.png", seed=index)
    (data / "cat" / "up").symlink_to("..")
    for name in ("more", "again"):
        (data / "dog" / name).symlink_to(elsewhere)
    images = ImageFolder(data, size=8)
    assert images.labels.tolist() == [0] * 2 + [1] * 5


def test_images_without_labels(tmp_path):
    for index in range(3):
        write_image(tmp_path / f"{index}.png", seed=index)
    images = ImageFolder(tmp_path)
    assert images.classes == () and images.labels.tolist() == [NO_LABEL] * 3
    assert images[0][0].shape == (3, 10, 12)
    assert splits(tmp_path, Preparation())[1] is None


def test_every_kind_of_file_and_what_is_passed_over(tmp_path):
    for name in ("a.jpg", "b.JPEG", "c.png", "d.webp", "deeper/e.jpg"):
        write_image(tmp_path / "cat" / name)
    for name in (".hidden.png", "notes.txt", ".cache/f.png"):
        (tmp_path / "cat" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "cat" / name).write_text("no image")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    found = ImageFolder(tmp_path, size=8)
    assert [file.name for file in found.files] == ["a.jpg", "b.JPEG", "c.png", "d.webp", "e.jpg"]
    assert found.decoded().shape == (5, 3, 8, 8)


def test_the_values_are_those_of_the_steps_one_by_one(tmp_path):
    path = write_image(tmp_path / "a.png", width=31, height=20)
    with Image.open(path) as image:
        resized = image.resize((24, 16), Image.Resampling.BICUBIC)  # 16 * 31 / 20 = 24.8
        expected = torch.from_numpy(np.array(resized.crop((6, 2, 18, 14)))).permute(2, 0, 1) / 255
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    found = Preparation((16, 12), interpolation="bicubic").read(path)
    assert torch.equal(found, (expected - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    whole = Preparation(None, *PLAIN).read(path)
    assert whole.shape == (3, 20, 31) and 0 <= whole.min() and whole.max() <= 1


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
@pytest.mark.parametrize("width_and_height", [(31, 20), (20, 31), (16, 40), (17, 17)])
def test_the_values_are_those_of_torchvision(tmp_path, kind, width_and_height):
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    from fsc.models.torchvision_import import import_library

    transforms = import_library("torchvision").transforms
    width, height = width_and_height
    path = write_image(tmp_path / "a.png", width=width, height=height)
    theirs = transforms.Compose(
        [
            transforms.Resize(16, transforms.InterpolationMode(kind)),
            transforms.CenterCrop(13),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    with Image.open(path) as image:
        expected = theirs(image)
    torch.testing.assert_close(Preparation((16, 13), interpolation=kind).read(path), expected)


def test_colours_become_grey_and_grey_becomes_colours(tmp_path):
    path = write_image(tmp_path / "colour.png")
    assert Preparation(8, (0.5,), (0.5,)).read(path).shape == (1, 8, 8)
    for mode in ("L", "LA", "RGBA", "P", "CMYK"):
        file = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
        with Image.open(path) as image:
            image.convert("RGB").convert(mode).save(file)
        assert Preparation(8).read(file).shape == (3, 8, 8)


def test_train_gives_the_indices_of_classes(tmp_path):
    write_classes(tmp_path / "train", ("cat", "dog", "owl"))
    write_classes(tmp_path / "test", ("owl",), count=2)
    train, test = splits(tmp_path, Preparation(8))
    assert test.labels.tolist() == [2, 2] and test.classes == train.classes
    write_classes(tmp_path / "val", ("dog",), count=1)
    assert splits(tmp_path, Preparation(8))[1].labels.tolist() == [1], "val goes before test"
    shutil.rmtree(tmp_path / "val"), shutil.rmtree(tmp_path / "test")
    assert splits(tmp_path, Preparation(8))[1] is None
    whole, same = splits(tmp_path / "train", Preparation(8))
    assert whole is same and len(whole) == 9


def test_the_fingerprint_tells_content_labels_and_preparation_apart(tmp_path):
    write_classes(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    first, same = ImageFolder(tmp_path / "a", 8), ImageFolder(tmp_path / "b", 8)
    assert first.fingerprint() == same.fingerprint()
    found = {first.fingerprint(), ImageFolder(tmp_path / "a", 9).fingerprint()}
    found.add(first[:5].fingerprint())
    found.add(ImageFolder(tmp_path / "a", 8, classes=("dog", "cat")).fingerprint())
    write_image(tmp_path / "b" / "dog" / "0.png", seed=9)
    assert len(found | {same.fingerprint()}) == 5


def _refused(path, size=8, **given):
    with pytest.raises((ValueError, OSError)) as caught:
        ImageFolder(path, size, **given).decoded()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_folders_that_make_no_sense(tmp_path):
    assert _refused(tmp_path / "no") == f"folder {tmp_path / 'no'} does not exist"
    file = write_image(tmp_path / "file.png")
    assert _refused(file) == f"folder {file} must be a folder, got a file"
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    expected = "must hold images (.jpg, .jpeg, .png, .webp), got none"
    assert _refused(tmp_path / "empty") == f"folder {tmp_path / 'empty'} {expected}"
    root = write_classes(tmp_path / "classes")
    (root / "cow").mkdir()
    assert _refused(root) == f"class folder {root / 'cow'} {expected}"
    write_image(root / "cow" / "a.png")
    assert _refused(root, classes=("cat", "dog")) == (
        f"class cow of {root} must be one of the 2 of train, which lacks it"
    )
    write_image(root / "loose.png")
    assert "either images or a folder for each class, got both, loose.png and cat" in _refused(root)


def test_val_without_train(tmp_path):
    write_classes(tmp_path / "val")
    with pytest.raises(ValueError, match=r"must hold train, whose folders .* beside val; for"):
        splits(tmp_path, Preparation(8))


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    root = write_classes(tmp_path)

    def refuse(*arguments):
        raise PermissionError(13, "Permission denied", str(root / "cat"))

    with monkeypatch.context() as patch:
        patch.setattr("os.scandir", refuse)
        assert _refused(root).endswith("cannot be read: Permission denied")


def test_images_of_several_sizes_need_one(tmp_path):
    root = write_classes(tmp_path)
    write_image(root / "dog" / "9.png", width=9)
    assert _refused(root, None) == (
        f"size must be given for the images of {root}, which differ: 0.png has 12 x 10 pixels, "
        "9.png 9 x 10; size=(256, 224) is usual for ImageNet"
    )


def test_damaged_images_are_named(tmp_path):
    whole = write_image(tmp_path / "a.jpg", 64, 64)
    content = whole.read_bytes()
    for name, cut, expected in (
        ("cut.jpg", content[: len(content) // 2], "is damaged: image file is truncated"),
        ("head.jpg", content[:10], "is damaged: Truncated File Read"),
        ("empty.png", b"", "is empty"),
        ("page.jpg", b"<html>404</html>", "is damaged or no JPEG, PNG or WebP"),
        ("other.png", b"GIF89a" + bytes(100), "is damaged or no JPEG, PNG or WebP"),
    ):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_bytes(cut)
        assert _refused(folder).startswith(f"image {folder / name} {expected}")
    deep = tmp_path / "deep"
    deep.mkdir()
    Image.fromarray(np.full((9, 9), 60_000, np.uint16)).save(deep / "deep.png")
    assert "deep.png must have 8 bits a channel, got mode I;16" in _refused(deep)


def test_what_never_ends_or_unpacks_to_gigabytes_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "a.png")
    with pytest.raises(OSError, match="a.png cannot be read: it is no file"):
        ImageFolder(tmp_path / "pipe", 8)[0]
    with pytest.raises(OSError, match="a.png cannot be read: it is no file"):
        ImageFolder(tmp_path / "pipe", 8).fingerprint()
    (tmp_path / "large").mkdir()
    write_image(tmp_path / "large" / "a.png", width=30, height=20)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 599)
    with pytest.warns(Image.DecompressionBombWarning):
        assert "a.png must have at most 599 pixels, PIL" in _refused(tmp_path / "large")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"size": 0}, "size must be a positive number of pixels"),
        ({"size": (224, 256)}, "a shorter side and a crop that is no larger, got (224, 256)"),
        ({"mean": (0.5, 0.5)}, "mean and std must have one number for each channel, 3 or 1"),
        ({"std": (0.5, 0.0, 0.5)}, "std must be positive"),
        ({"interpolation": "lanczos"}, "interpolation must be one of bilinear, bicubic"),
    ],
)
def test_preparations_that_make_no_sense(given, expected):
    with pytest.raises(ValueError) as caught:
        Preparation(**given)
    assert expected in str(caught.value)
