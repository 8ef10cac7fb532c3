"""The list of networks that `make zoo` compresses, and the table that it writes of them."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "zoo"


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, as it is when it is run."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("run", "table"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import run

    return run


def _invoke(zoo: ModuleType, *arguments: object):
    return CliRunner().invoke(zoo.main, [str(each) for each in arguments])


@pytest.fixture
def commands(zoo: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """Those that were run; none is, and one of resnet32 fails."""
    ran: list[list[str]] = []

    def instead(arguments: list[str], *, check: bool, cwd: Path) -> None:
        ran.append(arguments[3:])
        if "resnet32" in arguments:
            raise subprocess.CalledProcessError(1, "fsc")
        run = {"method": "default", "top1": 90.5, "parameters": 150_000, "flops": 70_000_000,
               "seconds": 61.4, "milliseconds": [1.0, 30.0],
               "milliseconds_teacher": [2.0, 40.0]}  # fmt: skip
        Path(arguments[-1]).write_text(json.dumps({
            "top1_teacher": 91.73, "parameters_teacher": 300_000, "flops_teacher": 100_000_000,
            "test_images": 10_000, "threads": 1, "versions": {"fsc": "1", "torch": "2"},
            "preparation": "/a/path", "runs": [run],
        }))  # fmt: skip

    monkeypatch.setattr(zoo.subprocess, "run", instead)
    monkeypatch.setenv("FSC_DATA", str(tmp_path / "my data"))
    return ran


def test_the_page_is_that_of_the_files_beside_it(zoo, tmp_path) -> None:
    for file in FOLDER.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    zoo.write_page(tmp_path)
    assert (tmp_path / "README.md").read_text() == (FOLDER / "README.md").read_text()


def test_every_network_has_two_targets_and_commands_are_listed(zoo) -> None:
    result = _invoke(zoo, "--list")
    lines = result.output.splitlines()
    assert result.exit_code == 0 and len(lines) == 12
    assert all(line.startswith("fsc compare --model ") for line in lines)
    assert sum("--flops 0.7" in line for line in lines) == 6
    assert sum("--shots 10" in line for line in lines) == 10
    assert sum("--images 500" in line for line in lines) == 2


def test_what_is_there_is_left_out_and_the_table_grows(zoo, commands, tmp_path) -> None:
    folder = tmp_path / "zoo"
    first = _invoke(zoo, "resnet20-0.7", "--folder", folder)
    assert first.exit_code == 0, first.output
    content = json.loads((folder / "resnet20-0.7.json").read_text())
    assert content["date"] and content["processor"] and "preparation" not in content
    text = (folder / "README.md").read_text()
    assert (
        "| resnet20-0.7 | `default` | 10,000 | 91.73 | 90.50 | 0.15 M (50 %) | 70.00 M (70 %) "
        "| 0.50 | 0.75 | 61 |" in text
    )
    assert "fsc 1, torch 2" in text and f"`{content['command']}`" in text
    second = _invoke(zoo, "resnet20-0.7", "resnet20-0.5", "--folder", folder)
    assert "resnet20-0.7: there already, by this command" in second.output
    assert [line[line.index("--flops") + 1] for line in commands] == ["0.7", "0.5"]
    assert (folder / "README.md").read_text().count("| `default` |") == 2
    third = _invoke(zoo, "resnet20-0.7", "--folder", folder, "--more", "--test-images 500")
    assert "there already, by another command: fsc compare --model resnet20" in third.output


def test_one_that_fails_does_not_keep_the_others(zoo, commands, tmp_path) -> None:
    result = _invoke(zoo, "resnet32-0.7", "resnet44-0.7", "--folder", tmp_path / "zoo")
    assert result.exit_code == 1 and "failed: resnet32-0.7; the others are in" in result.output
    assert [file.name for file in (tmp_path / "zoo").glob("*.json")] == ["resnet44-0.7.json"]


def test_a_folder_with_a_space_is_one_argument(zoo, commands, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(zoo.PACKAGES, "efficientnet_lite0", "json")
    result = _invoke(zoo, "efficientnet_lite0-0.7", "--folder", tmp_path / "zoo")
    assert result.exit_code == 0, result.output
    assert f"folder:{tmp_path / 'my data'}/imagenet" in commands[0]
    assert str(tmp_path) not in (tmp_path / "zoo" / "README.md").read_text()


def test_what_cannot_be_run_is_said(zoo, commands, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(zoo.PACKAGES, "efficientnet_lite0", "no_such_package")
    result = _invoke(zoo, "efficientnet_lite0-0.7", "--folder", tmp_path / "zoo")
    assert "left out, no_such_package is not installed" in result.output and not commands
    result = _invoke(zoo, "resnet20-0.6")
    assert result.exit_code == 2 and "got resnet20-0.6" in result.output
    monkeypatch.delenv("FSC_DATA")
    result = _invoke(zoo, "resnet20-0.7", "--folder", tmp_path / "zoo")
    assert result.exit_code == 2 and "FSC_DATA must name" in result.output
