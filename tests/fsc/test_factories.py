"""Networks by what is typed for them: names, files of the user's own, libraries that are there."""

import importlib.util
import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from fsc.models import factories, library_networks, torchvision_import
from fsc.models.factories import Factory

NET = """
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

def build():
    return Net()
"""


@pytest.fixture
def file(tmp_path):
    def write(text, name="mine.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def refused(factory):
    with pytest.raises((ValueError, OSError, ImportError)) as caught:
        factory.build()
    text = str(caught.value)
    assert text.startswith("model ") and "\n" not in text
    return text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resnet56", Factory("fsc", "resnet56")),
        ("timm:resnet50.a1_in1k", Factory("timm", "resnet50.a1_in1k")),
        ("torchvision:resnet18", Factory("torchvision", "resnet18")),
        ("a/b.py:build", Factory("file", "a/b.py", "build")),
        ("C:\\nets\\b.py:Net", Factory("file", "C:\\nets\\b.py", "Net")),
    ],
)
def test_names(text, expected):
    assert factories.parse(text) == expected and str(expected) == text


@pytest.mark.parametrize("text", ["resnet57", "timm:", "tim:resnet50", "", ":build", "mine:build"])
def test_names_that_are_none(text):
    with pytest.raises(ValueError, match="is not one of resnet14, .*FILE.py:FUNCTION"):
        factories.parse(text)


@pytest.mark.parametrize("text", ["nets/mine.py", "nets/mine.py:"])
def test_a_file_without_its_function(text):
    with pytest.raises(ValueError, match=r"must name the function in nets/mine.py .*mine.py:build"):
        factories.parse(text)


def test_a_network_of_a_file(file):
    file("WIDTH = 4", "beside_mine.py")
    path = file(f"import beside_mine\n{NET}")
    for function in ("build", "Net"):
        model = Factory("file", str(path), function).build()
        assert type(model).__name__ == "Net" and not model.training
    assert sys.modules[type(model).__module__].beside_mine.WIDTH == 4


@pytest.mark.parametrize(
    ("text", "function", "expected"),
    [
        (NET, "bild", "must name a function of {path}, which has build; got 'bild'"),
        ("x = 1", "x", "which defines none; got 'x' of type int"),
        (f"{NET}\nnet = Net()", "net", "got net, which is the network itself; wrap it: def build"),
        ("def build():\n    return {}", "build", "must return a torch.nn.Module, got dict"),
        ("def build():\n    return 1 / 0", "build",
         "must be built by {path}:build, which raised ZeroDivisionError in line 2: division by"),
        ("def build():\n    raise SystemExit(3)", "build", "which raised SystemExit in line 2: 3"),
        ("def build(width):\n    pass", "build", "TypeError: build() missing 1 required"),
        ("import absent_module", "build",
         "must name a file that runs, got {path}, which raised ModuleNotFoundError in line 1: No"),
        ("x = (\n", "build", "which raised SyntaxError in line 1: '(' was never closed"),
    ],
)  # fmt: skip
def test_files_that_give_no_network(file, text, function, expected):
    path = file(text)
    assert expected.format(path=path) in refused(Factory("file", str(path), function))


def test_a_file_that_does_not_exist(tmp_path):
    found = refused(Factory("file", str(tmp_path / "no.py"), "build"))
    assert found == f"model must name a file that exists, got {tmp_path / 'no.py'}"


def test_a_library_that_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for library in factories.LIBRARIES:
        assert refused(Factory(library, "resnet18")) == (
            f"model {library}:NAME needs {library}, which is not installed: "
            f"pip install 'fsc-ext[{library}]'"
        )


@pytest.fixture
def stand_in(monkeypatch):
    """A library with one network, whose weights cannot be fetched."""

    def build(name, num_classes=5, **given):
        if given.get("pretrained") or given.get("weights"):
            raise OSError("Name or service not known\nand more")
        return nn.Linear(3, num_classes)

    known = ["resnet18", "resnet50", "vgg16"]
    library = SimpleNamespace(
        create_model=build,
        list_models=lambda: known,
        list_pretrained=lambda pattern: ["resnet18.a1_in1k", "resnet18.tv_in1k"],
        models=SimpleNamespace(get_model=build, list_models=lambda module: known),
    )
    monkeypatch.setattr(library_networks, "import_library", lambda name: library)


@pytest.mark.parametrize("library", factories.LIBRARIES)
def test_names_of_a_library(stand_in, library):
    assert Factory(library, "resnet18").build().out_features == 5
    assert Factory(library, "resnet18").build(num_classes=7).out_features == 7
    found = refused(Factory(library, "resnet19"))
    assert found.startswith(f"model must be one of {library}'s, such as resnet18")
    assert found.endswith("got 'resnet19'")
    with pytest.raises(OSError, match="cannot be fetched .*not known and more.; give weights of"):
        Factory(library, "resnet18").build(pretrained=True)


def test_tags_of_timm(stand_in):
    assert Factory("timm", "resnet18.a1_in1k").build() is not None
    found = refused(Factory("timm", "resnet18.a2_in1k"))
    assert "such as resnet18.a1_in1k" in found


def test_torchvision_imports_beside_a_torch_that_its_operators_do_not_fit(tmp_path):
    """As the wheel does: operators that do not load, and declarations for operators."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("from torchvision import _meta_registrations, models")
    (package / "models.py").write_text("KNOWN = 1")
    (package / "_meta_registrations.py").write_text(
        "import torch\n@torch.library.register_fake('torchvision::nms')\ndef f(d, s, t): ..."
    )
    (package / "_C.so").write_bytes(b"for another torch")
    code = (
        "from fsc.models.torchvision_import import import_library\n"
        "assert import_library('torchvision').models.KNOWN"
    )
    path = os.pathsep.join([str(tmp_path), *map(os.path.abspath, sys.path)])
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


def test_a_library_that_does_not_import_is_one_sentence(monkeypatch):
    def broken(name):
        raise RuntimeError("operator torchvision::nms\ndoes not exist")

    monkeypatch.setattr(torchvision_import.importlib, "import_module", broken)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: ModuleType(name).__spec__ or 1)
    monkeypatch.setattr(torchvision_import, "leave_out_operators_that_do_not_load", lambda: None)
    found = refused(Factory("timm", "resnet18"))
    assert "which does not import beside torch" in found and "nms does not exist; install" in found


@pytest.mark.parametrize("library", factories.LIBRARIES)
def test_the_real_library(library):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    factory = Factory(library, "resnet18")
    model = factory.build(num_classes=3)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    found = factory.data_configuration(model)
    assert found is not None and found["size"][1] == 224 and len(found["mean"]) == 3
    assert "such as resnet" in refused(Factory(library, "resnet19"))
