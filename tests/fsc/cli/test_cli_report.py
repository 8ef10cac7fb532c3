"""`fsc compress --report` and `--latency`: the page, the times, and what is refused."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from image_folders import write_classes
from well_formed import Page

from fsc.cli import gains, invocation, pages, timing
from fsc.cli.evaluation import Measured
from fsc.networks.latency import largest_layer


@pytest.fixture(autouse=True)
def _faster(monkeypatch):
    """Students take three quarters of the teacher's time, whatever else the machine does."""
    timed(monkeypatch, (0.75, 30.0), (1.0, 40.0))


def timed(monkeypatch, student, teacher):
    shares = ((0.7, 0.8), (0.7, 0.8))
    found = timing.Times(student, teacher, shares)
    monkeypatch.setattr(timing, "times", lambda *_, is_compiled: found)


@pytest.fixture
def compress(fsc, on_digits, tmp_path):
    def run(*flags, method="l1"):
        given = ("--method", method, "--shots", 1, "--output", tmp_path / "out", *flags)
        return fsc("compress", *on_digits, *given)

    return run


def report_in(folder):
    return json.loads((folder / "out" / "report.json").read_text())


def test_a_page_is_written_beside_the_student(compress, tmp_path, monkeypatch):
    monkeypatch.setenv("FSC_DATA", "/some where")
    path = tmp_path / "pages" / "student.html"
    result = compress("--test-images", 60, "--report", path, method="cd-nc")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == f"Written: {path}"
    assert [file.name for file in path.parent.iterdir()] == ["student.html"]
    page, report = Page(path.read_text(encoding="utf-8")), report_in(tmp_path)
    assert "resnet14, compressed by the method cd-nc" in page.text
    assert "each layer: student's input to teacher's output" in page.text
    assert "FSC_DATA='/some where' fsc compress --model resnet14 --data digits" in page.text
    assert f"--report {path}" in page.text
    assert page.row("right answers (top\u20111)")[:2] == [
        f"{report['top1_teacher']:.2f} %",
        f"{report['top1']:.2f} %",
    ]
    assert page.row("size of the file")[1] == f"{report['kilobytes']:,.0f} kB"
    assert page.row("time for 64 images at once") == ["40.0 ms", "30.0 ms", "75 %"]
    assert "60 of the 500 test images of digits" in page.text
    assert "on one thread" in page.text and "Nothing is compiled." in page.text
    assert "The student's BatchNorm is part of its convolutions" in page.text
    assert "10 images of digits, 1 of each class, drawn with seed 0." in page.text
    assert page.count("img") == 10


def test_the_command_on_the_page_runs_as_it_is_pasted(fsc, compress, tmp_path):
    assert compress("--no-evaluate", "--report", tmp_path / "a.html").exit_code == 0
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    pasted = re.search(r"that it wrote:.*?fsc (compress .*?a\.html)", page.text, re.DOTALL)[1]
    assert "--overwrite" in fsc(*shlex.split(pasted)).output
    again = fsc(*shlex.split(pasted), "--overwrite")
    assert again.exit_code == 0, again.output
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert f"fsc {pasted}" in page.text and page.text.count("--overwrite") == 1


def test_without_evaluation_the_page_says_so(compress, tmp_path):
    result = compress("--no-evaluate", "--report", tmp_path / "a.html")
    assert result.exit_code == 0, result.output
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert "Right answers were not counted." in page.text
    assert not [cells for cells in page.rows if "top-1" in cells[0]]


def test_latency_is_in_the_table_and_the_report(compress, tmp_path):
    result = compress("--no-evaluate", "--latency")
    assert result.exit_code == 0, result.output
    assert "ms of 64" in result.stdout and "for 64 images at once" in result.stdout
    report = report_in(tmp_path)
    assert (report["milliseconds"], report["milliseconds_teacher"]) == (0.75, 1.0)
    assert (report["milliseconds_batch"], report["milliseconds_batch_teacher"]) == (30.0, 40.0)
    assert report["warnings"] == [] and "warning" not in result.stderr


def test_without_latency_no_batch_is_timed(compress, tmp_path):
    assert "ms of 64" not in compress("--no-evaluate").stdout
    assert "milliseconds_batch" not in report_in(tmp_path)


def test_a_student_that_is_smaller_and_not_faster_is_named(compress, tmp_path, monkeypatch):
    timed(monkeypatch, (0.98, 30.0), (1.0, 40.0))
    result = compress("--no-evaluate", "--latency", "--report", tmp_path / "a.html")
    sentence = (
        "student is smaller and not faster: 0.98 ms for one image where the teacher takes 1.00; "
        "what may help: --round-to 8 leaves numbers of channels that processors are quick at, "
        "--drop-blocks leaves whole blocks out, --flops with a lower share more channels"
    )
    assert f"warning: {sentence}" in result.stderr.splitlines()
    assert report_in(tmp_path)["warnings"] == [sentence]
    assert sentence in Page((tmp_path / "a.html").read_text(encoding="utf-8")).text


ALONE, BATCH = "milliseconds", "milliseconds_batch"
MEASURED = Measured(0, None, (1.0, 1.0), {ALONE: (1.0, 1.0), BATCH: (65.0, 60.0)})


class Cost:
    """Of a report."""

    def __init__(self, flops, nonzero):
        self.flops, self.flops_teacher = flops, 100
        self.nonzero, self.parameters_teacher = nonzero, 100


@pytest.mark.parametrize(
    ("measured", "cost", "round_to", "said"),
    [
        (MEASURED, (50, 50), 1, ["for one image where", "65.00 ms for 64 images", "--round-to 8"]),
        (MEASURED, (50, 50), 16, ["for one image where", "--drop-blocks"]),
        (MEASURED, (100, 10), 1, ["--flops 0.5 removes channels", "multiplied like"]),
        (MEASURED, (100, 100), 1, None),
        (
            replace(MEASURED, times={ALONE: (0.9, 1.0), BATCH: (65, 60)}),
            (50, 50),
            1,
            ["65.00 ms for 64 images at once"],
        ),
        (replace(MEASURED, times={ALONE: (0.9, 1.0)}), (50, 50), 1, None),
        (replace(MEASURED, times={ALONE: (0.9, 1), BATCH: (58, 60)}), (50, 9), 1, None),
    ],
)
def test_what_may_help(measured, cost, round_to, said):
    found = gains.doubt(measured, Cost(*cost), round_to)
    assert (found is None) == (said is None)
    assert all(each in found for each in said or ())
    assert found is None or ("--round-to 8" in found) == (round_to == 1 and cost[0] < 100)


def test_a_batch_that_memory_has_no_room_for_is_left_out_and_said(compress, tmp_path, monkeypatch):
    monkeypatch.setattr(gains, "_free", lambda device: 1000)
    result = compress("--no-evaluate", "--latency", "--report", tmp_path / "a.html")
    assert result.exit_code == 0, result.output
    said = "not timed for 64 images: they need about 0.0 GB, 0.0 GB are free"
    assert said in " ".join(result.stdout.split()) and "ms of 64" not in result.stdout
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert "Not timed for 64 images: they need about" in page.text
    assert not [cells for cells in page.rows if "64 images" in cells[0]]
    assert report_in(tmp_path)["milliseconds"] > 0


def test_what_a_batch_needs_is_weighed_on_one_image():
    from torch import nn, zeros

    class Named(nn.Module):
        def forward(self, x):
            return {"a": x, "b": (x, x)}

    network = nn.Sequential(nn.Conv2d(1, 4, 1), Named())
    assert largest_layer(network, zeros(1, 1, 3, 3)) == 4 * 4 * 4 * 9
    assert not network[0]._forward_hooks


@pytest.mark.parametrize("name", ["page", "page.htm", "page.pdf", "page.json"])
def test_refuses_a_page_of_another_kind_before_any_work(compress, tmp_path, name):
    result = compress("--report", tmp_path / name)
    assert result.exit_code == 2 and not (tmp_path / "out").exists()
    assert result.stderr.splitlines()[-1] == (
        f"error: --report must name a file in .html, got {tmp_path / name}"
    )


def test_refuses_a_folder(compress, tmp_path):
    result = compress("--report", tmp_path)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        f"error: --report must name a file, got {tmp_path}, which is a folder"
    )


def test_refuses_to_replace_a_page(compress, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("mine")
    result = compress("--report", path)
    assert result.exit_code == 2 and not (tmp_path / "out").exists()
    assert result.stderr.splitlines()[-1] == (
        f"error: --report must name a new file, got {path}, which exists: give --overwrite or name "
        "another"
    )
    assert path.read_text() == "mine"
    assert compress("--no-evaluate", "--report", path, "--overwrite").exit_code == 0
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_refuses_a_folder_that_cannot_be_written_before_any_work(compress, tmp_path):
    (tmp_path / "file").touch()
    result = compress("--report", tmp_path / "file" / "page.html")
    assert result.exit_code == 2 and not (tmp_path / "out").exists()
    assert result.stderr.splitlines()[-1] == (
        f"error: --report must name a place that can be written, got "
        f"{tmp_path / 'file' / 'page.html'}: Not a directory"
    )


def test_a_disk_that_fills_up_costs_the_page_alone(compress, tmp_path, monkeypatch):
    def full(path, writer):
        raise OSError(f"file {path} cannot be written: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pages, "write_atomically", full)
        result = compress("--no-evaluate", "--report", tmp_path / "a.html")
    assert result.exit_code == 2 and (tmp_path / "out" / "model.safetensors").exists()
    assert result.stderr.splitlines()[-1] == (
        f"error: file {tmp_path / 'a.html'} cannot be written: No space left on device; the "
        f"student is in {tmp_path / 'out'}; only this is missing: go on with --resume, or delete "
        f"{tmp_path / 'out' / 'unfinished'} to keep the student as it is"
    )
    again = compress("--no-evaluate", "--report", tmp_path / "a.html", "--resume")
    assert again.exit_code == 0, again.output
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert "--resume" not in page.text, "repeated from the beginning"


def test_images_of_a_folder_with_a_hostile_name(fsc, tmp_path, monkeypatch):
    folder = tmp_path / "<b>&\"cats'"
    write_classes(folder, tuple("abcdefghij"), count=1)
    result = fsc(
        *("compress", "--model", "resnet14", "--data", f"folder:{folder}", "--method", "l1"),
        *("--checkpoint", own_teacher(tmp_path), "--pruning-ratio", 0.4, "--shots", 1),
        *("--output", tmp_path / "out", "--no-evaluate", "--report", tmp_path / "a.html"),
    )
    assert result.exit_code == 0, result.output
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert f"10 images of {folder.name}, 1 of each class" in page.text
    assert page.count("b") == 0 and page.count("img") == 10


def own_teacher(folder: Path) -> Path:
    from fsc import models
    from fsc.networks import checkpoint

    path = folder / "teacher.safetensors"
    checkpoint.save(models.build("resnet14"), path, name="resnet14")
    return path


def test_several_processes_are_part_of_the_command(monkeypatch):
    import click

    monkeypatch.delenv("FSC_DATA", raising=False)
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with click.Context(click.Command("fsc")) as context:
        context.meta[invocation.TYPED] = ["compress", "--output", "a b", "--resume"]
        assert shlex.split(invocation.repeated()) == [
            *("torchrun", "--nproc-per-node", "2", "-m", "fsc", "compress", "--output", "a b")
        ]
