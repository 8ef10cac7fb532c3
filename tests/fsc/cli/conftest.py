"""What the tests of the command line share: a small teacher on disk and a way to call `fsc`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from image_folders import write_classes
from known_groups import found_once
from torch import nn

from fsc import models
from fsc.cli import inputs, main
from fsc.images import data
from fsc.models.file_networks import build_from_file
from fsc.networks import checkpoint, latency
from fsc.training import supervised as training

_NET = """
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

def grey(classes=2):
    model = build(classes)
    model[0] = nn.Conv2d(1, 8, 3, padding=1, bias=False)
    return model

def digits():
    return grey(10)
"""


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Every command runs on one thread."""


@pytest.fixture(scope="session", autouse=True)
def _no_users_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For fixtures that are made before any test's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command keeps between runs is neither the user's nor another test's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


# Not of the session: files of other folders that come later in a process must not be touched.
@pytest.fixture(scope="module", autouse=True)
def _known_groups() -> Iterator[None]:
    """Which channels of a network of fsc.models go together is found once, not in every command."""
    with found_once("fsc.models."):
        yield


@pytest.fixture(scope="module", autouse=True)
def _short_measurements() -> Iterator[None]:
    """Milliseconds are medians of a few; what is said of them does not depend on how many."""

    def few(measure):
        def measured(networks, images, *, repeats=5, progress=None):
            return measure(networks, images, repeats=min(repeats, 5), progress=progress)

        return measured

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fsc.cli.timing.latencies", few(latency.latencies))
        patch.setattr("fsc.cli.timing.timings", few(latency.timings))
        patch.setattr("fsc.exporting.latencies", few(latency.latencies))
        yield


@pytest.fixture(scope="session")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A resnet14 trained for two epochs on the digits."""
    torch.manual_seed(0)
    teacher = models.build("resnet14", in_channels=1)
    _train(teacher, "resnet14", epochs=2)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    checkpoint.save(teacher, path, name="resnet14")
    return path


def _train(teacher: nn.Module, model: str, epochs: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    loaded = inputs.with_teacher(model, "digits", None, teacher)
    statistics = loaded.normalization
    images = data.to_tensor(loaded.train.images, statistics.mean, statistics.std)
    training.train(teacher, images, torch.from_numpy(loaded.train.labels), epochs=epochs)
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def fsc() -> Callable[..., Result]:
    """Runs the command with arguments; whatever is not an exit of its own fails the test."""

    def run(*arguments: object) -> Result:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture(scope="session")
def on_digits(teacher_file: Path) -> list[object]:
    """Arguments of `compress` and `compare` for the small teacher."""
    return [
        *("--model", "resnet14", "--data", "digits", "--checkpoint", teacher_file),
        *("--scheme", "res-50"),
    ]


@pytest.fixture(scope="session")
def small_on_digits(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """As `on_digits` for a network of two convolutions: a run takes a third of the time."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "net.py").write_text(_NET)
    (folder / "half.json").write_text('{"name": "half", "pruning_ratio": 0.5}')
    teacher = build_from_file(str(folder / "net.py"), "digits")
    _train(teacher, model := f"{folder / 'net.py'}:digits", epochs=4)
    torch.save(teacher.state_dict(), folder / "teacher.pt")
    return [
        *("--model", model, "--data", "digits", "--checkpoint", folder / "teacher.pt"),
        *("--scheme", folder / "half.json"),
    ]


@pytest.fixture
def compress_digits(fsc, on_digits, tmp_path):
    """A short run of `fsc compress` by a method, without a scheme, into the folder `out`."""
    where = tuple(each for each in on_digits if each not in ("--scheme", "res-50"))

    def call(method, *flags):
        output = ("--output", tmp_path / "out")
        given = ("--method", method, "--shots", 2, "--test-images", 9)
        return fsc("compress", *where, *given, *output, *flags)

    return call


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(_NET)
    return path


@pytest.fixture
def pets(tmp_path):
    """Two classes, of which val has one only."""
    root = tmp_path / "pets"
    write_classes(root / "train", count=4)
    write_classes(root / "val", ("dog",), count=3)
    return root


@pytest.fixture
def compress_pets(fsc, net, pets, tmp_path):
    """Runs `compress` with working arguments, some of them replaced or left out."""
    scheme = tmp_path / "half.json"
    scheme.write_text('{"name": "half", "pruning_ratio": 0.5}')

    def run(*flags, **replaced):
        given = {"model": f"{net}:build", "data": f"folder:{pets}", "method": "l1", "size": "10:8"}
        given |= {"scheme": scheme, "shots": 2, "output": tmp_path / "out"} | replaced
        given = {key: value for key, value in given.items() if value is not None}
        return fsc("compress", *(p for key, v in given.items() for p in (f"--{key}", v)), *flags)

    return run
