"""Students with decoupled layers, from the command line."""

import json

import pytest


def test_a_student_with_decoupled_layers_is_written_and_evaluated(compress_digits, fsc, tmp_path):
    assert compress_digits("l1", "--decouple", "1mix", "--ignore", "layer1*").exit_code == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(report["decoupled"].values()) == {1, 2}
    assert not any(name.startswith("layer1") for name in report["decoupled"])
    assert report["scheme"] == "decoupled-1mix" and report["flops"] < report["flops_teacher"]
    result = fsc("evaluate", tmp_path / "out", "--data", "digits", "--test-images", 9)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("method", "flags", "expected"),
    [
        ("cd-soft", ("--decouple", 2), "--decouple must go with --method seconds, default, "
         "quarter-hour, l1, fskd, fskd-sgd, mir-before, mir-after, bp, kd, fitnet, got 2 for "
         "cd-soft"),
        ("l1", ("--decouple", 8), "--decouple must fit resnet14, got 8: scheme 'decoupled-8': "
         "model must have convolutions with kernels larger than 1x1 that are cheaper"),
        ("l1", ("--decouple", 2, "--round-to", 4), "--round-to must go with --flops, --parameters "
         "or --pruning-ratio, got --round-to 4 with --decouple 2."),
    ],
)  # fmt: skip
def test_what_does_not_go_with_it_is_refused(compress_digits, method, flags, expected):
    result = compress_digits(method, *flags)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(f"error: {expected}")


def test_methods_are_compared_on_decoupled_layers(fsc, on_digits):
    where = tuple(each for each in on_digits if each not in ("--scheme", "res-50"))
    few = ("--shots", 2, "--seeds", 1, "--test-images", 9, "--mir-steps", 1)
    result = fsc("compare", *where, *few, "--method", "l1", "--method", "kd", "--decouple", 2)
    assert result.exit_code == 0, result.output
    assert "decoupled-2" in result.output
