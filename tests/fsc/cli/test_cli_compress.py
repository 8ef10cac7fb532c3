import json
import tempfile

import pytest
import torch
from full_disk import fill_disk

from fsc.cli import compress as cli_compress, evaluation, outputs
from fsc.images import data, sampling
from fsc.methods.journal import Journal
from fsc.model_folder import from_pretrained
from fsc.networks import checkpoint


@pytest.fixture(scope="module")
def compressed(fsc, on_digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compressed") / "out"
    result = fsc("compress", *on_digits, "--method", "cd-soft", "--shots", 3, "--output", folder)
    assert result.exit_code == 0, result.output
    return folder, result


def test_writes_model_card_report_and_sample_and_nothing_else(compressed):
    folder, _ = compressed
    assert sorted(path.name for path in folder.iterdir()) == [
        *("README.md", "config.json", "model.safetensors", "report.json", "samples.json")
    ]


def test_the_folder_is_one_of_from_pretrained(compressed, fsc):
    folder, _ = compressed
    student = from_pretrained(folder).state_dict()
    saved = checkpoint.load(folder / "model.safetensors").state_dict()
    assert all(torch.equal(value, saved[key]) for key, value in student.items())
    config = folder / "config.json"
    said = config.read_text()
    config.write_text(said.replace("resnet14", "resnet20"))
    refused = fsc("evaluate", folder, "--data", "digits")
    config.write_text(said)
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1] == (
        f"error: {config}: model must be as in the header of model.safetensors, 'resnet14', got "
        "'resnet20'"
    )


def test_the_card_has_the_accuracy_that_was_measured(compressed):
    folder, _ = compressed
    report = json.loads((folder / "report.json").read_text())
    card = (folder / "README.md").read_text()
    on = f"on {report['test_images']} test images of digits"
    assert f"| top-1 % of the student {on} | {report['top1']:.2f} |" in card
    assert f"| top-1 % of the teacher {on} | {report['top1_teacher']:.2f} |" in card
    assert (
        "Made by the method `cd-soft`, scheme `res-50`, seed 0, from 30 images of digits." in card
    )


def test_report_holds_what_was_done(compressed):
    folder, _ = compressed
    report = json.loads((folder / "report.json").read_text())
    assert report["method"] == "cd-soft" and report["scheme"] == "res-50"
    assert (report["shots"], report["seed"], report["num_images"]) == (3, 0, 30)
    assert report["hyper_parameters"]["objective"] == {"type": "Soft", "alpha": 0.9, "beta": 0.5}
    assert report["parameters"] < report["parameters_teacher"]
    assert report["flops"] < report["flops_teacher"]
    assert report["versions"]["torch"] == torch.__version__
    assert {layer["name"] for layer in report["layers"]} >= {"layer1.0.conv2", "layer2.1.conv2"}
    sample = sampling.FewShotSample.load(folder / "samples.json")
    assert report["sample_indices"] == sample.indices
    drawn = sampling.sample_per_class(data.load("digits", "train").labels, 3, 0, "digits")
    assert sample == drawn


def test_batch_norm_is_kept_where_it_is_asked_for(fsc, on_digits, compressed, tmp_path):
    given = ("--method", "cd-soft", "--shots", 3, "--keep-batch-norm", "--output", tmp_path / "out")
    assert fsc("compress", *on_digits, *given).exit_code == 0
    folded, kept = (
        checkpoint.load(folder / "model.safetensors")
        for folder in (compressed[0], tmp_path / "out")
    )
    images = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(kept(images), folded(images), rtol=1e-4, atol=1e-4)
    assert "layer1.0.bn1.running_mean" in kept.state_dict()
    assert "layer1.0.bn1.running_mean" not in folded.state_dict()
    said = fsc("evaluate", tmp_path / "out", "--data", "digits")
    top1 = json.loads((tmp_path / "out" / "report.json").read_text())["top1"]
    assert said.exit_code == 0 and f"{top1:.2f}" in said.stdout


def test_evaluate_gives_the_accuracy_that_compress_measured(compressed, fsc):
    folder, result = compressed
    report = json.loads((folder / "report.json").read_text())
    assert f"{report['top1']:.2f}" in result.stdout
    again = fsc("evaluate", folder / "model.safetensors", "--data", "digits")
    assert again.exit_code == 0
    row = next(line for line in again.stdout.splitlines() if line.strip().startswith("model "))
    low, high = report["top1_interval"]
    assert row.split()[1:5] == [
        f"{report['top1']:.2f}",
        f"{low:.1f}–{high:.1f}",
        f"{report['parameters']:,}",
        f"{(folder / 'model.safetensors').stat().st_size / 1000:,.0f}",
    ]


def test_model_carries_its_name_and_normalization(compressed):
    folder, _ = compressed
    header = checkpoint.read_metadata(folder / "model.safetensors")
    assert (header["model"], header["data"], header["method"]) == ("resnet14", "digits", "cd-soft")
    assert header["normalization"] == {"mean": [0.305], "std": [0.376]}


def test_teacher_is_evaluated_by_its_name(fsc, teacher_file, compressed):
    folder, _ = compressed
    result = fsc("evaluate", teacher_file, "--model", "resnet14", "--data", "digits")
    report = json.loads((folder / "report.json").read_text())
    assert result.exit_code == 0 and f"{report['top1_teacher']:.2f}" in result.stdout


def test_shows_the_worst_layers_and_all_on_request(compressed, fsc, on_digits, tmp_path):
    folder, result = compressed
    layers = json.loads((folder / "report.json").read_text())["layers"]
    worst = max(layers, key=lambda layer: layer["relative_error"])
    best = min(layers, key=lambda layer: layer["relative_error"])
    assert worst["name"] in result.stdout and best["name"] not in result.stdout
    whole = fsc("compress", *on_digits, "--method", "cd-soft", "--shots", 3, "--layers",
                "--output", tmp_path / "all")  # fmt: skip
    assert all(layer["name"] in whole.stdout for layer in layers)


def test_images_in_all_instead_of_shots(fsc, on_digits, tmp_path):
    result = fsc("compress", *on_digits, "--method", "l1", "--images", 7,
                 "--output", tmp_path)  # fmt: skip
    assert result.exit_code == 0, result.output
    sample = sampling.FewShotSample.load(tmp_path / "samples.json")
    assert (sample.num_shots, sample.num_images) == (None, 7)


@pytest.mark.parametrize(
    ("arguments", "got"),
    [([], "none"), (["--shots", 1, "--images", 5], "--shots 1 and --images 5")],
)
def test_asks_for_one_of_shots_and_images(fsc, on_digits, tmp_path, arguments, got):
    result = fsc("compress", *on_digits, "--method", "l1", *arguments, "--output", tmp_path / "x")
    assert result.exit_code == 2
    assert f"Give either --shots or --images, got {got}." in result.stderr
    assert not (tmp_path / "x").exists()


def test_batch_size_and_memory_budget_do_not_change_the_student(fsc, on_digits, tmp_path):
    students = []
    for name, extra in (("a", []), ("b", ["--batch-size", 7, "--memory-budget", 0])):
        result = fsc("compress", *on_digits, "--method", "cd-nc", "--shots", 2, *extra,
                     "--output", tmp_path / name)  # fmt: skip
        assert result.exit_code == 0, result.output
        students.append(checkpoint.load(tmp_path / name / "model.safetensors").state_dict())
    for key, value in students[0].items():
        torch.testing.assert_close(value, students[1][key], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("failing", outputs.STUDENT)
def test_a_full_disk_leaves_the_folder_as_it_was(fsc, on_digits, tmp_path, monkeypatch, failing):
    """Whichever of the files does not fit; an earlier run's files stay together."""
    earlier = {name: f"earlier {name}" for name in ("model.safetensors", "report.json")}
    for name, text in earlier.items():
        (tmp_path / name).write_text(text)
    fill_disk(monkeypatch, failing.split(".")[0])
    result = fsc("compress", *on_digits, "--method", "l1", "--shots", 1, "--output", tmp_path,
                 "--overwrite")  # fmt: skip
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        f"error: file {tmp_path / failing} cannot be written: No space left on device; the student "
        f"could not be kept in {tempfile.gettempdir()} either"
    )
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == earlier


def interrupted(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_interrupted_run_leaves_no_file(fsc, on_digits, tmp_path, monkeypatch):
    monkeypatch.setattr(cli_compress, "make_student", interrupted)
    result = fsc("compress", *on_digits, "--method", "l1", "--shots", 1, "--output", tmp_path)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "interrupted: nothing was written"
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_goes_on_with_the_same_bits(fsc, on_digits, tmp_path, monkeypatch):
    arguments = ["compress", *on_digits, "--method", "cd-soft", "--shots", 1, "--output"]
    assert fsc(*arguments, tmp_path / "whole").exit_code == 0
    add, solved = Journal.add, []

    def add_three(self, name, solution):
        add(self, name, solution)
        solved.append(name)
        if len(solved) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "add", add_three)
    result = fsc(*arguments, tmp_path / "parts")
    assert result.exit_code == 130
    assert "Compressing resnet14 by the method cd-soft, " in " ".join(result.stderr.split())
    journal = tmp_path / "parts" / "unfinished"
    assert result.stderr.splitlines()[-1] == (
        f"interrupted: 3 solved layers are in {journal}; go on with --resume"
    )
    assert fsc(*arguments, tmp_path / "parts", "--resume").exit_code == 0
    assert not set(solved[:3]) & set(solved[3:]) and not journal.exists()
    whole, parts = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts")
    )
    assert whole == parts


def test_interrupted_evaluation_keeps_the_student(fsc, on_digits, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "accuracy_on_test", interrupted)
    result = fsc("compress", *on_digits, "--method", "l1", "--shots", 1, "--output", tmp_path)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1].startswith(f"interrupted: the student is in {tmp_path};")
    student = checkpoint.load(tmp_path / "model.safetensors")
    assert student.layer1[0].conv1.out_channels == 9
    assert "top1" not in json.loads((tmp_path / "report.json").read_text())
    assert "No accuracy was measured." in (tmp_path / "README.md").read_text()


def test_steps_are_refused_for_a_method_without_any_also_when_a_run_goes_on(compress_digits):
    result = compress_digits("l1", "--flops", 0.5, "--mir-steps", 2, "--resume")
    assert result.exit_code == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: --mir-steps must go with --method ") and last.endswith(
        ", got 2 for l1"
    )
