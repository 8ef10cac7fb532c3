"""Networks in folders: what is written, what is read again, what is refused."""

import importlib.util
import json
import os
from pathlib import Path

import pytest
import torch
from full_disk import fill_disk
from networks import small
from safetensors.torch import save_file
from torch import nn

import fsc
from fsc import model_folder, models
from fsc.images.preparation import Preparation
from fsc.model_folder import FILES

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def result():
    torch.manual_seed(0)
    return fsc.compress(models.build("resnet14").eval(), IMAGES, method="l1")


@pytest.fixture
def folder(result, tmp_path):
    fsc.save_pretrained(result, tmp_path / "new" / "student", name="resnet14")
    return tmp_path / "new" / "student"


def same(first: nn.Module, second: nn.Module) -> bool:
    one, other = first.state_dict(), second.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def text_of(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def rewritten(folder: Path, change: dict[str, object]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def test_a_result_comes_back_as_it_was(result, folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    student = fsc.from_pretrained(folder)
    assert same(student, result.student) and not student.training
    assert same(fsc.from_pretrained(str(folder), models.build("resnet14")), result.student)


def test_config_says_what_the_header_says(result, tmp_path):
    preparation = Preparation((256, 224), (0.5,) * 3, (0.2,) * 3, "bicubic")
    fsc.save_pretrained(
        result, tmp_path, name="resnet14", preparation=preparation, description="Small."
    )
    config = json.loads((tmp_path / "config.json").read_text())
    header = fsc.networks.checkpoint.read_metadata(tmp_path / "model.safetensors")
    assert header.pop("sha256") and header == config
    assert config == {
        "format": "fsc-2",
        "model": "resnet14",
        "num_classes": 10,
        "in_channels": 3,
        "description": "Small.",
        "normalization": {"mean": [0.5] * 3, "std": [0.2] * 3},
        "preparation": {"size": [256, 224], "interpolation": "bicubic"},
        "method": "l1",
        "scheme": "flops-0.5",
    }


def test_the_card_says_what_is_left_and_how_to_load_it(result, folder):
    card, report = text_of(folder), result.report
    assert card.startswith("---\nlibrary_name: fsc\ntags:\n- fsc\n")
    assert "\n---\n\n# resnet14, compressed\n" in card
    left = 100 * report.parameters / report.parameters_teacher
    assert (
        f"| parameters | {report.parameters_teacher:,} | {report.parameters:,} | {left:.1f} % |"
        in card
    )
    assert "Made by the method `l1`, scheme `flops-0.5`, seed 0, from 4 images." in card
    assert f"Layers with fewer channels: {len(report.kept)} (" in card
    assert 'fsc.from_pretrained("path/to/this/folder")' in card
    assert "No accuracy was measured." in card and "## Accuracy" not in card


def test_the_front_of_the_card_is_yaml(folder):
    yaml = pytest.importorskip("yaml", reason="the front of a card is YAML")
    front = yaml.safe_load(text_of(folder).split("---")[1])
    assert front["library_name"] == "fsc" and "model-compression" in front["tags"]


def test_the_card_has_what_was_measured_and_how_images_are_prepared(result, tmp_path):
    fsc.save_pretrained(
        result,
        tmp_path,
        description="Two\nlines | and a bar, <b>bold</b> [a](b) `c` \\|.",
        preparation=Preparation((256, 224)),
        measured={"top-1 % on 500 images": 91.239},
    )
    card = text_of(tmp_path)
    assert "| top-1 % on 500 images | 91.24 |" in card and "No accuracy" not in card
    markup = r"\<b\>bold\</b\> \[a\](b) \`c\` \\\|."
    assert f"\nTwo lines \\| and a bar, {markup}\n" in card
    assert "shorter side has 256 pixels, of which the middle 224 x 224 are cut out" in card
    assert 'from_pretrained("path/to/this/folder", model=network)' in card


def test_a_network_of_the_users_own_needs_the_one_it_was_made_from(tmp_path):
    torch.manual_seed(0)
    teacher = small().eval()
    made = fsc.compress(teacher, torch.randn(4, 3, 32, 32), method="l1", pruning_ratio=0.5)
    fsc.save_pretrained(made, tmp_path)
    assert same(fsc.from_pretrained(tmp_path, teacher), made.student)
    with pytest.raises(ValueError, match="from_pretrained: model must be given, because .* names"):
        fsc.from_pretrained(tmp_path)


def test_a_network_alone_has_a_shorter_card(tmp_path):
    teacher = models.build("resnet14")
    fsc.save_pretrained(teacher, tmp_path, name="resnet14")
    assert same(fsc.from_pretrained(tmp_path), teacher)
    assert "# resnet14\n" in text_of(tmp_path) and "What is left" not in text_of(tmp_path)


def test_a_network_of_a_library_is_built_again(tmp_path):
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed, a network of it is built")
    name = "timm:test_resnet"
    teacher = model_folder.factories.parse(name).build(num_classes=7)
    made = fsc.compress(teacher, torch.randn(2, 3, 64, 64), method="l1", pruning_ratio=0.5)
    fsc.save_pretrained(made, tmp_path / "right", name=name)
    assert same(fsc.from_pretrained(tmp_path / "right"), made.student)
    assert 'fsc.from_pretrained("path/to/this/folder")' in text_of(tmp_path / "right")
    with pytest.raises(ValueError, match="name must be that of the network, .* 'timm:resnet10t'"):
        fsc.save_pretrained(made, tmp_path / "wrong", name="timm:resnet10t")
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize("name", ["resnet15", "mine.py:build", "timm:", 3])
def test_names_that_nothing_is_built_from_are_refused(result, tmp_path, name):
    with pytest.raises(ValueError, match="save_pretrained: name must be a network of fsc.models"):
        fsc.save_pretrained(result, tmp_path / "x", name=name)
    assert not (tmp_path / "x").exists()


def test_what_is_no_network_is_refused(tmp_path):
    with pytest.raises(TypeError, match="compressed must be what fsc.compress gave, .* got dict"):
        fsc.save_pretrained({}, tmp_path)


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ({"measured": {"top-1": "91 %"}}, "measured must hold finite numbers, got '91 %' for"),
        ({"measured": {"top-1": float("nan")}}, "measured must hold finite numbers, got nan for"),
        ({"measured": {"top-1": True}}, "measured must hold finite numbers, got True for"),
        ({"preparation": (0.5, 0.5)}, r"preparation must be a fsc.*Preparation, got \(0.5, 0.5\)"),
    ],
)  # fmt: skip
def test_what_no_card_can_say_is_refused(result, tmp_path, given, got):
    with pytest.raises(TypeError, match=f"^save_pretrained: {got}"):
        fsc.save_pretrained(result, tmp_path / "x", **given)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_there_are_replaced_on_request_alone(result, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=f"must not hold {name} unless overwrite=True, got "):
        fsc.save_pretrained(result, tmp_path, name="resnet14")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"
    fsc.save_pretrained(result, tmp_path, name="resnet14", overwrite=True)
    assert same(fsc.from_pretrained(tmp_path), result.student)


@pytest.mark.parametrize("failing", FILES)
def test_all_files_are_written_or_none(result, tmp_path, monkeypatch, failing):
    fill_disk(monkeypatch, failing.split(".")[0])
    with pytest.raises(OSError, match=f"{failing} cannot be written: No space left on device"):
        fsc.save_pretrained(result, tmp_path / "new", name="resnet14")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "got"),
    [
        ({"model": "resnet20"}, "model must be .*'resnet14', got 'resnet20'"),
        ({"model": "/etc/x.py:run"}, "model must be .*'resnet14', got '/etc/x.py:run'"),
        ({"model": ["resnet14"]}, r"model must be .*got \['resnet14'\]"),
        ({"num_classes": 10**300}, "num_classes must be .* 10, got 1000"),
        ({"in_channels": None}, "in_channels must be .* 3, got None"),
        ({"scheme": {"a": {"b": "c" * 10**5}}}, "scheme must be .*got .{,80}$"),
        ({"method": float("nan")}, "method must be .* got nan"),
    ],
)
def test_a_config_that_says_something_else_is_refused(folder, change, got):
    rewritten(folder, change)
    with pytest.raises(ValueError, match=got) as refused:
        fsc.from_pretrained(folder)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("[]", r"config.json must hold a JSON object, got \[\]"),
        ("{", "configuration .*config.json is no JSON"),
        ("[" * 100_000, "configuration .*config.json is no JSON"),
        ('{"num_classes": ' + "9" * 5000 + "}", "configuration .*config.json is no JSON"),
        ("\xff", "configuration .*config.json is no JSON"),
        ("{}", "format must be as in the header of model.safetensors, 'fsc-2', got nothing"),
        (" " * 10_000_001, "config.json must not exceed 10,000,000 bytes"),
    ],
    ids=["list", "half", "deep", "huge", "bytes", "empty", "long"],
)
def test_a_config_that_is_none_is_refused(folder, text, got):
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=got):
        fsc.from_pretrained(folder)


def test_a_config_may_say_more_and_is_not_needed(result, folder, tmp_path):
    rewritten(folder, {"license": "mit", "auto_map": {"AutoModel": "run.py"}})
    (folder / "run.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    assert same(fsc.from_pretrained(folder), result.student)
    assert not (tmp_path / "run").exists()
    (folder / "config.json").unlink()
    assert same(fsc.from_pretrained(folder), result.student)


def test_a_file_named_in_the_header_is_not_run(tmp_path):
    mark, code = tmp_path / "run", tmp_path / "evil.py"
    code.write_text(f"open({str(mark)!r}, 'w')\ndef build(): ...")
    header = {"source": f"{code}:build"}
    fsc.save(small(), tmp_path / "model.safetensors", metadata=header)
    with pytest.raises(ValueError, match="model must be given, because"):
        fsc.from_pretrained(tmp_path)
    assert not mark.exists()


def test_what_is_no_folder_of_a_network_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"must name a folder, got {tmp_path / 'absent'}$"):
        fsc.from_pretrained(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="must hold model.safetensors, .* got no network"):
        fsc.from_pretrained(tmp_path)
    save_file({"weight": torch.zeros(1)}, os.fspath(tmp_path / "other.safetensors"))
    with pytest.raises(FileNotFoundError, match="got other.safetensors; name a file"):
        fsc.from_pretrained(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_refused(result, tmp_path):
    place = tmp_path / "file"
    place.touch()
    with pytest.raises(ValueError, match=f"folder must name a folder, got {place}, which is a"):
        fsc.save_pretrained(result, place, name="resnet14")
