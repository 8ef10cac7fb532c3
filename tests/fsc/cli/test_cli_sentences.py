"""Every option of every verb with bad values: the sentence names the flag that was typed."""

import re

import click
import pytest

from fsc.cli import main, sentences

_TEACHER = ("--model", "resnet14", "--data", "digits", "--scheme", "res-50", "--shots", "1")
_VALID = {
    "demo": (),
    "compress": (*_TEACHER, "--method", "l1"),
    "evaluate": ("--data", "digits"),
    "export": (),
    "compare": _TEACHER,
    "inspect": ("--model", "resnet14"),
    "schemes": (),
    "analyse": _TEACHER,
    "sweep": (*_TEACHER, "--over", "rate", "--values", "0.01"),
    "tradeoff": (*_TEACHER[:4], *_TEACHER[6:], "--flops", "0.5"),
    "grid": (*_TEACHER, "--objective", "soft"),
}
OPTIONS = [
    pytest.param(verb, option, id=f"{verb}{option.opts[0]}")
    for verb, command in main.commands.items()
    for option in command.params
    if isinstance(option, click.Option) and not option.is_flag
]
_HUGE = 10**24
# They and a scheme exclude each other.
_WITHOUT_A_SCHEME = (
    *("--flops", "--parameters", "--pruning-ratio", "--round-to", "--ignore", "--style"),
    *("--drop-blocks", "--decouple"),
)
# Only as large as somebody has time for.
_WITHOUT_A_LARGEST = ("--seeds", "--mir-steps", "--intervals", "--test-images")


def _bad_values(option, tmp_path):
    if isinstance(option.type, click.IntRange):
        huge = [] if option.opts[0] in _WITHOUT_A_LARGEST else [_HUGE]
        return ["", "x", "-1", "1.5", *huge]
    if isinstance(option.type, click.FloatRange):
        return ["", "x", "-1", "nan", "inf"]
    if isinstance(option.type, click.Path):
        (tmp_path / "file").touch()
        return ["", tmp_path if option.type.file_okay else tmp_path / "file"]
    return ["", "nowhere"]


def test_all_verbs_are_here():
    assert set(_VALID) == set(main.commands)


@pytest.mark.parametrize(("verb", "option"), OPTIONS)
def test_sentences_name_the_flag(fsc, teacher_file, tmp_path, verb, option):
    flag = option.opts[0]
    command = main.commands[verb]
    known = {name for other in command.params for name in other.opts}
    # The two exclude each other.
    shots = ("--shots", "1") if flag == "--images" else ()
    excluded = ("--scheme", "res-50") if flag in _WITHOUT_A_SCHEME else ()
    arguments = [part for part in _VALID[verb] if part not in (*shots, *excluded)]
    if "--checkpoint" in known:
        arguments += ["--checkpoint", teacher_file]
    if verb in ("evaluate", "export"):
        arguments.append(teacher_file)
    if "--output" in known:
        arguments += ["--output", tmp_path / "out.png"]
    for value in _bad_values(option, tmp_path):
        result = fsc(verb, *arguments, flag, value)
        assert result.exit_code == 2, (value, result.output)
        last = result.stderr.splitlines()[-1]
        assert re.match(rf"error: ({flag} must |Invalid value for '{flag}')", last), last
        python = {other.name for other in command.params} - {o.lstrip("-") for o in known}
        assert not python & set(re.findall(r"\w+", last)), last
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sample_per_class: num_shots must be at least 1", "--shots must be at least 1"),
        ("scheme must be structured", "--scheme must be structured"),
        ("load: data_root must name a folder", "--data-root must name a folder"),
        ("figure must end in .png", "--output must end in .png"),
        ("accuracy: labels must lie between 0 and 9", "labels must lie between 0 and 9"),
        ("batch_size must be at least 1\nand more", "--batch-size must be at least 1"),
        ("scheme file x.json: kept must map layers", "scheme file x.json: kept must map layers"),
        ("a/b.pt: weights must be finite", "a/b.pt: weights must be finite"),
        ("", "ValueError"),
    ],
)
def test_arguments_of_functions_become_flags(text, expected):
    assert sentences.of_error(ValueError(text), main.commands["compare"]) == expected


@pytest.mark.parametrize(
    "flags", [("--ignore", "linear"), ("--round-to", 8), ("--style", "normal")]
)
@pytest.mark.parametrize("verb", ["compress", "compare"])
def test_what_refines_a_share_is_refused_beside_a_scheme(fsc, tmp_path, verb, flags):
    output = ("--output", tmp_path / "out.png")
    result = fsc(verb, *_VALID[verb], "--scheme", "res-50", *output, *flags)
    assert result.exit_code == 2
    ignores, typed = flags[0] == "--ignore", f"{flags[0]} {flags[1]}"
    fitting = ", --pruning-ratio or --decouple" if ignores else " or --pruning-ratio"
    assert result.stderr.splitlines()[-1] == (
        f"error: {flags[0]} must go with --flops, --parameters{fitting}, got {typed} with --scheme "
        "res-50."
    )
