"""`fsc sweep` on a small teacher."""

import json
from dataclasses import replace

import pytest

from fsc.cli import repeated
from fsc.cli.run import execute


@pytest.fixture
def sweep(fsc, small_on_digits, tmp_path):
    def run(over, values, *arguments):
        return fsc("sweep", *small_on_digits, "--over", over, "--values", values, "--seeds", 2,
                   "--test-images", 100, "--json", tmp_path / "runs.json", *arguments)  # fmt: skip

    return run


def read(tmp_path):
    return json.loads((tmp_path / "runs.json").read_text())


def sentence(result):
    assert result.exit_code == 2, result.output
    return result.stderr.splitlines()[-1].removeprefix("error: ")


def test_steps_of_two_methods(sweep, tmp_path):
    figure = tmp_path / "figure.png"
    result = sweep("steps", "3,1", "--shots", 1, "--method", "mir-after", "--method", "kd",
                   "--output", figure)  # fmt: skip
    assert result.exit_code == 0, result.output
    content = read(tmp_path)
    assert (content["over"], content["shots"], content["mir_steps"]) == ("steps", 1, None)
    order = [(run["seed"], run["value"], run["method"]) for run in content["runs"]]
    methods = ("mir-after", "kd")
    assert order == [(s, v, m) for s in (0, 1) for v in (1, 3) for m in methods]
    assert {run["learning_rate"] for run in content["runs"]} == {0.02, 0.001}
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert result.stdout.endswith(f"Written: {tmp_path / 'runs.json'}, {figure}\n")
    found = [run["top1"] for run in content["runs"] if run["method"] == "kd" and run["value"] == 3]
    assert f"{sum(found) / 2:.2f} ± " in result.stdout and "95 %" in result.stdout
    lines = [line for line in result.stdout.splitlines() if str(tmp_path) not in line]
    assert max(map(len, lines)) <= 80


def test_steps_of_the_default(sweep, tmp_path, monkeypatch):
    steps = []

    def watched(method, inputs, sample, settings, *arguments):
        steps.append(settings.method(method, inputs).train.steps)
        return execute("l1", inputs, sample, settings, *arguments)

    monkeypatch.setattr(repeated, "execute", watched)
    result = sweep("steps", "3,1", "--shots", 1, "--method", "default")
    assert result.exit_code == 0, result.output
    assert steps == [1, 3] * 2


def test_passes_of_fskd_beside_a_level(sweep, tmp_path, monkeypatch):
    passes = []

    def watched(method, inputs, sample, settings, *arguments):
        if method == "fskd":
            passes.append(settings.method(method, inputs).iterations)
        return execute(method, inputs, sample, settings, *arguments)

    monkeypatch.setattr(repeated, "execute", watched)
    given = ("--shots", 1, "--method", "fskd", "--method", "l1")
    result = sweep("iterations", "1,2", *given, "--output", tmp_path / "figure.png")
    assert result.exit_code == 0, result.output
    assert passes == [1, 2] * 2
    runs = [(run["method"], run["seed"], run["value"]) for run in read(tmp_path)["runs"]]
    assert sorted(runs) == [
        *(("fskd", seed, value) for seed in (0, 1) for value in (1, 2)),
        *(("l1", seed, 0) for seed in (0, 1)),
    ]
    lines = [line for line in result.stdout.splitlines() if "–" in line]
    assert [line.split()[:2] for line in lines] == [["fskd", "1"], ["fskd", "2"], ["l1", "-"]]
    more = sweep("iterations", "1,2,3", *given, "--resume")
    assert more.exit_code == 0 and passes[4:] == [3] * 2


def test_rates_are_those_that_methods_are_given(sweep, tmp_path, monkeypatch):
    rates = []

    def watched(method, inputs, sample, settings, *arguments):
        rates.append(settings.method(method, inputs).learning_rate)
        return execute(method, inputs, sample, settings, *arguments)

    monkeypatch.setattr(repeated, "execute", watched)
    result = sweep("rate", "0.01,0.02", "--shots", 1, "--mir-steps", 1)
    assert result.exit_code == 0, result.output
    assert rates == [0.01, 0.02] * 2
    assert [run["learning_rate"] for run in read(tmp_path)["runs"]] == rates


def test_a_rate_that_was_halved_is_marked(sweep, tmp_path):
    result = sweep("rate", "0.02,1000", "--shots", 1, "--mir-steps", 2)
    slowed = [run for run in read(tmp_path)["runs"] if run["learning_rate"] != run["value"]]
    assert {run["value"] for run in slowed} == {1000}
    assert "1000 *" in result.stdout
    assert "*: diverged in some draw, and was run again at half the rate" in result.stdout


def test_ruined_students_are_marked(sweep, tmp_path, monkeypatch):
    def spoiled(method, inputs, sample, settings, *arguments):
        run = execute(method, inputs, sample, settings, *arguments)
        steps = settings.mir_steps
        if steps == 2:  # as a FitNet that always gives one class
            return replace(run, accuracy=replace(run.accuracy, top1=10.0))
        report = replace(run.report, distance_start=0.5, distance=3.0 if steps == 3 else 0.4)
        if steps == 4:
            report = replace(report, learning_rates=[0.02, 0.01])
        return replace(run, accuracy=replace(run.accuracy, top1=90.0), report=report)

    monkeypatch.setattr(repeated, "execute", spoiled)
    given = ("--shots", 1, "--seeds", 1, "--method", "mir-before", "--method", "kd")
    result = sweep("steps", "1,2,3,4", *given)
    assert result.exit_code == 0, result.output
    ruined = {(run["method"], run["value"]) for run in read(tmp_path)["runs"] if run["ruined"]}
    # Labels may lead away from a teacher.
    assert ruined == {("mir-before", 2), ("mir-before", 3), ("kd", 2)}
    assert "2 †" in result.stdout and "3 †" in result.stdout and "4 *" in result.stdout
    assert "†: ruined in some draw" in result.stdout
    assert "*: diverged in some draw, and was run again" in result.stdout
    again = sweep("steps", "1,2,3,4", *given, "--resume")
    assert again.stdout == result.stdout


@pytest.mark.parametrize("over", ["shots", "images"])
def test_smaller_samples_are_part_of_larger_ones(sweep, over, monkeypatch):
    drawn = {}

    def watched(method, inputs, sample, *arguments):
        number = sample.num_shots or sample.num_images
        drawn[number, sample.seed] = set(sample.indices)
        return execute(method, inputs, sample, *arguments)

    monkeypatch.setattr(repeated, "execute", watched)
    result = sweep(over, "1,2,4", "--method", "grail")
    assert result.exit_code == 0, result.output
    for seed in (0, 1):
        assert drawn[1, seed] < drawn[2, seed] < drawn[4, seed]
    assert drawn[4, 0] != drawn[4, 1]


def test_interrupted_and_taken_up_with_more_values(sweep, tmp_path, monkeypatch):
    calls = []

    def second_is_interrupted(method, inputs, sample, *arguments):
        calls.append(sample.num_images)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return execute(method, inputs, sample, *arguments)

    monkeypatch.setattr(repeated, "execute", second_is_interrupted)
    result = sweep("images", "2,3", "--method", "grail")
    assert result.exit_code == 130 and "1 run is in" in result.stderr
    first = read(tmp_path)["runs"]
    result = sweep("images", "2,3,4", "--method", "grail", "--resume")
    assert result.exit_code == 0, result.output
    assert calls[2:] == [3, 4, 2, 3, 4] and read(tmp_path)["runs"][0] == first[0]


def test_a_comparison_is_no_sweep_and_the_other_way(fsc, small_on_digits, sweep, tmp_path):
    path = tmp_path / "runs.json"
    compare = ("compare", *small_on_digits, "--shots", 1, "--seeds", 1, "--method", "l1",
               "--test-images", 100, "--json", path)  # fmt: skip
    assert fsc(*compare).exit_code == 0
    given = ("rate", "0.01", "--shots", 1, "--resume")
    ways = "name another file, or give --overwrite instead of --resume"
    assert sentence(sweep(*given)) == (
        f"--resume must go on with runs of fsc sweep, got {path} of fsc compare; {ways}"
    )
    assert sweep(*given[:-1], "--mir-steps", 2, "--overwrite", "--seeds", 1).exit_code == 0
    assert sentence(fsc(*compare, "--resume")) == (
        f"--resume must go on with runs of fsc compare, got {path} of fsc sweep; {ways}"
    )
    other = ("steps", "1", "--shots", 1, "--resume")
    assert (
        sentence(sweep(*other))
        == f"--over must be that of the runs in {path}, rate, got steps; {ways}"
    )


@pytest.mark.parametrize(
    ("over", "values", "arguments", "expected"),
    [
        ("steps", "1,2", ("--shots", 1, "--method", "cd-nc", "--method", "kd"),
         "--method must have what is swept with --over steps, one of default, mir-before, "
         "mir-after, mir-progressive, bp, kd, fitnet, got cd-nc"),
        ("rate", "1", ("--shots", 1, "--method", "l1"),
         "--method must have what is swept with --over rate, one of mir-before, mir-after, "
         "mir-progressive, bp, kd, fitnet, got l1"),
        ("iterations", "1,2", ("--shots", 1, "--method", "fskd-sgd", "--method", "kd"),
         "--method must have what is swept with --over iterations, one of fskd, got fskd-sgd, kd"),
        ("iterations", "1.5", ("--shots", 1, "--method", "fskd"),
         "--values must be whole numbers for --over iterations, got 1.5"),
        ("steps", "1.5", ("--shots", 1),
         "--values must be whole numbers for --over steps, got 1.5"),
        ("shots", "0.5", (), "--values must be whole numbers for --over shots, got 0.5"),
        ("steps", "1,,2", ("--shots", 1),
         "--values must be positive numbers between commas, as in 100,200,400, got 1,,2"),
        ("steps", "0,2", ("--shots", 1),
         "--values must be positive numbers between commas, as in 100,200,400, got 0,2"),
        ("steps", "1", (), "Give either --shots or --images, got none."),
        ("shots", "1", ("--shots", 1),
         "--shots must be left out with --over shots, whose --values say it, got 1."),
        ("images", "1", ("--shots", 1),
         "--shots must be left out with --over images, whose --values say it, got 1."),
        ("images", "5", ("--ways", 2),
         "--ways must be left out with --over images, which are of any class, got 2."),
        ("steps", "1", ("--shots", 1, "--mir-steps", 3),
         "--mir-steps must be left out with --over steps, whose --values it is, got 3"),
        ("rate", "0.1", ("--shots", 1, "--method", "mir-progressive"),
         "--scheme must remove single weights for --method mir-progressive, as sparse-90 does, got "
         "'half'"),
        ("shots", "1,1000", ("--method", "l1"),
         "--values must not exceed the 128 images of class 0, got 1000"),
        ("images", "1,5000", ("--method", "l1"),
         "--values must lie between 1 and the 1297 images there are, got 5000"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_sentence(sweep, tmp_path, over, values, arguments, expected):
    assert sentence(sweep(over, values, *arguments)) == expected
    assert not list(tmp_path.iterdir())


def test_resume_needs_a_file(fsc, on_digits):
    given = ("--over", "images", "--values", "2", "--resume")
    assert "--resume needs --json" in sentence(fsc("sweep", *on_digits, *given))


def test_a_value_that_diverges_is_left_out_and_the_others_stay(fsc, small_on_digits, tmp_path):
    result = fsc(
        "sweep", *small_on_digits, "--shots", 1, "--seeds", 1, "--over", "rate",
        "--values", "0.001,1e30", "--mir-steps", 2, "--json", tmp_path / "runs.json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "left out: learning_rate must be small enough" in said
    assert [run["value"] for run in json.loads((tmp_path / "runs.json").read_text())["runs"]] == [
        0.001
    ]
