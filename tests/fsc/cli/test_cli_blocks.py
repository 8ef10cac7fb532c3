"""Students without blocks, from the command line."""

import json

import pytest


def test_a_student_without_a_block_is_written_and_evaluated(compress_digits, fsc, tmp_path):
    assert compress_digits("l1", "--drop-blocks", 1).exit_code == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert len(report["dropped"]) == 1 and report["scheme"] == "blocks-1"
    assert report["flops"] < report["flops_teacher"]
    result = fsc("evaluate", tmp_path / "out", "--data", "digits", "--test-images", 9)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("method", "flags", "expected"),
    [
        ("cd-soft", ("--drop-blocks", 1), "--drop-blocks must go with --method default, "
         "quarter-hour, l1, mir-before, mir-after, got 1 for cd-soft"),
        ("l1", ("--drop-blocks", 99), "--drop-blocks must fit resnet14, got 99: scheme "
         "'blocks-99': count must be at most 4, the blocks of the model that can go, got 99"),
        ("l1", ("--drop-blocks", 1, "--round-to", 4), "--round-to must go with --flops, "
         "--parameters or --pruning-ratio, got --round-to 4 with --drop-blocks 1."),
        ("l1", ("--drop-blocks", 1, "--flops", 0.5), "At most one of --scheme, --flops, "
         "--parameters, --pruning-ratio, --drop-blocks, --decouple must be given, got --flops 0.5 "
         "and --drop-blocks 1."),
    ],
)  # fmt: skip
def test_what_does_not_go_with_it_is_refused(compress_digits, method, flags, expected):
    result = compress_digits(method, *flags)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"error: {expected}"
