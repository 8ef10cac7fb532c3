import itertools

import pytest

from fsc.report import figure, methods_figure
from fsc.report.interval import wilson
from fsc.report.methods_figure import Point

POINTS = [
    Point("l1", 31.8, 0.0, 0.05, 80.43),
    Point("cd-soft", 89.84, 0.32, 4.1, 90.14),
    Point("mir-before", 91.0, 0.2, 62.2, None),
]
ONCE = [Point("l1", 14.4, None, 0.07), Point("fskd", 99.4, None, 0.12)]
ABOUT = {"title": "the title", "subtitle": "what stays", "teacher_top1": 93.39, "num_test": 10_000}


@pytest.mark.parametrize(
    ("name", "head"), [("f.png", b"\x89PNG"), ("f.pdf", b"%PDF"), ("f.svg", b"<?xml")]
)
def test_writes_the_kind_that_the_name_says(tmp_path, name, head):
    methods_figure.draw(POINTS, tmp_path / name, **ABOUT)
    assert (tmp_path / name).read_bytes().startswith(head)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def drawn_with(monkeypatch, points, **about):
    """All texts of the drawn figure, and the figure."""
    drawn = []
    monkeypatch.setattr(figure, "write", lambda made, path: drawn.append(made))
    methods_figure.draw(points, "f.png", **ABOUT | about)
    from matplotlib.text import Text

    return {text.get_text() for text in drawn[0].findobj(Text)}, drawn[0]


def test_names_values_units_and_teacher_stand_in_the_figure(monkeypatch):
    found, _ = drawn_with(monkeypatch, POINTS)
    assert {"the title", "what stays", "teacher, 93.39 %", "paper", "student, mean ± std"} <= found
    assert {"top-1 accuracy on the test images (%)", "time to compress (s)"} <= found
    assert {"l1", "cd-soft", "mir-before", "31.80 ± 0.00", "89.84 ± 0.32"} <= found
    assert {"top-1 %", "seconds", "0.05", "62.20"} <= found


def test_few_test_images_show_counts_and_intervals_on_a_wide_axis(monkeypatch):
    found, drawn = drawn_with(monkeypatch, ONCE, teacher_top1=99.0, num_test=500)
    assert {"teacher, 495 of 500", "correct\nof 500", "72", "497"} <= found
    assert "95 % interval for 500 test images" in found
    assert any("500 images say little about which is better" in text for text in found)
    low, high = wilson(99.4, 500)
    (bars,) = [c for c in drawn.axes[0].collections if c.get_label().startswith("95 %")]
    (segment,) = bars.get_segments()
    assert segment[:, 0].tolist() == pytest.approx([low, high])
    left, right = drawn.axes[0].get_xlim()
    assert right - left >= 4 * (high - low)


def test_several_draws_on_few_test_images_keep_mean_and_deviation(monkeypatch):
    found, _ = drawn_with(monkeypatch, POINTS, num_test=1000)
    assert {"95 % interval for 1,000 test images", "student, mean ± std"} <= found
    assert {"top-1 %", "89.84 ± 0.32", "teacher, 93.39 %"} <= found


def test_many_test_images_show_no_interval(monkeypatch):
    found, _ = drawn_with(monkeypatch, POINTS)
    assert not any("interval" in text for text in found)


def test_no_text_reaches_beyond_the_figure(monkeypatch):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    for points, num_test in ((POINTS, 10_000), (ONCE, 500)):
        _, drawn = drawn_with(monkeypatch, points, num_test=num_test)
        canvas = FigureCanvasAgg(drawn)
        canvas.draw()
        renderer = canvas.get_renderer()
        width, height = canvas.get_width_height()
        for text in drawn.findobj(Text):
            if text.get_text() and text.get_visible():
                box = text.get_window_extent(renderer)
                assert -1 <= box.x0 and box.x1 <= width + 1, text
                assert -1 <= box.y0 and box.y1 <= height + 1, text


def test_one_failure_does_not_flatten_the_others(monkeypatch):
    found, drawn = drawn_with(monkeypatch, POINTS)
    assert "student, below the axis" in found
    assert drawn.axes[0].get_xlim()[0] > 70


def test_axis_reaches_all_when_most_failed(monkeypatch):
    failed = [Point("l1", 14.7, None, 0.1), Point("fskd", 30.3, None, 2.0)]
    found, drawn = drawn_with(monkeypatch, failed)
    assert "student, below the axis" not in found and "paper" not in found
    assert drawn.axes[0].get_xlim()[0] < 14.7


def test_refuses_nothing_and_unknown_kinds(tmp_path):
    with pytest.raises(ValueError, match="points must not be empty"):
        methods_figure.draw([], tmp_path / "f.png", **ABOUT)
    with pytest.raises(ValueError, match="must end in .png, .pdf, .svg, got 'f.doc'"):
        methods_figure.draw(POINTS, tmp_path / "f.doc", **ABOUT)
    assert list(tmp_path.iterdir()) == []


def _grid(intervals: int, *names: str) -> list[dict[str, float]]:
    values = [step / intervals for step in range(intervals + 1)]
    rows = [{names[0]: value} for value in values]
    if len(names) == 2:
        rows = [row | {names[1]: value} for row in rows for value in values]
    return [row | {"top1": 90.0 + row[names[-1]]} for row in rows]


@pytest.mark.parametrize("names", [("mu",), ("alpha", "beta")])
@pytest.mark.parametrize("intervals", [1, 2, 3, 7, 8, 10, 11, 13, 20, 30, 100])
def test_ticks_of_a_grid_are_values_of_it_and_do_not_overlap(monkeypatch, intervals, names):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    drawn = []
    monkeypatch.setattr(figure, "write", lambda made, path: drawn.append(made))
    title = "torchvision:efficientnet_b0 on pets, scheme prune-c-residual, 50 images of 9 classes"
    figure.draw_grid(_grid(intervals, *names), "f.png", title=title)
    axes, canvas = drawn[0].axes[0], FigureCanvasAgg(drawn[0])
    canvas.draw()
    values = [step / intervals for step in range(intervals + 1)]
    for axis in [axes.xaxis, axes.yaxis][: len(names)]:
        ticks = axis.get_ticklocs().tolist()
        assert set(ticks) <= set(values) and ticks[0] == 0 and len(ticks) >= min(3, len(values))
        boxes = [text.get_window_extent() for text in axis.get_ticklabels()]
        assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))
    if intervals not in (11, 13):
        assert axes.get_xticks()[-1] == 1
    shown = drawn[0].get_suptitle()
    assert shown.replace("\n", " ") == title
    box = drawn[0]._suptitle.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= canvas.get_width_height()[0]


@pytest.mark.parametrize("names", [("mu",), ("alpha", "beta")])
def test_equal_accuracies_of_a_grid_stay_near_each_other(monkeypatch, names):
    drawn = []
    monkeypatch.setattr(figure, "write", lambda made, path: drawn.append(made))
    rows = [row | {"top1": 90.1} for row in _grid(2, *names)]
    figure.draw_grid(rows, "f.png", title="the title")
    axes = drawn[0].axes[0]
    low, high = axes.get_ylim() if len(names) == 1 else axes.images[0].get_clim()
    assert 89.95 < low < 90.1 < high < 90.25


def test_many_layers_are_named_at_a_size_that_can_be_read(monkeypatch):
    drawn = []
    monkeypatch.setattr(figure, "write", lambda made, path: drawn.append(made))
    for count in (20, 57, 200):
        names = [f"layer{index}" for index in range(count)]
        lines = {"cd-soft": [1.0] * count}
        figure.draw_lines(names, lines, "f.png", title="t", label="l", level=1.0)
    shown = [[t.get_text() for t in f.axes[0].get_xticklabels()] for f in drawn]
    assert [each[-1] for each in shown] == ["layer19", "layer56", "layer199"]
    assert len(shown[0]) == 20 and all(41 > len(each) > 20 for each in shown[1:])
    assert max(f.get_figwidth() for f in drawn) <= 7.5
