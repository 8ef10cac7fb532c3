"""bench/cases.py: what it counts, and that it finds what is wrong."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import fsc

BENCH = Path(__file__).parents[2] / "bench"
NETWORKS = """
import torch
from torch import nn

CASES = {"chain": "a word", "twice": "another"}


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 4, 1)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        return self.head(self.c(self.b(self.b(self.a(x)).relu()).relu()).relu().mean((2, 3)))


def build(key):
    torch.manual_seed(0)
    chain = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5),
    )
    network = chain if key == "chain" else Twice()
    return network.eval(), (torch.randn(4, 3, 8, 8),)
"""
NEUTRAL = """
import torch

NOT_NEUTRAL = {"twice"}


def zero(network, key, inputs):
    with torch.no_grad():
        for name in ("0", "1", "3"):
            layer = network.get_submodule(name)
            layer.weight[::2], layer.bias[::2] = 0, 0
        for name in ("3", "7"):
            network.get_submodule(name).weight[:, ::2] = 0
    return network
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    specification = importlib.util.spec_from_file_location("bench_cases", BENCH / "cases.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "bench_cases", module)  # where dataclasses look
    specification.loader.exec_module(module)
    # On the images alone: that it aligns on many more is the same for every network.
    monkeypatch.setitem(module.METHODS, "FSKD", fsc.FSKD(solve_on=0))
    return module


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "neutral.py").write_text(NEUTRAL)
    (tmp_path / "networks.py").write_text(NETWORKS)
    return tmp_path / "networks.py"


pytestmark = [
    pytest.mark.filterwarnings("ignore::fsc.CompressionWarning"),
    pytest.mark.usefixtures("one_thread"),
]


def test_what_is_cut_and_what_stays_is_counted(script, path, capsys) -> None:
    script.main([str(path)])
    lines = capsys.readouterr().out.splitlines()
    chain, twice = (line.split(" | ") for line in lines[2:4])
    assert chain[:4] == ["| chain", "2", "2", "all"] and chain[-1] == "0 |"
    assert all(float(cell) < 1e-10 for cell in chain[4:8])
    assert twice[:4] == ["| twice", "3", "1", "all"] and twice[5:8] == ["", "", ""]
    assert lines[5] == "3 of 5 hidden convolutions cut, 60 %; 0 refusals, 0 wrong answers."
    assert lines[9].startswith("| twice | a | ")
    assert lines[10].startswith("| twice | b | layer 'b' is called more than once")


def _broken(script, monkeypatch, path, change) -> object:
    """The row of the chain where every student is changed before it is handed out."""
    real = fsc.compress

    def compress(teacher, images, **given):
        result = real(teacher, images, **given)
        with torch.no_grad():
            change(teacher, result.student)
        return result

    monkeypatch.setattr(script.fsc, "compress", compress)
    return script.measure(script.Cases(path), "chain")


def test_a_student_that_is_no_cut_of_its_teacher_is_wrong(script, monkeypatch, path) -> None:
    row = _broken(script, monkeypatch, path, lambda _, student: student[3].weight.mul_(1.1))
    assert "cut and masked differ" in row.wrong[0] and row.wrong[0].startswith("L1")
    moved = [sentence for sentence in row.wrong if "a neutral cut moves the output" in sentence]
    assert [sentence.split(":")[0] for sentence in moved] == ["L1", "CD", "FSKD"]


def test_outputs_that_are_not_finite_are_wrong(script, monkeypatch, path) -> None:
    row = _broken(script, monkeypatch, path, lambda _, student: student[-1].bias.fill_(torch.nan))
    expected = [f"{label}: outputs are not finite, or of another size" for label in script.METHODS]
    assert set(expected) < set(row.wrong)


def test_a_teacher_that_has_changed_is_wrong(script, monkeypatch, path) -> None:
    row = _broken(script, monkeypatch, path, lambda teacher, _: teacher[-1].bias.add_(1))
    assert "MiR: the teacher is not what it was" in row.wrong


def test_a_student_that_its_file_does_not_give_back_is_wrong(script, monkeypatch, path) -> None:
    real = fsc.load

    def load(*given, **named):
        loaded = real(*given, **named)
        loaded[-1].bias.data.add_(1)
        return loaded

    monkeypatch.setattr(script.fsc, "load", load)
    row = script.measure(script.Cases(path), "chain")
    assert row.wrong == [f"{n}: does not come back from its file" for n in script.METHODS]


def test_what_a_method_refuses_is_told_and_no_wrong_answer(script, monkeypatch, path, capsys):
    def compress(teacher, images, *, method, **given):
        raise ValueError("no\nmore")

    monkeypatch.setattr(script.fsc, "compress", compress)
    script.main([str(path), "chain"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| chain | 0 | 0 | not L1, CD, FSKD, MiR |  |  |  |  | 0 |"
    assert "4 refusals, 0 wrong answers" in lines[4] and "| chain | L1 | ValueError: no |" in lines


@pytest.mark.parametrize(
    ("text", "arguments", "sentence"),
    [
        (None, [], "PATH must be a file that ends in .py, got "),
        ("CASES = {}", [], "PATH must define CASES and build, got no build in "),
        (NETWORKS, ["chain", "loop"], "KEY must be one of chain, twice, got loop"),
    ],
)
def test_what_does_not_fit_is_refused(script, tmp_path, capsys, text, arguments, sentence) -> None:
    path = tmp_path / "other.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit, match="2"):
        script.main([str(path), *arguments])
    assert sentence in capsys.readouterr().err


def test_networks_that_break_pruning_tools(script, data_root, capsys) -> None:
    """Three of docs/results/cases.md: a branch on the size, multiplied halves, a decoder."""
    path = data_root.parent / "cases" / "networks.py"
    if not path.is_file():
        pytest.skip(f"{path} is not there: see docs/results/cases.md")
    script.main([str(path), "3", "14", "20"])
    out = capsys.readouterr().out
    assert "7 of 7 hidden convolutions cut, 100 %; 0 refusals, 0 wrong answers." in out
    for line in out.splitlines()[2:5]:
        assert all(float(cell) < 1e-8 for cell in line.split(" | ")[4:8])
