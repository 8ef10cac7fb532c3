"""`--quiet` leaves nothing but warnings and errors; `--json` writes what the tables say."""

import json

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from fsc.cli import commands, outputs, quietness


@pytest.mark.parametrize("command", commands.ALL, ids=lambda c: c.name)
def test_every_verb_can_be_quiet_and_write_json(command):
    flags = {flag for parameter in command.params for flag in parameter.opts}
    assert {"--quiet", "--json", "--overwrite"} <= flags


def test_nothing_is_quiet_outside_a_command():
    assert not quietness.is_quiet()


@pytest.fixture(scope="module")
def student(fsc, on_digits, tmp_path_factory):
    """A folder of `fsc compress --quiet --json`, and that call."""
    folder = tmp_path_factory.mktemp("quiet")
    given = (*on_digits, "--method", "l1", "--shots", 1, "--test-images", 20)
    called = fsc("compress", *given, "--output", folder / "out", "--json", folder / "report.json",
                 "--quiet")  # fmt: skip
    assert called.exit_code == 0, called.output
    return folder, called


def test_compress_writes_its_report_twice_and_says_nothing(student):
    folder, called = student
    assert (called.stdout, called.stderr) == ("", "")
    report = json.loads((folder / "report.json").read_text())
    assert report == json.loads((folder / "out" / "report.json").read_text())
    assert report["test_images"] == 20 and "top1" in report


def test_evaluate_writes_what_its_table_says(student, fsc, tmp_path):
    folder, _ = student
    given = ("evaluate", folder / "out", "--data", "digits", "--test-images", 20)
    quiet = fsc(*given, "--json", tmp_path / "a.json", "--quiet")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", "")
    found = json.loads((tmp_path / "a.json").read_text())
    report = json.loads((folder / "report.json").read_text())
    for name in ("top1", "top1_interval", "test_images", "parameters", "nonzero", "flops"):
        assert found[name] == report[name], name
    assert found["model"] == str(folder / "out" / "model.safetensors")
    assert found["kilobytes"] == report["kilobytes"] and found["milliseconds"] > 0
    loud = fsc(*given, "--json", tmp_path / "b.json")
    assert (
        f"{found['top1']:.2f}" in loud.stdout and f"Written: {tmp_path / 'b.json'}" in loud.stdout
    )


@pytest.mark.parametrize(
    "arguments", [("inspect", "--model", "resnet14"), ("schemes", "--model", "resnet20")]
)
def test_tables_go_to_the_file_alone(fsc, tmp_path, arguments):
    called = fsc(*arguments, "--quiet", "--json", tmp_path / "found.json")
    assert (called.exit_code, called.stdout, called.stderr) == (0, "", "")
    assert json.loads((tmp_path / "found.json").read_text())


def test_compare_is_quiet(fsc, on_digits, tmp_path):
    given = (*on_digits, "--method", "l1", "--shots", 1, "--seeds", 1, "--test-images", 20)
    called = fsc("compare", *given, "--quiet", "--json", tmp_path / "runs.json")
    assert (called.exit_code, called.stdout, called.stderr) == (0, "", "")
    assert len(json.loads((tmp_path / "runs.json").read_text())["runs"]) == 1


def test_warnings_and_errors_stay(student, fsc, tmp_path):
    folder, _ = student
    path = tmp_path / "old.safetensors"
    with safe_open(folder / "out" / "model.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["fsc"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    del header["sha256"]
    save_file(tensors, path, metadata={"fsc": json.dumps(header | {"format": "fsc-1"})})
    called = fsc("evaluate", path, "--data", "digits", "--test-images", 20, "--quiet")
    assert called.exit_code == 0 and called.stdout == ""
    (line,) = called.stderr.splitlines()
    assert line.startswith("warning: ") and "without a checksum" in line
    refused = fsc("evaluate", tmp_path / "absent", "--data", "digits", "--quiet")
    assert refused.exit_code == 2 and refused.stderr.startswith("error: ")


@pytest.mark.parametrize("name", outputs.STUDENT)
def test_json_is_none_of_the_files_of_the_folder(fsc, on_digits, tmp_path, name):
    output = tmp_path / "out"
    given = (*on_digits, "--method", "l1", "--shots", 1, "--output", output)
    called = fsc("compress", *given, "--json", tmp_path / "x" / ".." / "out" / name)
    assert called.exit_code == 2
    assert "--json must name another file than those that go to" in called.stderr
    assert not output.exists()


def test_json_that_is_there_is_not_replaced_without_a_word(student, fsc, on_digits, tmp_path):
    folder, _ = student
    path = folder / "report.json"
    before = path.read_text()
    given = (*on_digits, "--method", "l1", "--shots", 1, "--output", tmp_path / "out")
    for called in (
        fsc("compress", *given, "--json", path),
        fsc("evaluate", folder / "out", "--data", "digits", "--json", path),
        fsc("demo", "--output", tmp_path / "demo", "--json", path),
    ):
        assert called.exit_code == 2 and "--json must name a new file" in called.stderr
    assert path.read_text() == before and not (tmp_path / "demo").exists()
