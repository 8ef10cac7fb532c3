"""A network of the user's own and the user's own images, from the first command to the last."""

import importlib.util
import json
import shutil

import pytest
import torch
from image_folders import write_classes, write_image
from refusals import sentence

from fsc.images import sampling

NET = """
import torch
from torch import nn

def build(classes=2):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes),
    )

def many():
    return build(11)

def grey():
    model = build()
    model[0] = nn.Conv2d(1, 8, 3, padding=1, bias=False)
    return model
"""
SIZE = ("--size", "10:8")


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


@pytest.fixture
def pets(tmp_path):
    """Two classes, of which val has one only."""
    root = tmp_path / "pets"
    write_classes(root / "train", count=4)
    write_classes(root / "val", ("dog",), count=3)
    return root


@pytest.fixture
def compress(fsc, net, pets, tmp_path):
    """Runs `compress` with working arguments, some of them replaced or left out."""
    scheme = tmp_path / "half.json"
    scheme.write_text('{"name": "half", "pruning_ratio": 0.5}')

    def run(*flags, **replaced):
        given = {"model": f"{net}:build", "data": f"folder:{pets}", "method": "l1", "size": "10:8"}
        given |= {"scheme": scheme, "shots": 2, "output": tmp_path / "out"} | replaced
        given = {key: value for key, value in given.items() if value is not None}
        return fsc("compress", *(p for key, v in given.items() for p in (f"--{key}", v)), *flags)

    return run


def test_compress_then_evaluate(compress, fsc, net, pets, tmp_path):
    result = compress()
    assert result.exit_code == 0, result.output
    assert f"net.py:build: weights as {net}:build gives them." in " ".join(result.stderr.split())
    assert "Images of pets: shorter side 10 (bilinear), the middle 8 x 8, minus 0.485" in (
        result.stderr
    )
    said = " ".join(result.stderr.split())
    assert "mean and std those of ImageNet, --size as typed." in said
    assert "net.py:build on 3 test images of pets" in result.stdout
    assert "top-1 %" in result.stdout and "top-5 %" not in result.stdout
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["model"] == f"{net}:build" and report["data"] == f"folder:{pets}"
    assert report["parameters"] < report["parameters_teacher"] and report["test_images"] == 3
    sample = sampling.FewShotSample.load(tmp_path / "out" / "samples.json")
    assert sample.labels == [0, 0, 1, 1]
    assert [name.partition("/")[0] for name in sample.files] == ["cat", "cat", "dog", "dog"]
    again = fsc("evaluate", tmp_path / "out", "--model", f"{net}:build", "--data", f"folder:{pets}")
    assert again.exit_code == 0, again.output
    assert "shorter side 10 (bilinear), the middle 8 x 8" in again.stderr
    assert "as its file says" in again.stderr
    assert f"{report['top1']:.2f}" in again.stdout
    unnamed = sentence(fsc("evaluate", tmp_path / "out", "--data", f"folder:{pets}"))
    assert unnamed.startswith("--model must be given, because ")
    assert unnamed.endswith(f"it was made from {net}:build")


def test_evaluate_of_a_teacher_by_its_name_alone(fsc, net, pets):
    result = fsc("evaluate", "--model", f"{net}:build", "--data", f"folder:{pets}", *SIZE)
    assert result.exit_code == 0, result.output
    assert "net.py:build on 3 test images of pets" in result.stdout
    neither = fsc("evaluate", "--data", f"folder:{pets}")
    assert neither.exit_code == 2 and "Give PATH, the file of a network, or --model" in (
        neither.stderr
    )


def test_weights_from_a_checkpoint(compress, fsc, net, pets, tmp_path):
    weights = tmp_path / "weights.pt"
    assert compress().exit_code == 0
    from fsc.models import factories

    torch.save(factories.parse(f"{net}:build").build().state_dict(), weights)
    result = compress("--overwrite", checkpoint=weights)
    assert result.exit_code == 0 and f"net.py:build: weights of {weights}." in " ".join(
        result.stderr.split()
    )
    given = ("--model", f"{net}:many", "--data", f"folder:{pets}", *SIZE)
    assert "does not match Sequential" in sentence(fsc("evaluate", weights, *given))


def test_a_network_of_fsc_gets_the_classes_of_its_checkpoint(fsc, pets, tmp_path):
    from fsc import models

    torch.save(models.build("resnet14", num_classes=2).state_dict(), tmp_path / "two.pt")
    given = ("--model", "resnet14", "--data", f"folder:{pets}", *SIZE)
    result = fsc("evaluate", tmp_path / "two.pt", *given)
    assert result.exit_code == 0, result.output
    assert "mean and std those of resnet14" in result.stderr
    assert sentence(fsc("evaluate", *given)).startswith(
        "--checkpoint must name the weights of resnet14, which are not looked for"
    )


def test_top5_where_there_are_many_classes(compress, fsc, net, tmp_path):
    root = tmp_path / "many"
    names = tuple(f"class{index:02}" for index in range(11))
    write_classes(root / "train", names, count=2)
    write_classes(root / "val", names[3:], count=1)
    result = compress(model=f"{net}:many", data=f"folder:{root}", shots=1)
    assert result.exit_code == 0, result.output
    assert "top-5 %" in result.stdout
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["top1"] <= report["top5"] and report["top1_teacher"] <= report["top5_teacher"]
    again = compress("--overwrite", model=f"{net}:many", data=f"folder:{root}", shots=1)
    assert "were measured in an earlier run" in again.stderr
    same = json.loads((tmp_path / "out" / "report.json").read_text())
    assert same["top5_teacher"] == report["top5_teacher"]


def test_a_method_that_needs_labels_is_refused_images_without(compress, tmp_path):
    flat = tmp_path / "flat"
    write_image(flat / "0.jpg")
    result = compress(data=f"folder:{flat}", shots=None, images=1, method="bp")
    assert sentence(result) == (
        "--data must have images with classes for --method bp, got flat without"
    )
    assert not (tmp_path / "out").exists()


def test_images_without_labels(compress, fsc, net, tmp_path):
    flat = tmp_path / "flat"
    for index in range(6):
        write_image(flat / f"{index}.jpg", seed=index)
    data = f"folder:{flat}"
    result = compress(data=data, shots=None, images=4)
    assert result.exit_code == 0, result.output
    assert "flat has images without labels: no accuracy is measured." in result.stderr
    assert "nothing is evaluated" in result.stderr and "top-1" not in result.stdout
    sample = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert sample["labels"] == [] and len(sample["files"]) == 4
    evaluated = fsc("evaluate", "--model", f"{net}:build", "--data", data, *SIZE)
    assert evaluated.exit_code == 0, evaluated.output
    assert "net.py:build on flat, not evaluated" in evaluated.stdout
    assert "top-1" not in evaluated.stdout and "FLOPs" in evaluated.stdout
    given = {"data": data, "output": tmp_path / "other"}
    assert sentence(compress(**given)) == (
        "--shots must be left out where images have no classes, as in flat: give --images, the "
        "number of all"
    )
    found = sentence(compress("--test-images", 2, shots=None, images=2, **given))
    assert found.startswith("--data must have labelled images to test on for --test-images, got ")
    for verb in (("compare",), ("analyse",), ("grid", "--objective", "soft")):
        arguments = ("--model", f"{net}:build", "--data", data, "--scheme", "x", "--images", 2)
        found = sentence(fsc(*verb, *arguments, *SIZE))
        assert found.startswith(f"--data must have labelled images to test on for fsc {verb[0]}, ")


def test_a_folder_that_is_not_split(compress, pets):
    result = compress(data=f"folder:{pets / 'train'}", shots=None, images=3)
    assert result.exit_code == 0, result.output
    assert "train is not split: drawn and tested are the same images." in result.stderr
    assert "8 test images of train" in result.stdout


def test_compare_and_analyse(fsc, net, pets, compress, tmp_path):
    arguments = ("--model", f"{net}:build", "--data", f"folder:{pets}", *SIZE,
                 "--scheme", tmp_path / "half.json", "--images", 4)  # fmt: skip
    runs = tmp_path / "runs.json"
    compare = ("compare", *arguments, "--seeds", 1, "--method", "l1", "--json", runs)
    result = fsc(*compare)
    assert result.exit_code == 0, result.output
    assert "net.py:build on pets, scheme half, 4 images, 1 draw" in result.stdout
    assert "paper" not in result.stdout
    found = json.loads(runs.read_text())
    assert found["shots"] is None and found["images"] == 4
    assert fsc(*compare, "--resume").exit_code == 0
    other = sentence(fsc(*compare, "--resume", "--normalize", "0/1"))
    assert "holds another comparison: its preparation is " in other
    result = fsc("analyse", *arguments, "--method", "l1", "--method", "cd-nc")
    assert result.exit_code == 0, result.output
    assert "measuring on 3 test images" in result.stderr


@pytest.mark.parametrize(
    ("typed", "mean", "std"),
    [
        ("127/128", (127 / 255,) * 3, (128 / 255,) * 3),
        ("0.5,0.4,0.3/0.2", (0.5, 0.4, 0.3), (0.2,) * 3),
        ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("0/1", (0.0,) * 3, (1.0,) * 3),
        ("123.675,116.28,103.53/1", (0.485, 0.456, 0.406), (1 / 255,) * 3),
    ],
)
def test_normalizations(compress, tmp_path, typed, mean, std):
    assert compress("--no-evaluate", normalize=typed).exit_code == 0
    from fsc.networks.checkpoint import read_metadata

    found = read_metadata(tmp_path / "out" / "model.safetensors")
    assert found["normalization"]["mean"] == pytest.approx(mean)
    assert found["normalization"]["std"] == pytest.approx(std)
    assert found["preparation"] == {"size": [10, 8], "interpolation": "bilinear"}


def test_grey_networks_read_grey_images(compress, net):
    result = compress(model=f"{net}:grey")
    assert result.exit_code == 0, result.output
    found = sentence(compress("--overwrite", model=f"{net}:grey", normalize="imagenet"))
    assert found == (
        "--normalize must have one number for each of the 1 channels that the network reads, got 3"
    )


def test_images_as_large_as_they_are(compress, pets):
    result = compress(size=None)
    assert result.exit_code == 0, result.output
    assert "Images of pets: as large as they are, minus 0.485" in result.stderr
    write_image(pets / "val" / "dog" / "wide.png", width=20)
    found = sentence(compress("--overwrite", size=None))
    assert found.startswith(f"--size must be given for the images of {pets / 'val'}, which differ")


@pytest.mark.parametrize("size", ["0", "-1", "x", "8:10", "8:0", "1:2:3", "2.5", ""])
def test_sizes_that_make_no_sense(compress, size):
    found = sentence(compress(size=size))
    assert found.startswith("--size must be a positive number of pixels") and (
        found.endswith(f"got {size}")
    )


@pytest.mark.parametrize(
    "given", ["imagnet", "0.5", "0.5/0", "a/b", "0.5,0.5/0.2,0.2,0.2", "1/nan", "0.5/-1", "1/2/3"]
)
def test_normalizations_that_make_no_sense(compress, given):
    found = sentence(compress(normalize=given))
    assert found.startswith("--normalize must be imagenet or MEAN/STD, a number for each channel")
    assert found.endswith(f"got {given}")


def test_folders_that_make_no_sense(compress, pets, tmp_path):
    assert sentence(compress(data=f"folder:{tmp_path / 'no'}")) == (
        f"folder {tmp_path / 'no'} does not exist"
    )
    (tmp_path / "empty").mkdir()
    found = sentence(compress(data=f"folder:{tmp_path / 'empty'}"))
    assert found.startswith(f"folder {tmp_path / 'empty'} must hold images (.jpg")
    (pets / "val" / "cat").mkdir()
    assert sentence(compress()).startswith(f"class folder {pets / 'val' / 'cat'} must hold images")
    (pets / "val" / "cat").rmdir()
    write_image(pets / "val" / "owl" / "a.png")
    assert sentence(compress()) == (
        f"class owl of {pets / 'val'} must be one of the 2 of train, which lacks it"
    )
    shutil.rmtree(pets / "val" / "owl")
    assert sentence(compress(shots=5)) == "--shots must not exceed the 4 images of class cat, got 5"
    assert sentence(compress(shots=None, images=9)) == (
        "--images must lie between 1 and the 8 images there are, got 9"
    )
    assert not (tmp_path / "out").exists()


def test_a_network_of_other_classes_is_refused_before_any_work(compress, net, fsc, pets):
    expected = (
        "--data must have one class for each of the 11 scores of net.py:many, got 2 in pets; fsc "
        "compress --no-evaluate does without"
    )
    assert sentence(compress(model=f"{net}:many")) == expected
    given = ("--model", f"{net}:many", "--data", f"folder:{pets}", *SIZE)
    assert sentence(fsc("evaluate", *given)) == expected
    assert compress("--no-evaluate", model=f"{net}:many").exit_code == 0


def test_damaged_images_are_named_and_the_student_is_kept(compress, pets, tmp_path):
    damaged = pets / "val" / "dog" / "9.jpg"
    content = write_image(damaged, 64, 64).read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    found = sentence(compress())
    assert found.startswith(f"image {damaged} is damaged: image file is truncated")
    unfinished = tmp_path / "out" / "unfinished"
    assert found.endswith(
        f"; the student is in {tmp_path / 'out'}; only what is measured of it is missing, once "
        f"that is mended: go on with --resume, or delete {unfinished} to keep the student as it is"
    )
    assert (tmp_path / "out" / "model.safetensors").exists() and unfinished.is_dir()
    shutil.move(damaged, pets / "train" / "dog" / "9.jpg")
    drawn = sentence(compress("--overwrite", shots=None, images=9))
    assert drawn.startswith(f"image {pets / 'train' / 'dog' / '9.jpg'} is damaged")


def test_models_that_make_no_sense(compress, net, tmp_path):
    for typed, expected in (
        (f"{tmp_path / 'no.py'}:build", f"--model must name a file that exists, got {tmp_path}"),
        (f"{net}:bild", f"--model must name a function of {net}, which has build"),
    ):
        assert sentence(compress(model=typed)).startswith(expected)
    for typed in (str(net), "timm:", "nothing:x"):
        result = compress(model=typed)
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1].startswith("error: Invalid value for '--model': ")


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_library_that_is_missing_is_one_sentence(compress, monkeypatch, library):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == library else real(name)
    )
    assert sentence(compress(model=f"{library}:resnet18")) == (
        f"model {library}:NAME needs {library}, which is not installed: "
        f"pip install 'fsc-ext[{library}]'"
    )


def test_flags_that_go_with_a_folder_alone(fsc, net):
    given = ("--model", f"{net}:build", "--data", "cifar10")
    assert sentence(fsc("evaluate", *given, "--size", 8)) == (
        "--size must be left out with --data cifar10, whose images have one size, got 8:8"
    )


def test_neither_or_both_ways_to_draw(compress):
    for given, got in (({"shots": None}, "none"), ({"images": 3}, "--shots 2 and --images 3")):
        result = compress(**given)
        assert result.exit_code == 2
        assert f"Give either --shots or --images, got {got}." in result.stderr
