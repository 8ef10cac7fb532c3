import functools
import json
import math

import numpy as np
import pytest

from fsc.cli import repeated
from fsc.cli.comparison import Comparison
from fsc.cli.record import Record
from fsc.cli.run import execute

METHODS = ["--method", "l1", "--method", "cd-nc", "--method", "mir-after"]


@pytest.fixture(scope="module")
def compare_into(fsc, small_on_digits):
    def run(folder, *arguments):
        return fsc("compare", *small_on_digits, "--shots", 2, "--seeds", 2, *METHODS,
                   "--mir-steps", 2, "--json", folder / "runs.json", *arguments)  # fmt: skip

    return run


@pytest.fixture
def compare(compare_into, tmp_path):
    return functools.partial(compare_into, tmp_path)


@pytest.fixture(scope="module")
def finished(compare_into, tmp_path_factory):
    """The folder of a comparison, what it said, and every method with the accuracy it was given."""
    folder, known = tmp_path_factory.mktemp("finished"), []

    def watched(method, *arguments):
        known.append((method, arguments[-1]))
        return execute(method, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeated, "execute", watched)
        result = compare_into(folder, "--output", folder / "figure.png")
    return folder, result, known


def read(tmp_path):
    return json.loads((tmp_path / "runs.json").read_text())


def test_json_holds_every_run(finished):
    folder, result, _ = finished
    assert result.exit_code == 0, result.output
    content = read(folder)
    assert content["model"].endswith("net.py:digits")
    assert (content["data"], content["shots"]) == ("digits", 2)
    assert 0 < content["top1_teacher"] <= 100 and "torch" in content["versions"]
    pairs = [(run["method"], run["seed"]) for run in content["runs"]]
    assert pairs == [(m, s) for s in (0, 1) for m in ("l1", "cd-nc", "mir-after")]
    for run in content["runs"]:
        assert set(run) == {"method", "scheme", "shots", "seed", "top1", "seconds", "parameters",
                            "nonzero", "flops"}  # fmt: skip
        assert (run["scheme"], run["shots"]) == ("half", 2)
        assert 0 <= run["top1"] <= 100 and run["seconds"] > 0
        assert run["parameters"] < content["parameters_teacher"]
        assert run["flops"] < content["flops_teacher"]
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in folder.iterdir()) == ["figure.png", "runs.json"]


def test_augmentation_is_told_and_kept_apart(compare, tmp_path):
    result = compare("--augment", "hard:2", "--seeds", 1)
    assert result.exit_code == 0, result.output
    assert "augmented by hard:2" in " ".join(result.stdout.split())
    assert read(tmp_path)["augment"] == "hard:2"
    again = compare("--resume", "--seeds", 1)
    assert again.exit_code == 2
    assert "--augment must be that of the runs in" in " ".join(again.output.split())


def test_students_that_keep_batch_norm_stand_in_a_table_of_their_own(compare, tmp_path):
    result = compare("--keep-batch-norm", "--seeds", 1)
    assert result.exit_code == 0, result.output
    assert "BatchNorm kept" in " ".join(result.stdout.split())
    found = read(tmp_path)
    assert found["keep_batch_norm"] is True
    # All that cut the same channels are as large, whether they fold on the way or not.
    assert len({run["parameters"] for run in found["runs"]}) == 1
    again = compare("--resume", "--seeds", 1)
    assert again.exit_code == 2
    assert "--keep-batch-norm must be that of the runs in" in " ".join(again.output.split())


def test_latency_is_measured_where_it_is_asked_for(compare, tmp_path):
    result = compare("--latency", "--seeds", 1)
    assert result.exit_code == 0, result.output
    assert "ms of 64" in result.stdout and "for one image alone and for 64 at once" in result.stdout
    for run in read(tmp_path)["runs"]:
        for times in (run["milliseconds"], run["milliseconds_teacher"]):
            alone, batch = times
            assert 0 < alone < batch
    assert compare("--latency", "--seeds", 1, "--resume").stdout.count("ms of 64") == 1
    content = read(tmp_path)
    del content["latency"]
    (tmp_path / "runs.json").write_text(json.dumps(content))
    again = compare("--latency", "--seeds", 1, "--resume")
    assert again.exit_code == 2 and "its latency is null, not true" in " ".join(
        again.output.split()
    )


def test_table_gives_mean_and_deviation(finished):
    folder, result, _ = finished
    top1 = [run["top1"] for run in read(folder)["runs"] if run["method"] == "cd-nc"]
    mean = sum(top1) / 2
    std = math.sqrt(sum((value - mean) ** 2 for value in top1))
    assert f"{mean:.2f} ± {std:.2f}" in result.stdout
    # The path of a file is as long as it is.
    lines = [line for line in result.stdout.splitlines() if str(folder) not in line]
    assert max(map(len, lines)) <= 80
    assert "…" not in result.stdout


def test_data_free_student_is_evaluated_once(finished):
    *_, known = finished
    assert [top1 is None for method, top1 in known if method == "l1"] == [True, False]
    assert all(top1 is None for method, top1 in known if method != "l1")


def test_one_run_is_counted_as_one(compare, tmp_path, monkeypatch):
    def second_is_interrupted(method, *arguments):
        if method != "l1":
            raise KeyboardInterrupt
        return execute(method, *arguments)

    monkeypatch.setattr(repeated, "execute", second_is_interrupted)
    assert "interrupted: 1 run is in" in compare().stderr


def test_interrupted_comparison_keeps_its_runs_and_goes_on(compare, tmp_path, monkeypatch):
    calls = []

    def third_is_interrupted(method, *arguments):
        calls.append(method)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return execute(method, *arguments)

    monkeypatch.setattr(repeated, "execute", third_is_interrupted)
    result = compare()
    assert result.exit_code == 130
    assert "interrupted: 2 runs are in" in result.stderr and "--resume" in result.stderr
    first = read(tmp_path)
    assert [run["method"] for run in first["runs"]] == ["l1", "cd-nc"]
    assert [path.name for path in tmp_path.iterdir()] == ["runs.json"]

    resumed = compare("--resume")
    assert resumed.exit_code == 0, resumed.output
    assert calls[3:] == ["mir-after", "l1", "cd-nc", "mir-after"]
    content = read(tmp_path)
    assert content["runs"][:2] == first["runs"] and len(content["runs"]) == 6


def test_error_in_a_run_keeps_the_runs_before_it(compare, tmp_path, monkeypatch):
    def refuses_seed_one(method, inputs, sample, *arguments):
        if sample.seed == 1:
            raise RuntimeError("out of memory\nat some place")
        return execute(method, inputs, sample, *arguments)

    monkeypatch.setattr(repeated, "execute", refuses_seed_one)
    result = compare()
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "error: out of memory"
    assert [run["seed"] for run in read(tmp_path)["runs"]] == [0, 0, 0]


def test_resume_refuses_another_comparison(compare, tmp_path):
    compare("--seeds", 1, "--method", "l1")
    before = (tmp_path / "runs.json").read_bytes()
    result = compare("--resume", "--shots", 3)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        f"error: --shots must be that of the runs in {tmp_path / 'runs.json'}, 2, got 3; name "
        "another file, or give --overwrite instead of --resume"
    )
    assert (tmp_path / "runs.json").read_bytes() == before


def test_resume_without_a_file_starts_anew(compare, tmp_path):
    assert compare("--resume", "--seeds", 1).exit_code == 0
    assert len(read(tmp_path)["runs"]) == 3


def test_resume_needs_a_json_file(fsc, on_digits):
    result = fsc("compare", *on_digits, "--shots", 1, "--resume")
    assert result.exit_code == 2 and "--resume needs --json" in result.stderr


def test_real_images_and_checkpoint_are_found_by_name(fsc, data_root, tmp_path):
    (tmp_path / "cifar10").mkdir()
    for split, step in (("train5k", 25), ("test", 100)):
        with np.load(data_root / "cifar10" / f"cifar10_{split}.npz") as arrays:
            few = {key: arrays[key][::step] for key in ("images", "labels")}
            np.savez(
                tmp_path / "cifar10" / f"cifar10_{split}.npz", classes=arrays["classes"], **few
            )
    name = "checkpoints/cifar10_resnet20_akamaster.pt"
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / name).symlink_to(data_root / name)
    result = fsc("compare", "--model", "resnet20", "--data", "cifar10", "--data-root", tmp_path,
                 "--scheme", "res-50", "--shots", 2, "--seeds", 1, "--method", "l1",
                 "--method", "cd-soft", "--json", tmp_path / "runs.json")  # fmt: skip
    assert result.exit_code == 0, result.output
    content = read(tmp_path)
    l1, soft = (run["top1"] for run in content["runs"])
    assert content["top1_teacher"] > 85 and l1 < soft <= 100
    assert content["parameters_teacher"] == 269_722


def test_runs_of_a_comparison_are_found_by_method_and_seed(tmp_path):
    comparison = Comparison({"model": "any"}, None)
    record = Record("l1", "res-50", 5, 3, 80.0, 0.1, 10, 9, 20)
    comparison.add(record)
    assert comparison.find("l1", 3) is record
    assert comparison.find("l1", 0) is None and comparison.find("fskd", 3) is None
    assert comparison.of("l1", range(3)) == []


@pytest.mark.parametrize("verb", ["compare", "analyse", "sweep"])
def test_methods_that_cannot_take_the_scheme_are_told_before_the_first_run(
    verb, fsc, teacher_file, monkeypatch
):
    for module in ("repeated.execute", "analyse.make_student", "evaluation.teacher_accuracy"):
        monkeypatch.setattr(f"fsc.cli.{module}", lambda *given, **named: pytest.fail("it ran"))
    swept = ("--over", "iterations", "--values", "1") if verb == "sweep" else ()
    told = fsc(verb, "--model", "resnet14", "--data", "digits", "--checkpoint", teacher_file,
               "--scheme", "sparse-90", "--shots", 1, *swept, "--method", "l1",
               "--method", "fskd")  # fmt: skip
    assert told.exit_code == 2
    assert told.stderr.endswith(
        "error: --scheme must be structured for --method fskd, got 'sparse-90', which removes "
        "no channels; cross distillation and ProgressiveMiR take it\n"
    )
