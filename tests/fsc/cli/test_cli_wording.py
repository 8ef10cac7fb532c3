"""What commands print: lines that fit a window, columns with names of their own, sentences."""

import pytest
from rich.cells import cell_len

from fsc.cli import inputs


def sentence(result):
    assert result.exit_code == 2, result.output
    return result.stderr.splitlines()[-1]


def test_the_table_of_schemes_fits_and_is_explained(fsc):
    printed = fsc("schemes").stdout
    assert max(cell_len(line.rstrip()) for line in printed.splitlines()) <= 80
    for explained in (
        "parameters: those that are not zero; FLOPs: multiply-accumulates for one image",
        "paper: Cross Distillation (Bai et al., AAAI 2020), Table 11",
    ):
        assert printed.replace("\n", " ").count(explained) >= 1


@pytest.mark.parametrize("method", ["l1", "cd-soft"])
def test_what_compress_says_fits(fsc, on_digits, tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    result = fsc("compress", *on_digits, "--method", method, "--shots", 1, "--output", "out",
                 "--no-evaluate")  # fmt: skip
    assert result.exit_code == 0, result.output
    lines = [*result.stdout.splitlines(), *result.stderr.splitlines()]
    assert max(cell_len(line.rstrip()) for line in lines) <= 80


@pytest.mark.parametrize(
    "arguments", [(), ("--shots",), ("--shots", "1", "--nothing"), ("--shots", "1", "--seeds", "x")]
)
def test_every_error_begins_alike(fsc, on_digits, arguments):
    assert sentence(fsc("compare", *on_digits, *arguments)).startswith("error: ")


@pytest.mark.parametrize(
    "typed",
    ["mirror:2", "mixup:", "mixup:0", "mixup:1.5", "blur:2", "hard:10001", "mixup:999999"],
)
def test_augmentations_are_a_kind_and_a_number(fsc, on_digits, typed):
    result = fsc("compare", *on_digits, "--shots", 1, "--augment", typed)
    assert result.stderr.splitlines()[-1] == (
        "error: --augment must be mirror, crop, mixup or hard, with :COPIES behind it for more "
        f"than one of each image, at most 10000 and of mirror images one, got {typed}"
    )


def test_errors_before_a_verb_begin_alike(fsc):
    assert sentence(fsc("--nothing")) == "error: No such option '--nothing'."
    assert sentence(fsc("nothing")).startswith("error: No such command 'nothing'.")


def test_a_path_of_the_wrong_kind_is_said_in_full(fsc, on_digits, tmp_path):
    (tmp_path / "file").touch()
    given = ("compare", *on_digits, "--shots", 1)
    assert sentence(fsc(*given, "--data-root", tmp_path / "file")) == (
        f"error: --data-root must name a folder, got {tmp_path / 'file'}, which is a file"
    )
    assert sentence(fsc(*given, "--json", tmp_path)) == (
        f"error: --json must name a file, got {tmp_path}, which is a folder"
    )


def test_a_folder_of_checkpoints_that_does_not_exist(monkeypatch, tmp_path):
    absent = tmp_path / "absent"
    for given, flag in ((absent, "--data-root"), (None, "FSC_DATA")):
        monkeypatch.setenv("FSC_DATA", str(absent))
        with pytest.raises(FileNotFoundError) as caught:
            inputs.find_checkpoint("resnet20", "cifar10", given)
        assert str(caught.value) == f"{flag} must name a folder, got {absent}, which does not exist"


@pytest.mark.parametrize(
    ("flag", "value", "others"),
    [
        ("--mir-steps", 7, " or default"),
        ("--views", "crops", ""),
        ("--precision", "bfloat16", " or default or quarter-hour"),
    ],
)
@pytest.mark.parametrize("verb", ["compress", "compare"])
def test_what_only_training_takes_is_refused_for_other_methods(
    fsc, on_digits, tmp_path, verb, flag, value, others
):
    where = ("--output", tmp_path / "out") if verb == "compress" else ()
    given = (verb, *on_digits, "--shots", 1, *where, flag, value, "--method")
    assert sentence(fsc(*given, "l1")) == (
        f"error: {flag} must go with --method mir-before or mir-after or mir-progressive or bp or "
        f"kd or fitnet{others}, got {value} for l1"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("typed", "got"), [((), "none"), (("--flops", 0.6), "--flops 0.6"),
                       (("--drop-blocks", 1), "--drop-blocks 1")],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["compress", "compare"])
def test_single_weights_need_a_scheme_of_such(fsc, on_digits, tmp_path, verb, typed, got):
    where = ("--output", tmp_path / "out") if verb == "compress" else ()
    given = [each for each in on_digits if each not in ("--scheme", "res-50")]
    result = fsc(verb, *given, "--shots", 1, "--method", "mir-progressive", *where, *typed)
    assert sentence(result) == (
        "error: --scheme must remove single weights for --method mir-progressive, as sparse-90 "
        f"does, got {got}"
    )
    assert not (tmp_path / "out").exists()
