"""`fsc export` needs no data: it reads a network, writes a file and says what it found."""

import json
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from fsc import models
from fsc.networks.checkpoint import save
from fsc.networks.plain import plain
from fsc.networks.program_files import FORMATS

OWN = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.layer(x).mean((2, 3))


class Branch(Net):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return super().forward(x)


class Grown(nn.Conv2d):
    def forward(self, x):
        return nn.functional.conv2d(x, 2 * self.weight, self.bias)
"""


@pytest.fixture
def own(tmp_path):
    """The file of a network, and the network."""
    file, names = tmp_path / "net.py", {"__name__": "net"}
    file.write_text(OWN)
    exec(OWN, names)
    return file, names


@pytest.fixture
def student(tmp_path):
    """A folder as fsc compress leaves it."""
    folder = tmp_path / "out"
    known = {"data": "digits", "normalization": {"mean": [0.3], "std": [0.4]}}
    model = models.build("resnet14", in_channels=1)
    save(model, folder / "model.safetensors", name="resnet14", metadata=known)
    return folder


def test_a_student_is_written_and_compared(fsc, student, tmp_path):
    path, found = tmp_path / "student.pt2", tmp_path / "found.json"
    told = fsc("export", student, "--torch-export", path, "--json", found)
    assert told.exit_code == 0, told.output
    assert (
        "torch.export file of model.safetensors, for any number of images of 1 x 8 x 8"
        in told.output
    )
    assert "outputs for 1 and 7 drawn images differ by 0.0e+00 of the largest" in told.output
    kept = json.loads(found.read_text())
    assert kept["inputs"] == {"x": [1, 8, 8]} and kept["path"] == str(path)
    assert kept["model"] == str(student / "model.safetensors")
    assert torch.export.load(path).module()(torch.zeros(3, 1, 8, 8)).shape == (3, 10)

    again = fsc("export", student, "--torch-export", path)
    assert again.exit_code == 2 and "--torch-export must name a new file, got" in again.output
    assert fsc("export", student, "--torch-export", path, "--overwrite").exit_code == 0


@pytest.mark.skipif(
    not all(map(find_spec, FORMATS[".onnx"].packages)), reason="the extra onnx is not installed"
)
def test_onnx(fsc, student, tmp_path):
    told = fsc("export", student, "--onnx", tmp_path / "student.onnx")
    assert told.exit_code == 0 and "ONNX file of model.safetensors" in told.output, told.output


def test_sizes_come_from_the_file_the_network_or_size(fsc, own, tmp_path):
    file, names = own
    path, target = tmp_path / "own.safetensors", ("--torch-export", tmp_path / "own.pt2")
    save(names["Net"](), path, metadata={"source": f"{file}:Net"})
    model = ("--model", f"{file}:Net")
    told = fsc("export", path, *target)
    assert "--model must be given" in told.output
    told = fsc("export", path, *target, *model)
    assert f"--size must be given, because {path} does not say the size of images" in told.output
    told = fsc("export", path, *target, *model, "--size", "20:12")
    assert "any number of images of 3 x 12 x 12" in told.output
    told = fsc("export", path, *target, *model, "--size", 2, "--overwrite")
    assert "--size must give images that own.safetensors runs on, such as 8 x 8" in told.output

    known = {"normalization": {"mean": [0.5] * 3, "std": [0.2] * 3}}
    known["preparation"] = {"size": [16, 14], "interpolation": "bilinear"}
    save(names["Net"](), path, metadata=known)
    told = fsc("export", path, *target, *model, "--overwrite")
    assert "any number of images of 3 x 14 x 14" in told.output


def test_a_rewritten_network_takes_what_it_was_rewritten_for(fsc, own, tmp_path):
    (tmp_path / "grown.py").write_text(OWN + "\n\ndef build():\n    return Grown(3, 4, 3)\n")
    path = tmp_path / "own.safetensors"
    save(plain(own[1]["Grown"](3, 4, 3), torch.zeros(2, 3, 9, 11)), path)
    given = ("--model", f"{tmp_path}/grown.py:build", "--torch-export", tmp_path / "own.pt2")
    told = fsc("export", path, *given)
    assert "any number of images of 3 x 9 x 11" in told.output
    assert "outputs for 1 and 7 drawn images" in told.output


def test_a_dense_checkpoint_has_its_own_number_of_classes(fsc, tmp_path):
    path = tmp_path / "dense.pt"
    torch.save(models.build("resnet14", num_classes=7).state_dict(), path)
    target = tmp_path / "dense.pt2"
    told = fsc("export", path, "--torch-export", target, "--model", "resnet14")
    assert "any number of images of 3 x 32 x 32" in told.output
    assert torch.export.load(target).module()(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
    told = fsc("export", path, "--torch-export", target, "--overwrite")
    assert "does not say which network it is: name it with --model" in told.output


def test_a_dense_checkpoint_has_its_own_number_of_channels(fsc, tmp_path):
    path, target = tmp_path / "grey.pt", tmp_path / "grey.pt2"
    torch.save(models.build("resnet14", num_classes=7, in_channels=1).state_dict(), path)
    given = ("--model", "resnet14", "--size", 8)
    told = fsc("export", path, "--torch-export", target, *given)
    assert "any number of images of 1 x 8 x 8" in told.output, told.output
    assert torch.export.load(target).module()(torch.zeros(1, 1, 8, 8)).shape == (1, 7)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], "Give either --onnx or --torch-export, a file to write, got none."),
        (
            ["--onnx", "a.onnx", "--torch-export", "a.pt2"],
            "a file to write, got --onnx a.onnx and --torch-export a.pt2.",
        ),
        (["--onnx", "a.pt2"], "--onnx must name a file that ends in .onnx, got a.pt2"),
        (["--torch-export", "a.pt"], "--torch-export must name a file that ends in .pt2, got a.pt"),
        (["--torch-export", "out"], "--torch-export must name a file, got out, which is a folder"),
        (
            ["--torch-export", "no.py/a.pt2"],
            "--torch-export must name a place that can be written, got no.py/a.pt2: Not a dir",
        ),
        (
            ["--torch-export", "a.pt2", "--json", "a.pt2"],
            "--torch-export and --json must name paths of their own, got a.pt2 and a.pt2",
        ),
    ],
    ids=str,
)
def test_targets_that_cannot_be_written(given, sentence, fsc, student, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no.py").touch()
    told = fsc("export", student, *given)
    assert told.exit_code == 2 and sentence in told.output, told.output
    assert sorted(each.name for each in tmp_path.iterdir()) == ["no.py", "out"]


def test_paths_that_hold_no_network(fsc, student, tmp_path):
    target = ("--torch-export", tmp_path / "a.pt2")
    assert "missing does not exist" in fsc("export", tmp_path / "missing", *target).output
    told = fsc("export", tmp_path, *target)
    assert "which fsc compress and fsc.save_pretrained write, got no network" in told.output
    file = student / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8] + bytes(8))
    told = fsc("export", student, *target)
    assert told.exit_code == 2 and "is damaged: its content has not the checksum" in told.output
    assert not (tmp_path / "a.pt2").exists()


@pytest.mark.parametrize(
    "command", [("export", "--torch-export"), ("evaluate", "--data", "digits", "--json")]
)
def test_what_is_read_is_looked_at_before_what_is_written(command, fsc, tmp_path):
    (tmp_path / "a.pt2").write_text("mine")
    verb, *flags = command
    told = fsc(verb, tmp_path / "nowhere", *flags, tmp_path / "a.pt2")
    assert told.exit_code == 2, told.output
    assert told.stderr == f"error: checkpoint {tmp_path / 'nowhere'} does not exist\n"


def test_a_missing_package_is_said_before_anything_is_read(fsc, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    told = fsc("export", tmp_path / "missing", "--onnx", tmp_path / "a.onnx")
    assert told.exit_code == 2 and "pip install 'fsc-ext[onnx]'" in told.output


def test_networks_that_cannot_be_exported(fsc, own, tmp_path):
    file, names = own
    path, target = tmp_path / "own.pt", ("--torch-export", tmp_path / "a.pt2")
    torch.save(names["Net"]().state_dict(), path)
    told = fsc("export", path, *target, "--model", f"{file}:Branch", "--size", 8)
    assert told.exit_code == 2 and "net.py:17, `if x.sum() > 0:`, with" in told.output, told.output

    (tmp_path / "one_channel.py").write_text(
        "from torch import nn\n\ndef build():\n    return nn.Conv1d(3, 4, 3)\n"
    )
    torch.save(nn.Conv1d(3, 4, 3).state_dict(), path)
    told = fsc("export", path, *target, "--model", f"{tmp_path}/one_channel.py:build")
    assert "must hold a network of images to be exported from here" in told.output
    assert not (tmp_path / "a.pt2").exists()
