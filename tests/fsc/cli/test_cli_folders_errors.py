"""Networks and images of the user's own that make no sense: one sentence, before any work."""

import importlib.util
import shutil

import pytest
from image_folders import write_image
from refusals import sentence


def test_a_method_that_needs_labels_is_refused_images_without(compress_pets, tmp_path):
    flat = tmp_path / "flat"
    write_image(flat / "0.jpg")
    result = compress_pets(data=f"folder:{flat}", shots=None, images=1, method="bp")
    assert sentence(result) == (
        "--data must have images with classes for --method bp, got flat without"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", ["0", "-1", "x", "8:10", "8:0", "1:2:3", "2.5", ""])
def test_sizes_that_make_no_sense(compress_pets, size):
    found = sentence(compress_pets(size=size))
    assert found.startswith("--size must be a positive number of pixels") and (
        found.endswith(f"got {size}")
    )


@pytest.mark.parametrize(
    "given", ["imagnet", "0.5", "0.5/0", "a/b", "0.5,0.5/0.2,0.2,0.2", "1/nan", "0.5/-1", "1/2/3"]
)
def test_normalizations_that_make_no_sense(compress_pets, given):
    found = sentence(compress_pets(normalize=given))
    assert found.startswith("--normalize must be imagenet or MEAN/STD, a number for each channel")
    assert found.endswith(f"got {given}")


def test_the_folder_above_a_data_set_names_it(compress_pets, pets, tmp_path):
    root = tmp_path / "data"
    (root / "checkpoints").mkdir(parents=True)
    (root / "checkpoints" / "net.pt").touch()
    (root / ".hidden").mkdir()
    found = sentence(compress_pets(data=f"folder:{root}"))
    rule = "--data must name a folder with train and val, or with a folder of images for each class"
    assert found == f"{rule}, got {root}, where checkpoints has no images"
    write_image(root / "plain" / "cat" / "0.png")
    assert sentence(compress_pets(data=f"folder:{root}")) == (
        f"{found}; {root / 'plain'} has a folder of images for each class: "
        f"--data folder:{root / 'plain'}"
    )
    shutil.copytree(pets, root / "pets")
    assert sentence(compress_pets(data=f"folder:{root}")) == (
        f"{found}; {root / 'pets'} has train and val: --data folder:{root / 'pets'}"
    )


def test_an_empty_class_among_others_is_named(compress_pets, pets):
    (pets / "train" / "fox").mkdir()
    found = sentence(compress_pets(data=f"folder:{pets / 'train'}"))
    assert found.startswith(f"class folder {pets / 'train' / 'fox'} must hold images")


def test_folders_that_make_no_sense(compress_pets, pets, tmp_path):
    assert sentence(compress_pets(data=f"folder:{tmp_path / 'no'}")) == (
        f"folder {tmp_path / 'no'} does not exist"
    )
    (tmp_path / "empty").mkdir()
    found = sentence(compress_pets(data=f"folder:{tmp_path / 'empty'}"))
    assert found.startswith(f"folder {tmp_path / 'empty'} must hold images (.jpg")
    (pets / "val" / "cat").mkdir()
    assert sentence(compress_pets()).startswith(
        f"class folder {pets / 'val' / 'cat'} must hold images"
    )
    (pets / "val" / "cat").rmdir()
    write_image(pets / "val" / "owl" / "a.png")
    assert sentence(compress_pets()) == (
        f"class owl of {pets / 'val'} must be one of the 2 of train, which lacks it"
    )
    shutil.rmtree(pets / "val" / "owl")
    assert (
        sentence(compress_pets(shots=5))
        == "--shots must not exceed the 4 images of class cat, got 5"
    )
    assert sentence(compress_pets(shots=None, images=9)) == (
        "--images must lie between 1 and the 8 images there are, got 9"
    )
    assert not (tmp_path / "out").exists()


def test_a_network_of_other_classes_is_refused_before_any_work(compress_pets, net, fsc, pets):
    expected = (
        "--data must have one class for each of the 11 scores of net.py:many, got 2 in pets; "
    )
    without = "fsc compress --no-evaluate does without"
    assert sentence(compress_pets(model=f"{net}:many")) == expected + without
    given = ("--model", f"{net}:many", "--data", f"folder:{pets}", "--size", "10:8")
    assert sentence(fsc("evaluate", *given)) == f"{expected}give the images that it was trained for"
    assert compress_pets("--no-evaluate", model=f"{net}:many").exit_code == 0


def test_damaged_images_are_named_and_the_student_is_kept(compress_pets, pets, tmp_path):
    damaged = pets / "val" / "dog" / "9.jpg"
    content = write_image(damaged, 64, 64).read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    found = sentence(compress_pets())
    assert found.startswith(f"image {damaged} is damaged: image file is truncated")
    unfinished = tmp_path / "out" / "unfinished"
    assert found.endswith(
        f"; the student is in {tmp_path / 'out'}; only what is measured of it is missing, once "
        f"that is mended: go on with --resume, or delete {unfinished} to keep the student as it is"
    )
    assert (tmp_path / "out" / "model.safetensors").exists() and unfinished.is_dir()
    shutil.move(damaged, pets / "train" / "dog" / "9.jpg")
    drawn = sentence(compress_pets("--overwrite", shots=None, images=9))
    assert drawn.startswith(f"image {pets / 'train' / 'dog' / '9.jpg'} is damaged")


def test_models_that_make_no_sense(compress_pets, net, tmp_path):
    for typed, expected in (
        (f"{tmp_path / 'no.py'}:build", f"--model must name a file that exists, got {tmp_path}"),
        (f"{net}:bild", f"--model must name a function of {net}, which has build"),
    ):
        assert sentence(compress_pets(model=typed)).startswith(expected)
    for typed in (str(net), "timm:", "nothing:x"):
        result = compress_pets(model=typed)
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1].startswith("error: Invalid value for '--model': ")


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_library_that_is_missing_is_one_sentence(compress_pets, monkeypatch, library):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == library else real(name)
    )
    assert sentence(compress_pets(model=f"{library}:resnet18")) == (
        f"model {library}:NAME needs {library}, which is not installed: "
        f"pip install 'fsc-ext[{library}]'"
    )


def test_flags_that_go_with_a_folder_alone(fsc, net):
    given = ("--model", f"{net}:build", "--data", "cifar10")
    assert sentence(fsc("evaluate", *given, "--size", 8)) == (
        "--size must be left out with --data cifar10, whose images have one size, got 8:8"
    )
