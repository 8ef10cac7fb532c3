"""Networks and images that do not go together: one sentence before any work, never torch's own."""

import re

import pytest
import torch
from click.testing import CliRunner
from image_folders import write_classes, write_image
from refusals import sentence

from fsc import models
from fsc.cli import main, sentences
from fsc.networks import checkpoint

NET = """
import torch
from torch import nn

def build():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
    )

def fixed():
    head = nn.Linear(8 * 32 * 32, 2)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), head)

def wide():
    layers = [nn.Conv2d(1, 8, 9), nn.Conv2d(8, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8, 10))

def ten():
    layers = [nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8, 10))

def maps():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1))

class Other(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 2)

class Beside(Other):
    def __init__(self):
        super().__init__()
        self.conv, self.stem = nn.Conv2d(8, 8, 3), nn.Conv2d(3, 8, 3)

    def forward(self, x):
        return self.head(self.conv(self.stem(x)).mean((2, 3)))

class Raising(Other):
    def forward(self, x):
        raise KeyError("oops")

class Named(Other):
    def forward(self, x):
        return {"scores": self.head(self.conv(x).mean((2, 3)))}

class Two(Other):
    def forward(self, x, y):
        return self.head(self.conv(x + y).mean((2, 3)))

def half():
    return build().half()

def broken():
    model = build()
    model[0].weight.data[0] = torch.nan
    return model
"""


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


@pytest.fixture
def pets(tmp_path):
    for split in ("train", "val"):
        write_classes(tmp_path / "pets" / split, count=2)
    return tmp_path / "pets"


@pytest.fixture
def given(net, pets, tmp_path):
    """Arguments of every command that reads a network and images of one's own."""
    scheme = tmp_path / "half.json"
    scheme.write_text('{"name": "half", "pruning_ratio": 0.5}')

    def arguments(verb, function, *others, data=f"folder:{pets}"):
        own = ("--model", f"{net}:{function}", *others)
        if verb == "inspect":
            return (verb, *own)
        drawn = (*own, "--data", data, "--shots", 1)
        return {
            "compress": (verb, *drawn, "--method", "l1", "--output", tmp_path / "out"),
            "evaluate": (verb, *own, "--data", data),
            "compare": (verb, *drawn, "--method", "l1", "--seeds", 1),
            "analyse": (verb, *drawn, "--scheme", scheme),
            "sweep": (verb, *drawn, "--over", "steps", "--values", "1"),
            "grid": (verb, *drawn, "--scheme", scheme, "--objective", "soft"),
        }[verb]

    return arguments


VERBS = ("inspect", "compress", "evaluate", "compare", "analyse", "sweep", "grid")


@pytest.mark.parametrize("verb", VERBS)
def test_images_too_small_for_the_network(fsc, given, tmp_path, verb):
    result = fsc(*given(verb, "build", "--size", 3))
    assert sentence(result) == (
        "--size must give images that net.py:build runs on, such as 8 x 8, got 3 x 3"
    )
    assert len(result.stderr.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_images_that_are_never_evaluated_are_tried_too(fsc, given):
    found = fsc(*given("compress", "build", "--size", "4:3", "--no-evaluate"))
    assert sentence(found).startswith("--size must give images that net.py:build runs on")
    assert len(found.stderr.splitlines()) == 1


def test_images_as_small_as_they_are(fsc, given, tmp_path):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            write_image(tmp_path / "tiny" / split / name / "1.png", width=2, height=3)
    result = fsc(*given("compress", "build", data=f"folder:{tmp_path / 'tiny'}"))
    assert sentence(result).endswith("runs on, such as 8 x 8, got 3 x 2")


def test_a_network_for_one_size_alone(fsc, given):
    for verb in ("inspect", "compress"):
        assert sentence(fsc(*given(verb, "fixed", "--size", 16))) == (
            "--size must give images that net.py:fixed runs on, such as 32 x 32, got 16 x 16"
        )


def test_the_first_convolution_may_read_something_else(fsc, given):
    assert sentence(fsc(*given("compress", "Beside", "--size", 4))) == (
        "--size must give images that net.py:Beside runs on, such as 8 x 8, got 4 x 4"
    )
    assert sentence(fsc(*given("compress", "Beside", data="digits"))) == (
        "--data must have the 3 channels that net.py:Beside reads, got images with 1"
    )


def test_a_data_set_of_the_wrong_size_or_channels(fsc, given):
    assert sentence(fsc(*given("compress", "wide", data="digits"))) == (
        "--data must give images that net.py:wide runs on, such as 16 x 16, got 8 x 8"
    )
    for verb in ("compress", "compare", "evaluate"):
        assert sentence(fsc(*given(verb, "build", data="digits"))) == (
            "--data must have the 3 channels that net.py:build reads, got images with 1"
        )


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("function", "raised"),
    [("Raising", "KeyError: 'oops'"), ("Two", "TypeError: .*missing 1 required positional")],
)
def test_a_network_that_raises(fsc, given, verb, function, raised):
    found = sentence(fsc(*given(verb, function, "--size", 32)))
    start = "--model must name a network that runs on a tensor [1, 3, 32, 32], got net.py:"
    assert found.startswith(f"{start}{function}, which raised ")
    assert re.search(raised, found)


@pytest.mark.parametrize("verb", ["compress", "evaluate", "compare", "analyse", "sweep", "grid"])
def test_answers_that_are_no_scores(fsc, given, tmp_path, verb):
    without = "" if verb == "evaluate" else "; fsc compress --no-evaluate does without"
    for function, found in (("maps", r"[1, 2, 30, 30]"), ("Named", "dict")):
        assert sentence(fsc(*given(verb, function, "--size", 32))) == (
            f"--model must give scores [N, classes] to be evaluated, got {found} of "
            f"net.py:{function}{without}"
        )
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_finite(fsc, given, net):
    for verb in ("evaluate", "compress"):
        assert sentence(fsc(*given(verb, "broken", "--size", 32))) == (
            f"{net}:broken: weights must be finite, got NaN or Inf in 0.weight"
        )
    found = sentence(fsc(*given("inspect", "broken", "--size", 32)))
    assert found == "--model must have finite weights, got NaN or Inf in 0.weight"


def test_a_network_in_half_precision_is_computed_with_in_float32(fsc, given, tmp_path):
    for verb in ("inspect", "evaluate", "compress"):
        result = fsc(*given(verb, "half", "--size", 32))
        assert result.exit_code == 0, result.output
        said = "half gives them, in float32 instead of float16."
        assert verb == "inspect" or said in " ".join(result.stderr.split())
    model = models.build("resnet14", in_channels=1).half()
    checkpoint.save(model, tmp_path / "half.safetensors", name="resnet14")
    result = fsc("evaluate", tmp_path / "half.safetensors", "--data", "digits")
    assert result.exit_code == 0, result.output
    assert "weights of the file, in float32 instead of float16." in result.stderr


def test_a_pattern_that_fits_nothing_is_found_before_any_work(fsc, given, tmp_path):
    for verb in ("compress", "compare"):
        result = fsc(*given(verb, "build", "--size", 32), "--flops", 0.5, "--ignore", "no*")
        assert sentence(result) == "--ignore must fit modules of the model, got 'no*'"
        assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_share_below_what_is_possible(fsc, given):
    result = fsc(*given("compress", "build", "--size", 32), "--flops", 0.01, "--round-to", 4)
    found = sentence(result)
    assert found.startswith("--flops must be at least 0.") and found.endswith(
        " for this model with --round-to 4: all that may go is gone then, got 0.01"
    )


def test_a_size_that_no_machine_holds(fsc, given):
    for verb in VERBS:
        assert sentence(fsc(*given(verb, "build", "--size", 10**11))) == (
            "--size must be a positive number of pixels, at most 8,192, or SIDE:CROP with a crop "
            f"that is no larger than the side, got {10**11}"
        )


def test_an_image_that_would_become_too_large(fsc, given, tmp_path):
    write_image(tmp_path / "pets" / "val" / "cat" / "0.png", width=100_000, height=1)
    found = sentence(fsc(*given("evaluate", "build", "--size", 8192)))
    assert found.startswith("--size must be one that image ") and "100000 x 1," in found


def test_too_little_memory_is_one_sentence(monkeypatch, fsc, given):
    expected = "there is too little memory for this; smaller images, or fewer at once, need less"
    for error in (
        RuntimeError("[enforce fail at alloc.cpp] can't allocate memory: you tried\nand more"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        MemoryError(),
    ):
        assert sentences.of_error(error, main.commands["compress"]) == expected

    def raising(*arguments):
        raise MemoryError

    monkeypatch.setattr("fsc.cli.trying._run", raising)
    assert sentence(fsc(*given("compress", "build", "--size", 32))) == expected


def test_names_between_colons_are_no_pictures(given, fsc):
    result = fsc(*given("evaluate", "ten", data="digits"))
    assert result.exit_code == 0 and "net.py:ten: weights as" in result.stderr


def test_a_teacher_without_layers_is_the_model(tmp_path):
    (tmp_path / "empty.py").write_text("from torch import nn\nbuild = lambda: nn.Flatten()\n")
    given = ("inspect", "--model", f"{tmp_path / 'empty.py'}:build", "--size", "8")
    assert sentence(CliRunner().invoke(main, given)).startswith("--model must contain ")
