"""The parts of the command line that need no network: names, published numbers, progress."""

import io
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from rich.console import Console

from fsc import method_names, scheme_tables, schemes
from fsc.cli import commands, inputs, progress, published, tables
from fsc.cli.progress import Reporter
from fsc.layers.objectives import Convex, Soft
from fsc.methods.labelling import label_use
from fsc.methods.schedule import Precision
from fsc.networks.cost import Size


def test_published_accuracies_of_single_weights():
    case = {"model_name": "resnet56", "data_name": "cifar10", "scheme": "sparse-90"}
    found = published.lookup("cd-soft", num_shots=1, **case)
    assert (found.mean, found.std) == (80.59, 1.15)
    assert published.lookup("fskd", num_shots=1, **case) is None


def test_published_accuracies_of_vgg16_know_what_joins_the_images():
    case = {"model_name": "vgg16", "data_name": "cifar10", "scheme": "vgg-50", "num_shots": 5}
    found = {
        augment: published.lookup("cd-convex", augment=augment, **case).mean
        for augment in (None, "mirror", "mixup", "mixup:7")
    }
    assert found == {None: 84.91, "mirror": 84.91, "mixup": 86.01, "mixup:7": 86.01}
    assert published.lookup("fskd", augment="mixup", **case) is None
    assert published.lookup("fskd", **case).mean == 65.69
    assert published.lookup("cd-soft", augment="mixup", **case | {"num_shots": 50}) is None


@pytest.mark.parametrize(
    ("method", "top1"),
    [("l1", 80.43), ("fskd", 87.53), ("cd-nc", 89.51), ("cd-convex", 89.93), ("cd-soft", 90.14),
     ("mir-before", 91.14), ("bp", 87.41), ("fitnet", 89.43), ("thinet", 89.54),
     ("channel-pruning", 89.39)],
)  # fmt: skip
def test_published_accuracy_of_five_shots(method, top1):
    case = {"model_name": "resnet56", "data_name": "cifar10", "scheme": "res-50"}
    found = published.lookup(method, num_shots=5, **case)
    assert found is not None and found.mean == top1
    means = [published.lookup(method, num_shots=k, **case).mean for k in published.NUM_SHOTS]
    assert means == sorted(means)
    assert published.lookup(method, num_shots=4, **case) is None
    other = case | {"model_name": "resnet20"}
    assert published.lookup(method, num_shots=5, **other) is None


def test_cross_distillation_takes_the_parameters_of_the_family():
    objectives = [
        method_names.named(method, model, 1).objective
        for model in ("resnet56", "vgg16")
        for method in ("cd-convex", "cd-soft")
    ]
    assert objectives == [Convex(0.9), Soft(0.9, 0.5), Convex(0.6), Soft(0.9, 0.3)]


def test_every_name_is_a_method_and_mir_takes_its_steps():
    methods = {name: method_names.named(name, "resnet20", 7) for name in method_names.NAMES}
    assert methods["mir-before"].steps == methods["mir-after"].steps == 7
    assert all(methods[name].steps == 7 for name in method_names.WITH_VIEWS)
    assert methods["default"].train.steps == 7 and methods["quarter-hour"].train.steps == 2000
    for name, method in methods.items():
        assert (label_use(method) != "none") == (name in method_names.WITH_LABELS)
        assert (label_use(method) == "needed") == (name == method_names.NEEDS_LABELS)
    assert methods["mir-before"].features == "before" and methods["mir-after"].features == "after"
    with pytest.raises(ValueError, match="method must be one of seconds, .*, got 'magic'"):
        method_names.named("magic", "resnet20", 7)


@pytest.mark.parametrize("name", method_names.WITH_TRAINING)
def test_every_method_that_trains_takes_a_precision(name):
    method = method_names.named(name, precision="bfloat16")
    plain = method_names.named(name)
    if name in ("default", "quarter-hour"):
        method, plain = method.train, plain.train
    assert (method.precision, plain.precision) == ("bfloat16", "float32")
    assert replace(method, precision="float32") == plain


def test_the_command_line_has_every_precision():
    (found,) = (each for each in commands.compress.params if each.name == "precision")
    assert tuple(found.type.choices) == get_args(Precision)


def test_checkpoints_are_found_by_name(tmp_path: Path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name, model in (
        ("cifar10_resnet56_akamaster.pt", "resnet56"),
        ("cifar10_vgg16.pt", "vgg16"),
        ("cifar10_resnet110-mine.safetensors", "resnet110"),
    ):
        (folder / name).touch()
        (folder / f"cifar10_{model}.json").touch()
        (folder / f"cifar10_{model}0_other.pt").touch()
        assert inputs.find_checkpoint(model, "cifar10", tmp_path) == folder / name
    (tmp_path / "cifar10_vgg16_again.pth").touch()
    assert inputs.find_checkpoint("vgg16", "cifar10", tmp_path) == folder / "cifar10_vgg16.pt"


def test_scheme_by_name_or_by_file(tmp_path: Path):
    teacher = inputs.build("resnet20", "digits").eval()
    loaded = inputs.with_teacher("resnet20", "digits", None, teacher)
    assert inputs.find_scheme("res-50", loaded) == schemes.named("res-50", "resnet20")
    path = tmp_path / "mine.json"
    path.write_text('{"name": "mine", "kept": {"conv1": 3}}')
    assert inputs.find_scheme(str(path), loaded) == schemes.Scheme("mine", {"conv1": 3})


def test_digits_are_normalised_by_their_own_statistics():
    loaded = inputs.with_teacher("resnet14", "digits", None, inputs.build("resnet14", "digits"))
    scaled = loaded.train.images / 255
    assert abs(scaled.mean() - loaded.normalization.mean[0]) < 1e-3
    assert abs(scaled.std() - loaded.normalization.std[0]) < 1e-3


def test_single_run_has_no_deviation():
    assert tables.mean_and_std([91.0]) == (91.0, None)
    assert tables.spread(91.0, None) == "91.00"
    assert tables.spread(*tables.mean_and_std([90.0, 92.0])) == "91.00 ± 1.41"


def test_times_of_a_table_have_as_many_digits_each():
    assert tables.durations([[9.066], [], [42.61, 42.63]]) == ["9.07", "", "42.62"]
    assert tables.durations([[0.07], [120.04]]) == ["0.1", "120.0"]


def test_what_a_scheme_does_stands_beside_what_it_leaves():
    whole, half = Size(1000, 1000, 4000), Size(780, 780, 2720)
    assert tables.what_stays("res-50", "resnet20", whole, half) == [
        "Scheme res-50 removes 50 % of the channels of the first convolution of most residual "
        "blocks.",
        "78 % of the parameters and 68 % of the multiply-accumulates stay.",
    ]
    sparse = Size(1000, 100, 4000)
    assert tables.what_stays("sparse-90", "vgg16", whole, sparse) == [
        "Scheme sparse-90 sets 90 % of the weights of every convolution to zero.",
        "10 % of the parameters are not zero.",
    ]
    assert tables.what_stays("mine", "vgg16", whole, whole) == ["Every parameter stays."]


def test_every_published_scheme_has_words_for_every_network_it_fits():
    for model in ("resnet20", "vgg16", "resnet34", "mobilenetv2"):
        for name in schemes.names():
            assert bool(scheme_tables.in_words(name, model)) == schemes.fits(name, model)
    assert scheme_tables.in_words("mine", "resnet20") == ""
    assert "70 %" in scheme_tables.in_words("res-70+", "resnet34")
    assert "50 % in two blocks of stage four" in scheme_tables.in_words("res-70+", "resnet34")
    assert "15 % of the channels inside residual blocks, to" in scheme_tables.in_words(
        "prune-a-normal", "resnet34"
    )
    assert "25 %" in scheme_tables.in_words("prune-d", "mobilenetv2")


def test_table_never_cuts_a_number_in_a_narrow_window(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    row = tables.Row("cd-correction", [12.34, 23.46], [1234.5],
                     Size(138_357_544, 10_357_544, 15_470_264_320), "90.14 ± 1.19")  # fmt: skip
    tables.show(tables.networks("title", [row, row]))
    out = capsys.readouterr().out
    for number in (
        "17.90 ± 7.86",
        "90.14 ± 1.19",
        "1234.5",
        "138,357,544",
        "10,357,544",
        "15,470.26 M",
    ):
        assert number in out
    assert "…" not in out


@pytest.mark.parametrize("is_timed", [False, True])
def test_tables_of_removed_weights_fit_a_window(capsys, is_timed):
    dense, pruned = Size(853_018, 852_990, 125_485_706), Size(850_986, 85_301, 125_485_706)
    times = {"milliseconds": 12.35, "milliseconds_batch": 1234.0} if is_timed else {}
    rows = [
        tables.Row("teacher", [93.39], [], dense, num_test=1000, **times),
        tables.Row("mir-progressive", [79.2, 80.9], [1234.1], pruned,
                   "" if is_timed else "80.59 ± 1.15", 1000, **times),
    ]  # fmt: skip
    title = "resnet56 on cifar10, scheme sparse-90, 5 images of each of 9 classes, 5 draws, "
    tables.show(tables.networks(title + "trained on crops", rows, "the caption"))
    out = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
    for said in ("80.05 ± 1.20", "852,990", "85,301", "1234.1", "the caption", "trained on crops"):
        assert said in out
    assert "FLOPs of all: 125.49 M, nothing is cut out; teacher: 853,018 parameters\n" in out
    tables.show(tables.networks("one alone", rows[1:]))
    assert "850,986" in capsys.readouterr().out


def test_progress_away_from_a_terminal_is_a_line_now_and_then(capsys, monkeypatch):
    with Reporter() as reporter:
        stage = reporter.stage("cd-nc")
        stage("layer", 1, 20)
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
        stage("layer", 2, 20)
    captured = capsys.readouterr()
    assert captured.err == "  cd-nc: layer 2 of 20\n" and captured.out == ""


def test_progress_on_a_terminal_is_a_bar_that_goes_away(monkeypatch):
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=80)
    monkeypatch.setattr(progress, "Console", lambda stderr: terminal)
    with Reporter() as reporter:
        reporter.stage("first")("steps", 1, 2)
        reporter.stage("second")("layer", 3, 4)
        reporter.say("a line that stays")
    shown = screen.getvalue()
    assert "second: layer 3 of 4" in shown and "a line that stays" in shown
    erase_line = "\x1b[2K"
    assert shown.rstrip().endswith(erase_line)
