"""`fsc analyse` and `fsc grid` on a small teacher."""

import json

import pytest

from fsc.cli.correlations import ends_of_all
from fsc.cli.distances import Analysis, draw_ratios
from fsc.cli.grid import grid_of
from fsc.layers.objectives import Convex, Soft
from fsc.report import figure
from fsc.report.analysis import LayerErrors


@pytest.fixture
def arguments(on_digits):
    return [*on_digits, "--shots", 1]


def test_distances_and_ratios(fsc, arguments, tmp_path):
    result = fsc(
        "analyse", *arguments, "--test-images", 50, "--method", "cd-nc", "--method", "cd-soft",
        "--json", tmp_path / "errors.json", "--output", tmp_path / "ratios.png",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "cd-soft" in result.stdout and "cross entropy" in result.stdout
    said = " ".join(result.stdout.split())
    assert "estimation errors ÷ cd-nc" in said
    assert "percent of the energy of the teacher's output; smaller is better, 0 is the same" in said
    assert "divided by that of cd-nc: below 1 is better, nearer to the teacher than cd-nc" in said
    first, second = json.loads((tmp_path / "errors.json").read_text())["students"]
    assert (first["method"], second["method"]) == ("cd-nc", "cd-soft")
    assert [layer["name"] for layer in first["layers"]][::13] == ["conv1", "linear"]
    assert first["layers"][-1]["estimation"] > 0
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")
    written = [tmp_path / name for name in ("errors.json", "ratios.png")]
    assert result.stdout.endswith(f"Written: {written[0]}, {written[1]}\n")
    for explained in ("-: cannot be compared", "cross entropy: of the student's answers"):
        assert explained in result.stdout


def test_no_line_leads_from_the_last_layer_to_the_cross_entropy(monkeypatch):
    drawn = []
    monkeypatch.setattr(figure, "write", lambda made, path: drawn.append(made))
    layers = [LayerErrors(name, 1.0, estimation, None, None, None, None)
              for name, estimation in (("conv1", 2.0), ("linear", 4.0))]  # fmt: skip
    found = [Analysis("cd-nc", 1.0, layers), Analysis("cd-soft", 0.5, layers)]
    draw_ratios(found, "f.png", title="the title")
    (axes,) = drawn[0].axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [
        "conv1", "linear", "", "cross entropy"
    ]  # fmt: skip
    (line,) = [each for each in axes.get_lines() if each.get_label() == "cd-soft"]
    assert str(line.get_ydata().tolist()) == "[1.0, 1.0, nan, 0.5]"


@pytest.mark.parametrize("objective", ["convex", "soft"])
def test_every_point_of_the_grid(fsc, arguments, tmp_path, objective):
    result = fsc(
        "grid", *arguments, "--objective", objective, "--intervals", 1, "--test-images", 50,
        "--json", tmp_path / "grid.json", "--output", tmp_path / "grid.png",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    points = json.loads((tmp_path / "grid.json").read_text())["points"]
    assert len(points) == (2 if objective == "convex" else 4)
    assert f"Best: {max(point['top1'] for point in points):.2f} %" in result.stdout
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
    written = [tmp_path / name for name in ("grid.json", "grid.png")]
    assert result.stdout.endswith(f"Written: {written[0]}, {written[1]}\n")


def test_points_that_are_as_good_as_the_best_are_told(fsc, arguments, tmp_path, monkeypatch):
    def best(intervals, *top1):
        each = iter(top1)
        monkeypatch.setattr("fsc.cli.grid._accuracy_of", lambda *given: next(each))
        told = fsc("grid", *arguments, "--objective", "convex", "--intervals", intervals,
                   "--test-images", 50)  # fmt: skip
        return " ".join(told.stdout[told.stdout.index("Best:") :].split())

    assert best(2, 50.0, 90.0, 40.0) == "Best: 90.00 % at mu 0.5"
    assert best(2, 90.0, 40.0, 90.0) == "Best: 90.00 % at mu 0; as good at mu 1"
    told = best(8, *[90.0] * 9)
    assert told.endswith(
        "mu 0; as good at mu 0.125; mu 0.25; mu 0.375; mu 0.5; mu 0.625; and 3 more"
    )


def test_grid():
    assert [objective for _, objective in grid_of("convex", 2)] == [Convex(m) for m in (0, 0.5, 1)]
    grid = grid_of("soft", 10)
    assert len(grid) == 121 and grid[13] == ({"alpha": 0.1, "beta": 0.2}, Soft(0.1, 0.2))


def test_figures_are_refused_before_any_work(fsc, arguments):
    for verb, more in (("analyse", []), ("grid", ["--objective", "soft"])):
        result = fsc(verb, *arguments, *more, "--output", "figure.gif")
        assert result.exit_code == 2
        assert "--output must end in .png, .pdf, .svg, got 'figure.gif'" in result.output


def sentence(result):
    assert result.exit_code == 2, result.output
    return result.stderr.splitlines()[-1].removeprefix("error: ")


@pytest.fixture
def analyse(fsc, arguments, tmp_path):
    """Runs a measure; gives the students of the file, and what was printed."""

    def run(measure, *more, given=arguments):
        written = [tmp_path / "found.json", tmp_path / "found.png"]
        result = fsc(
            "analyse", *given, "--measure", measure, "--test-images", 50,
            "--json", written[0], "--output", written[1], *more,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        assert written[1].read_bytes().startswith(b"\x89PNG")
        assert result.stdout.endswith(f"Written: {written[0]}, {written[1]}\n")
        return json.loads(written[0].read_text())["students"], result.stdout

    return run


def test_correlation_before_and_after(analyse):
    (before, after), said = analyse("correlation")
    assert (before["method"], after["method"]) == ("l1", "fskd")
    names = [block["name"] for block in after["blocks"]]
    assert names[0] == "conv1" and names[-1] == "linear"
    deepest = [student["blocks"][-2]["correlation"] for student in (before, after)]
    assert -1 <= deepest[0] < deepest[1] <= 1
    # res-50 leaves half of the channels of the first convolution of a block.
    assert after["blocks"][3]["channels"] < 32 and f"{deepest[1]:.4f}" in said
    assert "correlation with the teacher" in said


def test_block_ends_of_students_that_lack_each_others_layers():
    assert ends_of_all([["a", "b", "c"], ["a", "b", "c"]]) == ["a", "b", "c"]
    assert ends_of_all([["a", "c"], ["a", "b", "c", "d"]]) == ["a", "b", "c", "d"]
    # The longest one lacks b and e, which others have.
    assert ends_of_all([["b", "d"], ["a", "c", "d"], ["d", "e"]]) == ["b", "a", "c", "d", "e"]


def test_accuracy_along_the_blocks(analyse, fsc, on_digits, tmp_path):
    (found,), said = analyse("blocks", "--method", "fskd")
    steps = found["blocks"]
    assert found["method"] == "fskd" and steps[0]["name"] is None
    assert len(steps) == 1 + 14 and steps[-1]["name"] == "linear"
    methods = ("--method", "l1", "--method", "fskd")
    few = ("--shots", 1, "--seeds", 1, "--test-images", 50)
    compare = fsc("compare", *on_digits, *few, *methods, "--json", tmp_path / "runs.json")
    assert compare.exit_code == 0, compare.output
    content = json.loads((tmp_path / "runs.json").read_text())
    ends = [run["top1"] for run in content["runs"]]
    assert [steps[0]["top1"], steps[-1]["top1"]] == ends
    assert found["top1_teacher"] == content["top1_teacher"]
    assert "recovered up to" in said and f"{ends[1]:.2f}" in said


def test_pointwise_matrices_of_a_decoupled_layer(analyse, arguments):
    where = [each for each in arguments if each not in ("--scheme", "res-50")]
    given = [*where, "--decouple", 1]
    (before, after), said = analyse("pointwise", "--layer", "layer1.0.conv1", given=given)
    assert (before["method"], after["method"]) == ("l1", "fskd")
    assert len(before["matrix"]) == len(after["matrix"][0]) == 16
    assert before["matrix"] != after["matrix"]
    assert "16 x 16" in said and "change" in said


def test_what_was_not_recovered_of_a_decoupled_student_was_not_pruned(analyse, arguments):
    where = [each for each in arguments if each not in ("--scheme", "res-50")]
    _, said = analyse("blocks", "--method", "fskd", given=[*where, "--decouple", 1])
    assert "behind it only decoupled;" in said and "pruned" not in said


def test_pointwise_matrices_of_a_pruned_layer(analyse):
    (_, after), _ = analyse("pointwise", "--layer", "layer1.0.conv1", "--method", "fskd",
                            "--method", "l1")  # fmt: skip
    assert (len(after["matrix"]), len(after["matrix"][0])) == (9, 16)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--measure", "pointwise"), "--layer must be given with --measure pointwise, got none."),
        (("--measure", "blocks", "--layer", "conv1"),
         "--layer must go with --measure pointwise, got conv1 with blocks."),
        (("--measure", "blocks", "--method", "cd-nc", "--method", "fskd"),
         "--method must recover a student with the channels of l1 for --measure blocks, as fskd, "
         "fskd-sgd, grail, mir-before, mir-after, bp, kd, fitnet do, got cd-nc"),
        (("--measure", "pointwise", "--layer", "bn1"),
         "--layer must name a Conv2d of one group of resnet14, got BatchNorm2d at 'bn1'"),
        (("--measure", "pointwise", "--layer", "nothing"),
         "--layer must name a Conv2d of one group of resnet14, got none at 'nothing'"),
        (("--decouple", 2, "--measure", "pointwise", "--layer", "layer1.0.conv1.pointwise"),
         "--layer must name the layer as resnet14 has it, 'layer1.0.conv1', got "
         "'layer1.0.conv1.pointwise', which is only in its decoupled students"),
        (("--decouple", 2, "--method", "l1"),
         "--measure must be correlation, blocks, pointwise where students have other layers than "
         "the teacher, as by scheme 'decoupled-2', got distances"),
        (("--decouple", 2, "--method", "cd-nc", "--measure", "correlation"),
         "--decouple must go with --method seconds, default, quarter-hour, l1, fskd, fskd-sgd, "
         "mir-before, mir-after, bp, kd, fitnet, got 2 for cd-nc"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(fsc, arguments, flags, expected):
    given = [e for e in arguments if "--decouple" not in flags or e not in ("--scheme", "res-50")]
    assert sentence(fsc("analyse", *given, *flags)) == expected


def test_help_says_which_side_of_1_is_good(fsc):
    said = " ".join(fsc("analyse", "--help").stdout.split())
    assert "divided by those of the first, where below 1 is better" in said
    assert "nearer to 1 is better" in said
