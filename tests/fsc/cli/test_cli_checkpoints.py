"""Files of weights that do not go with the network or the images: one sentence before any work."""

import pytest
import torch
from refusals import sentence

from fsc import compress, models
from fsc.networks import checkpoint


def test_another_network_than_the_file_names(fsc, tmp_path, teacher_file):
    net = tmp_path / "net.py"
    net.write_text(
        "from fsc import models\n\ndef ten():\n    return models.build('resnet20', 10, 1)\n"
    )
    found = fsc("evaluate", teacher_file, "--data", "digits", "--model", f"{net}:ten")
    assert sentence(found) == (
        f"--model must be left out for {teacher_file}, which holds a resnet14, got {net}:ten"
    )


def test_another_network_of_fsc_than_the_file_names(fsc, teacher_file):
    found = fsc("evaluate", teacher_file, "--data", "digits", "--model", "resnet20")
    assert sentence(found) == (
        f"--model must be left out for {teacher_file}, which holds a resnet14, got resnet20"
    )
    found = fsc("compress", "--model", "resnet20", "--data", "digits", "--checkpoint", teacher_file,
                "--shots", 1, "--output", teacher_file.parent / "none")  # fmt: skip
    assert sentence(found) == (
        f"--model must be resnet14 for {teacher_file}, which holds one, got resnet20"
    )


@pytest.mark.filterwarnings("ignore:student answers no better")
def test_a_student_may_be_named_as_its_file_names_it(fsc, tmp_path):
    teacher = models.build("resnet14", in_channels=1)
    images = torch.randn(2, 1, 8, 8)
    student = compress(teacher, images, method="l1", pruning_ratio=0.5).student
    path = tmp_path / "student.safetensors"
    checkpoint.save(student, path, name="resnet14")
    found = fsc("evaluate", path, "--data", "digits", "--model", "resnet14", "--test-images", 9)
    assert found.exit_code == 0, found.output


@pytest.mark.parametrize(
    ("sizes", "words"),
    [((7, 1), "7 classes of {}, got digits with 10"),
     ((10, 3), "3 input channels of {}, got digits with 1")],
)  # fmt: skip
def test_a_checkpoint_for_other_images(fsc, tmp_path, sizes, words):
    path = tmp_path / "other.pt"
    torch.save(models.build("resnet14", *sizes).state_dict(), path)
    found = fsc("evaluate", path, "--data", "digits", "--model", "resnet14")
    assert sentence(found) == f"--data must have images for the {words.format(path)}"


@pytest.mark.parametrize("content", [b"junk", b"\x80\x02}q\x00.", b"\x80", b"h", b"U", b"\x8a"])
def test_a_checkpoint_of_any_bytes(fsc, tmp_path, content):
    path = tmp_path / "junk.pt"
    path.write_bytes(content)
    found = sentence(fsc("evaluate", path, "--data", "digits", "--model", "resnet14"))
    assert found.startswith(f"{path} ")
