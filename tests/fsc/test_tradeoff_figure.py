"""The figure of accuracy against measured time."""

import pytest

from fsc.report import figure, tradeoff_figure
from fsc.report.tradeoff_figure import Curve, Point

FILTERS = Curve(
    "default",
    "multiply-accumulates",
    [Point("0.8", [92.8, 92.6], (0.9, 0.85)), Point("0.5", [91.5, 91.7], (0.8, 0.6))],
)
BLOCKS = Curve("default", "blocks", [Point("4", [92.0], (0.85, 0.8))])
FAILED = Curve("l1", "channels", [Point("0.5", [12.0], (0.8, 0.6))])
ABOUT = {
    "title": "the title", "batch": 64, "compiled": False, "teacher_top1": 93.39,
    "num_test": 10_000,
}  # fmt: skip


def drawn_with(monkeypatch, curves, **about):
    """All texts of the drawn figure, and its panels."""
    drawn = []
    monkeypatch.setattr(figure, "write", lambda made, path: drawn.append(made))
    tradeoff_figure.draw(curves, "f.png", **ABOUT | about)
    from matplotlib.text import Text

    return {text.get_text() for text in drawn[0].findobj(Text)}, drawn[0].axes


@pytest.mark.parametrize(
    ("name", "head"), [("f.png", b"\x89PNG"), ("f.pdf", b"%PDF"), ("f.svg", b"<?xml")]
)
def test_writes_the_kind_that_the_name_says(tmp_path, name, head):
    tradeoff_figure.draw([FILTERS, BLOCKS], tmp_path / name, **ABOUT)
    assert (tmp_path / name).read_bytes().startswith(head)


def test_a_panel_for_one_image_and_one_for_a_batch(monkeypatch):
    found, (alone, batch) = drawn_with(monkeypatch, [FILTERS, BLOCKS])
    assert {"the title", "teacher, 93.39 %", "default, blocks", "0.8", "0.5", "4"} <= found
    assert "bars: standard deviation of 2 draws" in found
    assert alone.get_xlabel() == "time for 1 image (% of the teacher's)"
    assert batch.get_xlabel() == "time for 64 images (% of the teacher's)"
    _, (_, compiled) = drawn_with(monkeypatch, [FILTERS], compiled=True)
    assert compiled.get_xlabel() == "time for 64 images, compiled (% of the teacher's)"
    for axes, times in ((alone, [90, 80]), (batch, [85, 60])):
        line = axes.containers[0].lines[0]
        assert list(line.get_xdata()) == pytest.approx(times)
        assert list(line.get_ydata()) == pytest.approx([92.7, 91.6])


def test_a_method_has_a_colour_and_a_kind_a_marker(monkeypatch):
    methods, kinds = [f"method {number}" for number in range(5)], ("channels", "blocks")
    curves = [Curve(m, k, [Point("1", [90.0], (0.9, 0.9))]) for k in kinds for m in methods]
    _, (axes, _) = drawn_with(monkeypatch, curves)
    lines = [bars.lines[0] for bars in axes.containers]
    looks = [(line.get_color(), line.get_marker()) for line in lines]
    assert len(set(looks)) == 10
    assert [color for color, _ in looks[:5]] == [color for color, _ in looks[5:]]
    assert {marker for _, marker in looks[:5]} != {marker for _, marker in looks[5:]}


def test_a_failure_does_not_flatten_the_rest(monkeypatch):
    found, (axes, _) = drawn_with(monkeypatch, [FILTERS, FAILED])
    assert "l1, channels, below the axis" in found and "default, multiply-accumulates" in found
    assert axes.get_ylim()[0] > 90
    found, (axes, _) = drawn_with(monkeypatch, [FAILED])
    assert "l1, channels" in found and axes.get_ylim()[0] < 12 < 93 < axes.get_ylim()[1]


def test_intervals_of_few_test_images(monkeypatch):
    found, _ = drawn_with(monkeypatch, [FILTERS, BLOCKS], num_test=500)
    assert "bars: standard deviation of 2 draws; shaded: 95 % interval for 500 test images" in found


def test_nothing_to_draw_and_an_unknown_kind_are_refused():
    with pytest.raises(ValueError, match="curves must not be empty"):
        tradeoff_figure.draw([], "f.png", **ABOUT)
    with pytest.raises(ValueError, match="must end in"):
        tradeoff_figure.draw([FILTERS], "f.bmp", **ABOUT)
