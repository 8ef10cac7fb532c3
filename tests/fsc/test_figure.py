import pytest

from fsc.report import figure
from fsc.report.figure import Point

POINTS = [
    Point("l1", 31.8, 0.0, 0.05, 80.43),
    Point("cd-soft", 89.84, 0.32, 4.1, 90.14),
    Point("mir-before", 91.0, 0.2, 62.2, None),
]


@pytest.mark.parametrize(
    ("name", "head"), [("f.png", b"\x89PNG"), ("f.pdf", b"%PDF"), ("f.svg", b"<?xml")]
)
def test_writes_the_kind_that_the_name_says(tmp_path, name, head):
    figure.draw(POINTS, tmp_path / name, title="title", teacher_top1=93.39)
    assert (tmp_path / name).read_bytes().startswith(head)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def texts(tmp_path, monkeypatch, points):
    """All texts of the drawn figure."""
    drawn = []
    monkeypatch.setattr(figure, "write_atomically", lambda path, writer: None)
    original = figure.Figure
    monkeypatch.setattr(figure, "Figure", lambda **k: drawn.append(original(**k)) or drawn[-1])
    figure.draw(points, tmp_path / "f.png", title="the title", teacher_top1=93.39)
    from matplotlib.text import Text

    return {text.get_text() for text in drawn[0].findobj(Text)}, drawn[0]


def test_names_values_units_and_teacher_stand_in_the_figure(tmp_path, monkeypatch):
    found, _ = texts(tmp_path, monkeypatch, POINTS)
    assert {"the title", "teacher, 93.39 %", "paper", "student, mean ± std"} <= found
    assert {"top-1 accuracy on the test images (%)", "time to compress (s)"} <= found
    assert {"l1", "cd-soft", "mir-before", "31.80", "89.84", "91.00", "0.05", "62.2"} <= found


def test_one_failure_does_not_flatten_the_others(tmp_path, monkeypatch):
    found, drawn = texts(tmp_path, monkeypatch, POINTS)
    assert "student, below the axis" in found
    assert drawn.axes[0].get_xlim()[0] > 70


def test_axis_reaches_all_when_most_failed(tmp_path, monkeypatch):
    failed = [Point("l1", 14.7, None, 0.1), Point("fskd", 30.3, None, 2.0)]
    found, drawn = texts(tmp_path, monkeypatch, failed)
    assert "student, below the axis" not in found and "paper" not in found
    assert drawn.axes[0].get_xlim()[0] < 14.7


def test_refuses_nothing_and_unknown_kinds(tmp_path):
    with pytest.raises(ValueError, match="points must not be empty"):
        figure.draw([], tmp_path / "f.png", title="", teacher_top1=90.0)
    with pytest.raises(ValueError, match="must end in .png, .pdf, .svg, got 'f.doc'"):
        figure.draw(POINTS, tmp_path / "f.doc", title="", teacher_top1=90.0)
    assert list(tmp_path.iterdir()) == []
