"""The figure of accuracy against what is swept."""

import pytest

from fsc.report import curves_figure, figure
from fsc.report.curves_figure import Curve
from fsc.report.interval import wilson

CURVES = [
    Curve("mir-before", [50, 100, 400, 1600], [[88.0, 88.4], [89.1, 89.3], [90.5], [91.2, 91.0]]),
    Curve("kd", [50, 100, 400, 1600], [[80.0, 81.0], [82.0, 82.4], [83.0, 84.0], [84.5, 85.0]]),
]
FAILED = Curve("l1", [50, 100, 400, 1600], [[14.0]] * 4)
ABOUT = {"title": "the title", "label": "steps", "teacher_top1": 93.39, "num_test": 10_000}


def drawn_with(monkeypatch, curves, **about):
    """All texts of the drawn figure, and its axes."""
    drawn = []
    monkeypatch.setattr(figure, "write", lambda made, path: drawn.append(made))
    curves_figure.draw(curves, "f.png", **ABOUT | about)
    from matplotlib.text import Text

    return {text.get_text() for text in drawn[0].findobj(Text)}, drawn[0].axes[0]


@pytest.mark.parametrize(
    ("name", "head"), [("f.png", b"\x89PNG"), ("f.pdf", b"%PDF"), ("f.svg", b"<?xml")]
)
def test_writes_the_kind_that_the_name_says(tmp_path, name, head):
    curves_figure.draw(CURVES, tmp_path / name, **ABOUT)
    assert (tmp_path / name).read_bytes().startswith(head)


def test_names_values_teacher_and_spread_stand_in_it(monkeypatch):
    found, axes = drawn_with(monkeypatch, CURVES)
    assert {"the title", "steps", "mir-before", "kd", "teacher, 93.39 %"} <= found
    assert {"50", "100", "400", "1,600", "bars: standard deviation of 2 draws"} <= found
    bars = axes.containers[0].lines[2][0].get_segments()
    assert (bars[0][0][1] + bars[0][1][1]) / 2 == pytest.approx(88.2)
    assert bars[0][1][1] - bars[0][0][1] == pytest.approx(2 * 0.282843, rel=1e-4)
    assert len(axes.get_lines()[0].get_xdata()) == 2  # the teacher's line


def test_a_method_without_what_is_swept_is_a_level(monkeypatch):
    level = Curve("fitnet", [0.0], [[85.0, 86.0]], is_level=True)
    found, axes = drawn_with(monkeypatch, [level, CURVES[0]])
    assert {"fitnet", "50", "1,600"} <= found and "0" not in found
    line = axes.containers[0].lines[0]
    assert line.get_linestyle() == ":" and line.get_xdata().tolist() == [50, 100, 400, 1600]
    assert set(line.get_ydata()) == {85.5}
    with pytest.raises(ValueError, match="draw: curves must not be empty"):
        curves_figure.draw([level], "f.png", **ABOUT)


def test_the_axis_of_values_is_logarithmic_where_they_span_much(monkeypatch):
    assert drawn_with(monkeypatch, CURVES)[1].get_xscale() == "log"
    near = [Curve("mir-before", [100, 200, 300], [[88.0], [89.0], [90.0]])]
    found, axes = drawn_with(monkeypatch, near)
    assert axes.get_xscale() == "linear" and not any("deviation" in text for text in found)


def test_few_test_images_show_their_interval(monkeypatch):
    found, axes = drawn_with(monkeypatch, CURVES[1:], num_test=500)
    assert any("shaded: 95 % interval for 500 test images" in text for text in found)
    (shaded,) = axes.collections[:1]
    corners = shaded.get_paths()[0].vertices
    low, high = wilson(80.5, 500)
    at_first = sorted({round(y, 6) for x, y in corners if x == 50})
    assert at_first == pytest.approx([low, high], abs=1e-5)
    assert not any("interval" in text for text in drawn_with(monkeypatch, CURVES)[0])


def test_halved_rates_have_open_marks(monkeypatch):
    rates = Curve("mir-before", [0.01, 0.1, 1.0], [[88.0], [89.0], [70.0]], slowed=[1.0])
    found, axes = drawn_with(monkeypatch, [rates], label="learning rate")
    assert {"open: diverged, run again at half the rate", "0.01", "0.1", "1"} <= found
    (mark,) = [line for line in axes.get_lines() if line.get_markerfacecolor() == "white"]
    assert mark.get_xydata().tolist() == [[1.0, 70.0]]


def test_ruined_students_are_crossed(monkeypatch):
    steps = Curve("fitnet", [10, 20, 40], [[88.0], [80.0, 60.0], [89.0]], ruined=[20])
    found, axes = drawn_with(monkeypatch, [steps])
    assert "crossed: ruined" in " ".join(found)
    (mark,) = [line for line in axes.get_lines() if line.get_marker() == "x"]
    assert mark.get_xydata().tolist() == [[20.0, 70.0]]
    assert not any("crossed" in text for text in drawn_with(monkeypatch, CURVES)[0])


def test_no_text_reaches_beyond_the_figure(monkeypatch):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    title = "torchvision:efficientnet_b0 on pets, down to 60 % of the multiply-accumulates inside "
    curves = [Curve("mir-progressive", [1, 9], [[88.0, 89.0], [70.0, 71.0]], slowed=[9])]
    title += "blocks, 5 draws of 500 images"
    _, axes = drawn_with(monkeypatch, curves, title=title, num_test=500)
    canvas = FigureCanvasAgg(axes.figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    width, height = canvas.get_width_height()
    for text in axes.figure.findobj(Text):
        if text.get_text() and text.get_visible():
            box = text.get_window_extent(renderer)
            assert -1 <= box.x0 and box.x1 <= width + 1, text
            assert -1 <= box.y0 and box.y1 <= height + 1, text


def test_the_legend_covers_nothing(monkeypatch):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.lines import Line2D

    names = ("l1", "fskd", "fskd-sgd", "mir-progressive", "fitnet", "bp")
    curves = [Curve(name, [10, 500], [[70.0 + 3 * n], [71.0]]) for n, name in enumerate(names)]
    _, axes = drawn_with(monkeypatch, curves, num_test=500)
    FigureCanvasAgg(axes.figure).draw()
    (legend,) = axes.figure.legends
    assert legend.get_window_extent().y1 <= axes.xaxis.get_label().get_window_extent().y0
    assert len(legend.get_texts()) == 7
    # Marks and dashes, which bars would hide, and room for them beside the axes'.
    assert all(isinstance(handle, Line2D) for handle in legend.legend_handles)
    assert axes.figure.get_figheight() > 4.4


def test_failures_do_not_flatten_the_others(monkeypatch):
    found, axes = drawn_with(monkeypatch, [*CURVES, FAILED])
    assert "l1, below the axis" in found and 75 < axes.get_ylim()[0] < 80
    falling = Curve("mir-after", [50, 100, 400, 1600], [[90.0], [90.0], [80.0], [14.0]])
    found, axes = drawn_with(monkeypatch, [falling])
    assert "mir-after" in found and 50 < axes.get_ylim()[0] < 64


def test_what_lies_below_the_axis_is_marked_at_its_end(monkeypatch):
    falling = Curve("kd", [50, 100, 400, 1600], [[90.0], [12.0], [80.0], [14.0]], ruined=[100])
    found, axes = drawn_with(monkeypatch, [CURVES[0], falling, FAILED])
    assert any("triangles: below the axis" in " ".join(text.split()) for text in found)
    marks = [line for line in axes.get_lines() if line.get_marker() == "v"]
    own = [line for line in marks if line.get_color() == figure.SERIES[1]]
    assert [line.get_xdata().item() for line in own] == [100.0, 1600.0]
    # In shares of the axis, and none over another.
    places = [line.get_xydata()[0].tolist() for line in marks]
    assert len(places) == 6 and all(0 < height < 0.1 for _, height in places)
    assert len(set(map(tuple, places))) == 6
    assert not any("triangles" in text for text in drawn_with(monkeypatch, CURVES)[0])


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ([1e-4, 3e-4, 1e3], ["0.0001", "", "1,000"]),
        ([0.01, 0.02, 900.0, 1000.0], ["0.01", "", "", "1,000"]),
        ([1e-4, 3e-4, 1e-3, 3e-3], ["0.0001", "0.0003", "0.001", "0.003"]),
        ([100, 101, 102, 700], ["100", "", "", "700"]),
        ([5], ["5"]),
    ],
)
def test_values_are_not_printed_over_each_other(monkeypatch, values, named):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    curve = Curve("mir-before", values, [[88.0]] * len(values))
    _, axes = drawn_with(monkeypatch, [curve])
    assert axes.get_xticks().tolist() == values
    assert [label.get_text() for label in axes.get_xticklabels()] == named
    FigureCanvasAgg(axes.figure).draw()
    boxes = [each.get_window_extent() for each in axes.get_xticklabels() if each.get_text()]
    assert all(left.x1 < right.x0 for left, right in zip(boxes, boxes[1:], strict=False))


def test_nothing_and_unknown_kinds_are_refused(tmp_path):
    for nothing in ([], [Curve("l1", [], [])]):
        with pytest.raises(ValueError, match="draw: curves must not be empty"):
            curves_figure.draw(nothing, tmp_path / "f.png", **ABOUT)
    with pytest.raises(ValueError, match="figure must end in .png, .pdf, .svg, got 'f.gif'"):
        curves_figure.draw(CURVES, tmp_path / "f.gif", **ABOUT)
    assert not list(tmp_path.iterdir())
