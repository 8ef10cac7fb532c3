"""What `fsc compare --resume` takes up: runs of its table, each once, or none of them."""

import functools
import json
import math

import pytest

from fsc.cli.record import Record


@pytest.fixture(scope="module")
def compare_into(fsc, small_on_digits):
    def run(folder, *arguments):
        return fsc("compare", *small_on_digits, "--shots", 2, "--seeds", 2, "--method", "l1",
                   "--test-images", 9, "--json", folder / "runs.json", *arguments)  # fmt: skip

    return run


@pytest.fixture
def compare(compare_into, tmp_path):
    return functools.partial(compare_into, tmp_path)


@pytest.fixture(scope="module")
def content(compare_into, tmp_path_factory):
    """What the file of a comparison of two runs holds."""
    folder = tmp_path_factory.mktemp("finished")
    assert compare_into(folder).exit_code == 0
    return json.loads((folder / "runs.json").read_text())


def one_run(**wrong):
    run = Record("l1", "half", 2, 0, 80.0, 0.1, 10, 9, 20).to_dict()
    return json.dumps({"runs": [run | wrong]})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "runs.json is no JSON"),
        ('{"shots": 2}', "it has no list of runs"),
        ('{"runs": [{"method": "l1"}]}', "run 0 lacks scheme"),
        ('{"runs": [3]}', "run 0 is 3"),
        ('{"top1_teacher": "high", "runs": []}', 'its top1_teacher is "high"'),
        (one_run(top1="high"), 'run 0 has "high" as its top1'),
        (one_run(top1=math.nan), "run 0 has NaN as its top1"),
        (one_run(shots=2.5), "run 0 has 2.5 as its shots"),
        (one_run(milliseconds=[1, "2"]), 'run 0 has [1, "2"] as its milliseconds'),
        ('{"top1_teacher": 101, "runs": []}', "its top1_teacher must lie between 0 and 100, got 1"),
        ('{"test_images": "200", "runs": []}', 'test_images must be a number, got a text, "200"'),
        ('{"latency": 0, "runs": []}', "its latency must be true or false, got a number, 0"),
        (one_run(top1=100.5), "run 0 has 100.5 as its top1, which must lie between 0 and 100"),
        (one_run(top5=-1), "run 0 has -1 as its top5, which must lie between 0 and 100"),
        (one_run(seconds=-0.1), "run 0 has -0.1 as its seconds, which must be at least 0"),
        (one_run(flops=0), "run 0 has 0 as its flops, which must be at least 1"),
        (one_run(shots=0), "run 0 has 0 as its shots, which must be at least 1"),
        (one_run(seed=-1), "run 0 has -1 as its seed, which must be at least 0"),
        (
            one_run(milliseconds=[1]),
            "run 0 has [1] as its milliseconds, which must be two positive",
        ),
        (one_run(shares_of_time=[[1, 2], [2, 1]]), "which must be two positive times"),
    ],
)
def test_resume_refuses_a_file_that_is_no_comparison(compare, tmp_path, text, sentence):
    (tmp_path / "runs.json").write_text(text)
    result = compare("--resume")
    assert result.exit_code == 2 and sentence in result.stderr.splitlines()[-1]
    assert (tmp_path / "runs.json").read_text() == text


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"method": "magic"}, 'run 0 is by "magic", no method of fsc'),
        ({"shots": 3}, "run 0 has 3 as its shots, not 2"),
        ({"scheme": "res-60"}, 'run 0 has "res-60" as its scheme, not "half"'),
        ({"value": 1}, "run 0 has 1 as its value, unlike those of fsc compare"),
        ({"target": "--flops 1"}, 'run 0 has "--flops 1" as its target, unlike those of fsc comp'),
        ({"milliseconds": [1, 2]}, "run 0 has [1, 2] as its milliseconds, unlike those of fsc com"),
        ({"seed": 1}, "run 1 is of l1 with seed 1 as run 0 is"),
    ],
)
def test_resume_refuses_runs_that_are_none_of_the_comparison(
    compare, content, tmp_path, wrong, sentence
):
    path, (first, second) = tmp_path / "runs.json", content["runs"]
    path.write_text(text := json.dumps(content | {"runs": [first | wrong, second]}))
    result = compare("--resume")
    assert result.exit_code == 2 and result.stderr.splitlines()[-1].startswith(
        f"error: comparison file {path} must hold runs of one table, each once: {sentence}"
    )
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--shots", 3), "--shots must be that of the runs in {}, 2, got 3"),
        (
            ("--precision", "bfloat16"),
            "--precision must be that of the runs in {}, float32, got bf",
        ),
        (("--keep-batch-norm",), "--keep-batch-norm must be that of the runs in {}, none, got giv"),
        (("--mir-steps", 400), "--mir-steps must be that of the runs in {}, none, got 400"),
        (("--mir-steps", 3), "--mir-steps must be that of the runs in {}, none, got 3"),
    ],
)
def test_resume_names_what_is_to_be_typed(compare, content, tmp_path, flags, sentence):
    path = tmp_path / "runs.json"
    path.write_text(json.dumps(content))
    result = compare("--resume", *flags)
    assert result.exit_code == 2 and sentence.format(path) in result.stderr
