"""Crops of whole files: what they show, the same bits by any threads, and trainings on them."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from image_folders import SEVERAL_SIZES, write_image, write_patterns
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from fsc.images import original_crops
from fsc.images.crops import random_boxes, random_parts
from fsc.images.folder import ImageFolder, folder_of
from fsc.images.original_crops import OriginalCrops


@pytest.fixture
def folder(tmp_path: Path) -> ImageFolder:
    return ImageFolder(write_patterns(tmp_path / "images", SEVERAL_SIZES), size=(10, 8))


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _crops(folder: ImageFolder, **options: int) -> OriginalCrops:
    return OriginalCrops(folder, folder.decoded(), **options)


def _reference(folder: ImageFolder, index: int, box: Tensor, mirrored: bool) -> np.ndarray:
    """What torchvision's RandomResizedCrop does with an image of Pillow, in its steps."""
    top, left, height, width = box.tolist()
    image = Image.open(folder.files[index]).convert("RGB")
    image = image.crop((left, top, left + width, top + height))
    image = image.resize((8, 8), folder.preparation.resampling)
    if mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    values = np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
    mean, std = (np.float32(each) for each in (folder.preparation.mean, folder.preparation.std))
    return (values - mean[:, None, None]) / std[:, None, None]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crops_are_those_of_pillow(tmp_path: Path, interpolation: str) -> None:
    root = write_patterns(tmp_path, SEVERAL_SIZES)
    folder = ImageFolder(
        root, (10, 8), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), interpolation=interpolation
    )
    chosen = torch.tensor([4, 0, 1, 0, 2, 3, 5])
    found = _crops(folder).begin(chosen, _generator())()
    assert found.shape == (7, 3, 8, 8) and found.is_contiguous() and found.dtype == torch.float32
    sides = [Image.open(folder.files[index]).size for index in chosen]
    widths, heights = (torch.tensor(each) for each in zip(*sides, strict=True))
    boxes, mirrored = random_parts(7, heights, widths, _generator())
    assert mirrored.any() and not mirrored.all()
    for index, box, mirror, crop in zip(chosen, boxes, mirrored, found, strict=True):
        expected = torch.from_numpy(_reference(folder, int(index), box, bool(mirror)))
        torch.testing.assert_close(crop, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
def test_crops_are_those_of_torchvision(tmp_path: Path, kind: str) -> None:
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    from fsc.models.torchvision_import import import_library

    transforms = import_library("torchvision").transforms
    for index, (width, height) in enumerate(SEVERAL_SIZES):
        write_image(tmp_path / "a" / f"{index}.png", width, height, seed=index)
    folder = ImageFolder(tmp_path, (10, 8), interpolation=kind)
    found = _crops(folder).begin(torch.arange(6), _generator(2))()
    widths, heights = (torch.tensor(each) for each in zip(*SEVERAL_SIZES, strict=True))
    boxes, mirrored = random_parts(6, heights, widths, _generator(2))
    theirs = transforms.functional
    for file, box, mirror, crop in zip(folder.files, boxes, mirrored, found, strict=True):
        with Image.open(file) as image:
            mode = transforms.InterpolationMode(kind)
            part = theirs.resized_crop(image, *box.tolist(), [8, 8], mode)
        part = theirs.to_tensor(theirs.hflip(part) if mirror else part)
        mean, std = folder.preparation.mean, folder.preparation.std
        assert torch.equal(crop, theirs.normalize(part, mean, std))


def test_boxes_of_images_of_several_sizes_are_those_of_each() -> None:
    widths, heights = (torch.tensor(each) for each in zip(*SEVERAL_SIZES * 50, strict=True))
    boxes = random_boxes(len(widths), heights, widths, _generator())
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] >= 1).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= torch.stack([heights, widths], 1)).all()
    for number, (width, height) in enumerate(SEVERAL_SIZES):
        alone = random_boxes(len(widths), height, width, _generator())
        assert torch.equal(boxes[number :: len(SEVERAL_SIZES)], alone[number :: len(SEVERAL_SIZES)])


def test_the_whole_file_is_seen_at_its_own_resolution(tmp_path: Path) -> None:
    folder = ImageFolder(write_patterns(tmp_path, [(60, 20), (20, 60)]), size=(10, 8))
    prepared = folder.decoded() * 0.2255 + 0.45  # about from 0 to 1
    crops = _crops(folder)
    wide, tall = (
        crops.begin(torch.full((200,), index), _generator())() * 0.2255 + 0.45 for index in (0, 1)
    )
    # Red is the column: the middle square of the wide one has none near its ends.
    assert prepared[0, 0].min() > 0.3 and prepared[0, 0].max() < 0.7
    assert wide[:, 0].min() < 0.08 and wide[:, 0].max() > 0.92
    assert wide[:, 1].min() < 0.08 and wide[:, 1].max() > 0.92
    assert tall[:, 1].min() < 0.08 and tall[:, 1].max() > 0.92
    rises = (wide[:, 0, 0, -1] > wide[:, 0, 0, 0]).float().mean()
    assert abs(rises - 0.5) < 0.12


def test_what_lies_around_a_crop_is_not_mixed_in(tmp_path: Path) -> None:
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    pixels[10:30, 10:30] = 255
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "1.png")
    folder = ImageFolder(tmp_path, size=8, mean=(0, 0, 0), std=(1, 1, 1))
    place = np.zeros((3, 8, 8), dtype=np.uint8)
    _crops(folder)._write(place, 0, [10, 10, 20, 20], mirrored=False)
    assert (place == 255).all()


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("budget", [0, 6000, original_crops.KEPT_BYTES])
def test_bits_depend_on_neither_threads_nor_memory(
    folder: ImageFolder, workers: int, budget: int
) -> None:
    chosen, plain = torch.tensor([0, 3, 5, 1, 1]), _crops(folder, workers=0)
    crops, (one, other) = (
        _crops(folder, workers=workers, budget=budget),
        (_generator(), _generator()),
    )
    begun = [crops.begin(chosen, one) for _ in range(4)]  # all at once
    for each in begun:
        assert torch.equal(each(), plain.begin(chosen, other)())
    assert torch.equal(one.get_state(), other.get_state())
    kept = {0: 0, 6000: 1}.get(budget, 4)
    assert len(crops._kept) == kept


def test_a_part_of_a_minibatch_is_a_part_of_the_whole(folder: ImageFolder) -> None:
    crops, chosen = _crops(folder), torch.tensor([5, 2, 0, 1, 3])
    whole = crops.begin(chosen, _generator())()
    parts = [crops.begin(chosen, _generator(), own)() for own in (slice(0, 2), slice(2, 5))]
    assert torch.equal(torch.cat(parts), whole)


def test_grey_files_and_networks(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20).astype(np.uint8)).save(
        tmp_path / "a" / "1.png"
    )
    for mean, channels in (((0.5,), 1), ((0.5, 0.5, 0.5), 3)):
        folder = ImageFolder(tmp_path, size=8, mean=mean, std=mean)
        found = _crops(folder).begin(torch.zeros(3, dtype=torch.int64), _generator())()
        assert found.shape == (3, channels, 8, 8)
        assert torch.equal(found[:, :1], found[:, -1:])


def test_crops_have_the_size_and_the_dtype_of_the_images(folder: ImageFolder) -> None:
    crops = OriginalCrops(folder, torch.zeros(6, 3, 5, 7, dtype=torch.float64))
    found = crops.begin(torch.arange(6), _generator())()
    assert found.shape == (6, 3, 5, 7) and found.dtype == torch.float64


def test_folders_are_found_in_subsets(folder: ImageFolder) -> None:
    part = folder_of(Subset(Subset(folder, [5, 4, 2, 0]), torch.tensor([3, 1])))
    assert part is not None and part.files == [folder.files[0], folder.files[4]]
    assert folder_of(folder) is folder
    loader = DataLoader(folder, batch_size=2)
    assert folder_of(loader) is None and folder_of(Subset(folder.decoded(), [0])) is None


def test_a_file_that_became_another_is_named(folder: ImageFolder) -> None:
    crops, file = _crops(folder), folder.files[0]
    write_image(file, 30, 20)
    with pytest.raises(ValueError, match=f"^image {file} must stay as it is .* got 30 x 20 pixels"):
        crops.begin(torch.arange(6), _generator())()
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(ValueError, match=f"image {file} is damaged"):
        crops.begin(torch.arange(6), _generator())()


def test_a_fingerprint_of_a_missing_file_names_it(folder: ImageFolder) -> None:
    folder.files[2].unlink()
    with pytest.raises(OSError, match=f"image {folder.files[2]} cannot be read"):
        folder.fingerprint()
