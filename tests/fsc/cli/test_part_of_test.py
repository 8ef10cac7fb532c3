"""A part of the test images has something of all, in whatever order they come."""

import torch
from image_folders import write_classes

from fsc.cli.given import part_of_test
from fsc.images.folder import ImageFolder

LABELS = torch.arange(12) // 4  # class after class


def test_images_of_every_class():
    images = torch.arange(12.0)[:, None, None, None].expand(12, 3, 2, 2)
    for number, places in ((3, [0, 4, 8]), (6, [0, 2, 4, 6, 8, 10]), (5, [0, 2, 4, 7, 9])):
        part, labels = part_of_test(images, LABELS, number)
        assert torch.equal(part, images[places])
        assert torch.equal(labels, LABELS[places])


def test_all_where_no_more_are_there():
    images = torch.zeros(12, 3, 2, 2)
    for number in (12, 100):
        part, labels = part_of_test(images, LABELS, number)
        assert part is images and labels is LABELS


def test_files_of_every_class(tmp_path):
    folder = ImageFolder(write_classes(tmp_path, count=4), 4)
    part, labels = part_of_test(folder, torch.from_numpy(folder.labels), 4)
    assert [file.parent.name for file in part.files] == ["cat", "cat", "dog", "dog"]
    assert labels.tolist() == part.labels.tolist() == [0, 0, 1, 1]
