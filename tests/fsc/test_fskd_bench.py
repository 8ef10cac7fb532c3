"""bench/bench_fskd.py runs, on a tiny network."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from fsc.schemes import Scheme

FILE = Path(__file__).parents[2] / "bench" / "bench_fskd.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    specification = importlib.util.spec_from_file_location("bench_fskd", FILE)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "bench_fskd", module)  # where dataclasses look
    specification.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore::fsc.CompressionWarning")
def test_both_comparisons_and_that_they_do_the_same(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()
    second = nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6), nn.ReLU()
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    teacher, images = nn.Sequential(*first, *second, *head).eval(), torch.randn(70, 3, 8, 8)
    case = script.given(teacher, images, Scheme("half", {"0": 4}))
    student, seconds = script.against_forwards(case, 1)
    script.against_released(case, student, seconds, images)
    printed = capsys.readouterr().out
    assert "| compress:" in printed and "stopping early" in printed
    # Least squares of the released code leave a little less than a damped Q.
    released = script.Released(script.copy.deepcopy(case.student_folded))
    released.recover(case)
    wanted, pruned, ours, theirs = script.forwards(
        (teacher, case.student, student, released.student), images
    )
    gaps = [float((each - wanted).norm()) for each in (pruned, ours, theirs)]
    assert gaps[1] < gaps[0] and gaps[2] < gaps[0]
    assert float((ours - theirs).norm()) < 0.2 * float((pruned - wanted).norm())
