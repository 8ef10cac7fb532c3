"""Results that are there already, room on the disk, last writes that fail."""

import errno
import json
import shutil
import tempfile
from pathlib import Path

import pytest

from fsc.cli import compress as cli_compress, demo, outputs
from fsc.methods.journal import Journal
from fsc.networks import checkpoint


@pytest.fixture
def compress(fsc, on_digits, tmp_path):
    def run(*arguments, method="l1", output=tmp_path / "out"):
        return fsc("compress", *on_digits, "--method", method, "--shots", 1, "--output", output,
                   *arguments)  # fmt: skip

    return run


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def sentence(result):
    assert result.exit_code == 2, result.output
    return result.stderr.splitlines()[-1].removeprefix("error: ")


def test_a_finished_student_is_not_replaced_without_a_word(compress, tmp_path):
    assert compress().exit_code == 0
    folder = tmp_path / "out"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for extra, nothing in (((), ""), (("--resume",), "nothing of it is unfinished, ")):
        assert sentence(compress("--seed", 1, *extra)) == (
            f"--output must name a folder without a student, got {folder} with model.safetensors, "
            f"config.json, README.md, report.json, samples.json: {nothing}give --overwrite or name "
            "another"
        )
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert compress("--seed", 1, "--overwrite").exit_code == 0
    assert json.loads((folder / "report.json").read_text())["seed"] == 1


def stop_after(monkeypatch, count):
    """Interrupts compressions after so many layers."""
    add, solved = Journal.add, []

    def stopping(self, name, solution):
        add(self, name, solution)
        solved.append(name)
        if len(solved) == count:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "add", stopping)
    return solved


def test_solved_layers_are_not_deleted_without_a_word(compress, tmp_path, monkeypatch):
    stop_after(monkeypatch, 2)
    assert compress(method="cd-soft").exit_code == 130
    journal = tmp_path / "out" / "unfinished"
    before = names(journal)
    assert sentence(compress("--seed", 1, method="cd-soft")) == (
        f"--output must name a folder without an unfinished compression, got {tmp_path / 'out'} "
        f"with 2 solved layers in {journal}: go on with --resume, give --overwrite or name another"
    )
    assert names(journal) == before
    result = compress("--seed", 1, "--overwrite", method="cd-soft")
    assert result.exit_code == 0 and "Starting anew, as --overwrite says" in result.stderr
    assert not journal.exists()


def test_one_layer_is_counted_as_one(compress, tmp_path, monkeypatch):
    stop_after(monkeypatch, 1)
    assert compress(method="cd-soft").stderr.splitlines()[-1] == (
        f"interrupted: 1 solved layer is in {tmp_path / 'out' / 'unfinished'}; go on with --resume"
    )


def test_a_damaged_layer_is_told_in_one_line(compress, tmp_path, monkeypatch):
    solved = stop_after(monkeypatch, 2)
    compress(method="cd-soft")
    path = tmp_path / "out" / "unfinished" / f"{solved[1]}.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    result = compress("--resume", method="cd-soft")
    assert result.exit_code == 0 and solved[2] == solved[1]
    told = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert len(told) == 1 and f"{path} is damaged" in told[0] and "is dropped" in told[0]


def test_a_full_disk_in_the_journal_is_one_sentence(compress, tmp_path, monkeypatch):
    write = Path.write_bytes

    def full(path, content):
        if "layer2" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    journal = tmp_path / "out" / "unfinished"
    assert sentence(compress(method="cd-soft")) == (
        f"file {journal / 'layer2.0.conv1.safetensors'} cannot be written: No space left on device"
    )
    monkeypatch.setattr(Path, "write_bytes", write)
    assert compress("--resume", method="cd-soft").exit_code == 0


def interrupted(*arguments, **keywords):
    raise KeyboardInterrupt


@pytest.mark.parametrize("method", ["cd-soft", "l1"])
def test_an_interrupted_evaluation_goes_on(compress, tmp_path, monkeypatch, method):
    with monkeypatch.context() as patch:
        patch.setattr("fsc.cli.evaluation.accuracy_on_test", interrupted)
        assert "go on with --resume" in compress(method=method).stderr
    student = (tmp_path / "out" / "model.safetensors").read_bytes()
    again = sentence(compress(method=method))
    assert again.startswith("--output must ")
    assert again.endswith(": go on with --resume, give --overwrite or name another")
    assert "got --seed 1 instead of 0" in sentence(compress("--seed", 1, "--resume", method=method))
    monkeypatch.setattr(Journal, "add", lambda *arguments: pytest.fail("solved again"))
    result = compress("--resume", method=method)
    assert result.exit_code == 0, result.output
    assert names(tmp_path / "out") == sorted(outputs.STUDENT)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == student
    assert "top1" in json.loads((tmp_path / "out" / "report.json").read_text())


def test_a_student_that_cannot_be_written_is_kept(compress, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    write = Path.write_bytes

    def full(path, content):
        if tmp_path / "out" in path.parents:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    found = sentence(compress())
    (kept,) = (tmp_path / "temporary").iterdir()
    assert found == (
        f"file {tmp_path / 'out' / 'model.safetensors'} cannot be written: No space left on device;"
        f" the student is kept in {kept}"
    )
    assert names(kept) == sorted(outputs.STUDENT)
    assert checkpoint.load(kept / "model.safetensors").layer1[0].conv1.out_channels == 9


def test_room_is_looked_for_before_any_work(compress, fsc, on_digits, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(cli_compress, "make_student", lambda *arguments: pytest.fail("ran"))
    monkeypatch.setattr(
        "fsc.cli.evaluation.accuracy_on_test", lambda *arguments: pytest.fail("ran")
    )
    monkeypatch.setattr(demo, "demonstrate", lambda *arguments: pytest.fail("ran"))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1_000_000))
    for result in (compress(), fsc("demo", "--output", tmp_path / "out")):
        assert f"{tmp_path / 'out'} must have room for about " in sentence(result)
    compare = fsc("compare", *on_digits, "--shots", 20, "--memory-budget", 0)
    assert f"folder {tempfile.gettempdir()} must have room for about " in sentence(compare)
    assert names(tmp_path) == []


def test_what_an_interrupted_run_wrote_needs_no_room_again(compress, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("fsc.cli.evaluation.accuracy_on_test", interrupted)
        compress(method="cd-soft")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1_500_000))
    assert "must have room" in sentence(compress(output=tmp_path / "other"))
    assert compress("--resume", method="cd-soft").exit_code == 0


@pytest.mark.parametrize(
    ("verb", "extra"),
    [
        ("compare", ()),
        ("analyse", ()),
        ("sweep", ("--over", "steps", "--values", "1")),
        ("grid", ("--objective", "soft")),
        ("schemes", None),
    ],
)
def test_files_of_earlier_runs_are_not_replaced_without_a_word(
    fsc, on_digits, tmp_path, verb, extra
):
    path = tmp_path / "runs.json"
    path.write_text("hours")
    given = () if extra is None else (*on_digits, "--shots", 1, *extra)
    for option in ("--json",) if extra is None else ("--json", "--output"):
        name = path if option == "--json" else path.rename(tmp_path / "runs.png")
        assert sentence(fsc(verb, *given, option, name)) == (
            f"{option} must name a new file, got {name}, which exists: give --overwrite or name "
            "another"
        )
        assert name.read_text() == "hours"
    assert len(names(tmp_path)) == 1


def test_overwrite_and_resume_replace_files(fsc, on_digits, tmp_path):
    path = tmp_path / "runs.json"
    path.write_text("hours")
    given = ("compare", *on_digits, "--shots", 1, "--seeds", 1, "--method", "l1", "--json", path)
    assert fsc(*given, "--overwrite").exit_code == 0
    assert len(json.loads(path.read_text())["runs"]) == 1
    assert fsc(*given, "--resume").exit_code == 0
    assert fsc("schemes", "--model", "resnet56", "--json", path, "--overwrite").exit_code == 0


def test_a_demonstration_replaces_only_its_own(fsc, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "demonstrate", lambda *arguments: None)
    mine, earlier, stopped = (tmp_path / name for name in ("mine", "earlier", "stopped"))
    for folder in (mine, earlier, stopped):
        folder.mkdir()
    (mine / "samples.json").write_text("{}")
    (mine / "report.json").write_text('{"method": "l1"}')
    assert sentence(fsc("demo", "--output", mine)) == (
        f"--output must name a folder without results, got {mine} with report.json, samples.json, "
        "which are none of a demonstration: give --overwrite or name another"
    )
    assert fsc("demo", "--output", mine, "--overwrite").exit_code == 0
    monkeypatch.undo()
    tiny = demo.Plan(epochs=1, num_shots=1, mir_steps=1, methods=("l1",))
    demo.demonstrate(earlier, 0, tiny)
    monkeypatch.setattr(demo, "execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.demonstrate(stopped, 0, tiny)
    assert names(stopped) == ["samples.json", "teacher.safetensors"]
    monkeypatch.setattr(demo, "demonstrate", lambda *arguments: None)
    for folder in (earlier, stopped):
        assert fsc("demo", "--output", folder).exit_code == 0
    (stopped / "teacher.safetensors").write_text("of somebody else")
    assert "got" in sentence(fsc("demo", "--output", stopped))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--json", "out/report.json"), "--json must name another file than those that go to out, "
         "got out/report.json"),
        (("--json", "out/report.json/x"), "--json must name another file than those that go to "
         "out, got out/report.json/x"),
        (("--json", "out/unfinished/x"), "--json must name a file outside of out/unfinished, got "
         "out/unfinished/x"),
        (("--report", "out/unfinished/x.html"), "--report must name a file outside of "
         "out/unfinished, got out/unfinished/x.html"),
    ],
)  # fmt: skip
def test_no_file_is_written_among_those_of_the_folder(
    compress, tmp_path, monkeypatch, flags, expected
):
    monkeypatch.chdir(tmp_path)
    assert sentence(compress(*flags, "--overwrite", output="out")) == expected
    assert names(tmp_path) == []


@pytest.mark.parametrize("extra", [(), ("--overwrite",), ("--resume", "--overwrite")])
def test_what_stands_in_the_place_of_the_folders_own_is_told_before_any_work(
    compress, tmp_path, extra
):
    beginning = "--output must name a folder where"
    end = f"got {tmp_path / 'out'}: remove that or name another"
    (tmp_path / "out" / "report.json").mkdir(parents=True)
    assert sentence(compress(*extra)) == f"{beginning} report.json is no folder, {end}"
    (tmp_path / "out" / "report.json").rmdir()
    (tmp_path / "out" / "unfinished").touch()
    assert sentence(compress(*extra)) == f"{beginning} unfinished is no file, {end}"
    assert names(tmp_path / "out") == ["unfinished"]
