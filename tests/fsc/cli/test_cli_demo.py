import json
import shlex
from pathlib import Path

import pytest
import torch

from fsc import method_names
from fsc.cli import demo, invocation
from fsc.cli.run import execute
from fsc.networks import checkpoint

TINY = demo.Plan(epochs=1, num_shots=2, mir_steps=2, methods=("l1", "cd-soft", "fskd"))


def test_demo_writes_students_report_and_figure(tmp_path, capsys):
    demo.demonstrate(tmp_path / "demo", 0, TINY)
    written = sorted(path.name for path in (tmp_path / "demo").iterdir())
    assert written == [
        "cd-soft.safetensors", "figure.png", "fskd.safetensors", "l1.safetensors", "report.json",
        "samples.json", "teacher.safetensors",
    ]  # fmt: skip
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert [run["method"] for run in report["runs"]] == list(TINY.methods)
    assert report["teacher"]["size"]["parameters"] > report["runs"][0]["parameters"]
    for name, entry in (("teacher", report["teacher"]), ("cd-soft", report["runs"][1])):
        size = (tmp_path / "demo" / f"{name}.safetensors").stat().st_size
        assert entry["kilobytes"] == size / 1000 and entry["milliseconds"] > 0
        low, high = entry["top1_interval"]
        assert low < entry["top1"] < high and report["test_images"] == 500
    student = checkpoint.load(tmp_path / "demo" / "cd-soft.safetensors")
    assert sum(p.numel() for p in student.parameters()) == report["runs"][1]["parameters"]
    table, told = capsys.readouterr()
    assert all(method_names.IN_WORDS[method] in told for method in TINY.methods)
    assert max(map(len, told.splitlines())) <= 80
    rows = [line.split()[0] for line in table.splitlines() if line.startswith(" ") and line.strip()]
    assert [row for row in rows if row in ("teacher", *TINY.methods)] == ["teacher", *TINY.methods]
    assert all(len(line) <= 80 for line in table.splitlines() if str(tmp_path) not in line)
    assert "res-50 removes 50 % of the channels" in table and "78 % of the parameters" in table
    # The command that it names is the one to run, whatever started this one.
    command = shlex.split(table.splitlines()[-1].removeprefix("Try next: "))
    assert Path(command[-3]).is_file() and command[-4:-3] == ["evaluate"]
    assert command[:-4] == shlex.split(invocation.typed())


def test_demo_does_not_touch_threads_or_random_state(tmp_path):
    torch.set_num_threads(2)
    state = torch.random.get_rng_state()
    demo.demonstrate(tmp_path, 0, demo.Plan(epochs=1, num_shots=1, methods=("l1",)))
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.random.get_rng_state(), state)


def test_interrupted_demo_says_what_was_kept(tmp_path, monkeypatch):
    def second_is_interrupted(method, *arguments):
        if method == "cd-soft":
            raise KeyboardInterrupt
        return execute(method, *arguments)

    monkeypatch.setattr(demo, "execute", second_is_interrupted)
    with pytest.raises(KeyboardInterrupt, match="teacher.safetensors, samples.json, l1.safetens"):
        demo.demonstrate(tmp_path, 0, TINY)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "l1.safetensors", "samples.json", "teacher.safetensors",
    ]  # fmt: skip
