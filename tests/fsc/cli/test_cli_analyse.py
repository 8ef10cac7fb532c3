"""`fsc analyse` and `fsc grid` on a small teacher."""

import json

import pytest

from fsc.cli.grid import grid_of
from fsc.layers.objectives import Convex, Soft


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
    assert "estimation errors ÷ cd-nc" in " ".join(result.stdout.split())
    first, second = json.loads((tmp_path / "errors.json").read_text())["students"]
    assert (first["method"], second["method"]) == ("cd-nc", "cd-soft")
    assert [layer["name"] for layer in first["layers"]][::13] == ["conv1", "linear"]
    assert first["layers"][-1]["estimation"] > 0
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")
    written = [tmp_path / name for name in ("errors.json", "ratios.png")]
    assert result.stdout.endswith(f"Written: {written[0]}, {written[1]}\n")
    for explained in ("-: cannot be compared", "cross entropy: of the student's answers"):
        assert explained in result.stdout


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


def test_grid():
    assert [objective for _, objective in grid_of("convex", 2)] == [Convex(m) for m in (0, 0.5, 1)]
    grid = grid_of("soft", 10)
    assert len(grid) == 121 and grid[13] == ({"alpha": 0.1, "beta": 0.2}, Soft(0.1, 0.2))


def test_figures_are_refused_before_any_work(fsc, arguments):
    for verb, more in (("analyse", []), ("grid", ["--objective", "soft"])):
        result = fsc(verb, *arguments, *more, "--output", "figure.gif")
        assert result.exit_code == 2
        assert "--output must end in .png, .pdf, .svg, got 'figure.gif'" in result.output
