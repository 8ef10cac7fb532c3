"""A network of the user's own and the user's own images, from the first command to the last."""

import json

import pytest
import torch
from image_folders import write_classes, write_image
from refusals import sentence

from fsc.images import sampling

SIZE = ("--size", "10:8")


def test_compress_then_evaluate(compress_pets, fsc, net, pets, tmp_path):
    result = compress_pets()
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


def test_weights_from_a_checkpoint(compress_pets, fsc, net, pets, tmp_path):
    weights = tmp_path / "weights.pt"
    assert compress_pets().exit_code == 0
    from fsc.models import factories

    torch.save(factories.parse(f"{net}:build").build().state_dict(), weights)
    result = compress_pets("--overwrite", checkpoint=weights)
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


def test_top5_where_there_are_many_classes(compress_pets, fsc, net, tmp_path):
    root = tmp_path / "many"
    names = tuple(f"class{index:02}" for index in range(11))
    write_classes(root / "train", names, count=2)
    write_classes(root / "val", names[3:], count=1)
    result = compress_pets(model=f"{net}:many", data=f"folder:{root}", shots=1)
    assert result.exit_code == 0, result.output
    assert "top-5 %" in result.stdout
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["top1"] <= report["top5"] and report["top1_teacher"] <= report["top5_teacher"]
    again = compress_pets("--overwrite", model=f"{net}:many", data=f"folder:{root}", shots=1)
    assert "were measured in an earlier run" in again.stderr
    same = json.loads((tmp_path / "out" / "report.json").read_text())
    assert same["top5_teacher"] == report["top5_teacher"]


def test_images_without_labels(compress_pets, fsc, net, tmp_path):
    flat = tmp_path / "flat"
    for index in range(6):
        write_image(flat / f"{index}.jpg", seed=index)
    data = f"folder:{flat}"
    result = compress_pets(data=data, shots=None, images=4)
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
    assert sentence(compress_pets(**given)) == (
        "--shots must be left out where images have no classes, as in flat: give --images, the "
        "number of all"
    )
    found = sentence(compress_pets("--test-images", 2, shots=None, images=2, **given))
    assert found.startswith("--data must have labelled images to test on for --test-images, got ")
    for verb in (("compare",), ("analyse",), ("grid", "--objective", "soft")):
        arguments = ("--model", f"{net}:build", "--data", data, "--scheme", "x", "--images", 2)
        found = sentence(fsc(*verb, *arguments, *SIZE))
        assert found.startswith(f"--data must have labelled images to test on for fsc {verb[0]}, ")


def test_a_folder_that_is_not_split(compress_pets, pets):
    result = compress_pets(data=f"folder:{pets / 'train'}", shots=None, images=3)
    assert result.exit_code == 0, result.output
    assert "train is not split: drawn and tested are the same images." in result.stderr
    assert "8 test images of train" in result.stdout


def test_compare_and_analyse(fsc, net, pets, compress_pets, tmp_path):
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
def test_normalizations(compress_pets, tmp_path, typed, mean, std):
    assert compress_pets("--no-evaluate", normalize=typed).exit_code == 0
    from fsc.networks.checkpoint import read_metadata

    found = read_metadata(tmp_path / "out" / "model.safetensors")
    assert found["normalization"]["mean"] == pytest.approx(mean)
    assert found["normalization"]["std"] == pytest.approx(std)
    assert found["preparation"] == {"size": [10, 8], "interpolation": "bilinear"}


def test_grey_networks_read_grey_images(compress_pets, net):
    result = compress_pets(model=f"{net}:grey")
    assert result.exit_code == 0, result.output
    found = sentence(compress_pets("--overwrite", model=f"{net}:grey", normalize="imagenet"))
    assert found == (
        "--normalize must have one number for each of the 1 channels that the network reads, got 3"
    )


def test_images_as_large_as_they_are(compress_pets, pets):
    result = compress_pets(size=None)
    assert result.exit_code == 0, result.output
    assert "Images of pets: as large as they are, minus 0.485" in result.stderr
    write_image(pets / "val" / "dog" / "wide.png", width=20)
    found = sentence(compress_pets("--overwrite", size=None))
    assert found.startswith(f"--size must be given for the images of {pets / 'val'}, which differ")
    assert found.endswith("; --size 256:224 is usual for ImageNet")
