"""bench/check.py, on made-up times: what counts as a loss, and what is said of cases and tables."""

import importlib
import json
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def check(monkeypatch, tmp_path):
    """The script, with two cases that nothing is computed for, and a table of its own."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the script sets it
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.delitem(sys.modules, "check", raising=False)
    module = importlib.import_module("check")
    monkeypatch.setattr(module, "KEPT", tmp_path / "kept.json")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    yield module
    sys.modules.pop("check")


@pytest.fixture
def run(check, monkeypatch, one_thread):
    """Runs it where plain PyTorch takes so many seconds and ours one, a value a measurement."""

    def runs(*typed: str, **plain: list[float]) -> Result:
        left = {name: iter(values) for name, values in plain.items()}

        def in_turns(name: str, rounds: int, seconds: float) -> dict[str, list[float]]:
            slow = next(left[name])
            return {"fused": [1.0] * 3, "plain": [slow, 2 * slow, 0.0], "other": [2 * slow] * 3}

        monkeypatch.setattr(check, "all_cases", lambda: {name: lambda _, name=name: name
                                                         for name in plain})  # fmt: skip
        monkeypatch.setattr(check, "in_turns", in_turns)
        return CliRunner().invoke(check.main, typed)

    return runs


def keep(check, **ratios: float) -> None:
    table = {"torch": "2.0", "date": "2020-01-01", "ratios": ratios}
    check.KEPT.write_text(json.dumps({"AVX512": table}))


def test_a_loss_of_21_percent_fails_and_one_of_19_passes(check, run):
    keep(check, gram=10.0, prox=10.0)
    result = run(gram=[7.9] * 3, prox=[8.1])
    assert result.exit_code == 1
    start, end = result.output.split("1 of 2 lost more than 20 %\n")
    assert start.startswith("AVX512, torch") and "kept on 2020-01-01 with torch 2.0\n" in start
    assert [cell.strip() for cell in end.split("|")] == ["", "gram", "7.90", "10.00", "-21 %", ""]
    result = run(gram=[8.1], prox=[30.0])
    assert (result.exit_code, result.output[-28:]) == (0, "\n0 of 2 lost more than 20 %\n")


def test_what_looks_worse_is_measured_twice_more_and_the_best_counts(check, run):
    keep(check, gram=10.0)
    assert run(gram=[1.0, 7.9, 8.1]).exit_code == 0
    assert run(gram=[7.0, 9.0]).exit_code == 0
    result = run(gram=[7.0, 7.9, 7.5])
    assert result.exit_code == 1 and result.output.count("gram, again") == 2
    assert "7.90" in result.output.splitlines()[-1]


def test_without_a_table_for_the_instructions_it_only_prints(check, run, monkeypatch):
    keep(check, gram=10.0)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    result = run(gram=[1.0])
    assert result.exit_code == 0 and "1.00" in result.output
    assert result.output.endswith("nothing kept for AVX2: `make bench-check WRITE=1` keeps these\n")


def test_cases_that_are_gone_or_new_are_said(check, run):
    keep(check, gram=10.0, old=1.0)
    result = run(gram=[10.0], new=[1.0])
    assert result.exit_code == 0
    assert "\nold: kept, but there is no such case; " in result.output
    assert "\nnew: not kept yet; " in result.output
    # Those that are only left out are neither.
    assert "not kept" not in run("--only", "gr*m", gram=[10.0], new=[1.0]).output
    result = run("--only", "conv", gram=[10.0])
    assert result.exit_code == 2 and "in the name of a case, got 'conv'" in result.output


def test_write_keeps_medians_of_three_in_the_place_of_what_was_kept(check, run, monkeypatch):
    keep(check, gram=10.0, old=1.0)
    result = run("--write", "--only", "gram", gram=[1.0])
    assert result.exit_code == 2 and "--write must be given without --only" in result.output
    result = run("--write", gram=[1.0, 7.123, 9.0])
    assert result.exit_code == 0 and result.output.endswith("kept in kept.json for AVX512\n")
    table = json.loads(check.KEPT.read_text())["AVX512"]
    assert table["torch"] == torch.__version__ and table["date"] > "2026"
    assert table["ratios"] == {"gram": 7.12}
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    run("--write", gram=[3.0] * 3)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    run("--write", gram=[2.0] * 3)
    tables = json.loads(check.KEPT.read_text())
    assert {name: table["ratios"] for name, table in tables.items()} == {
        "AVX512": {"gram": 2.0}, "AVX2": {"gram": 3.0},
    }  # fmt: skip
    assert run(gram=[2.0]).exit_code == 0


def test_the_cases_are_benchmarks_and_kept_ones_are_among_them(check):
    cases = check.all_cases()
    assert 25 <= len(cases) <= 45
    for table in json.loads((BENCH / "kept_ratios.json").read_text()).values():
        assert set(table["ratios"]) <= set(cases)
    with ExitStack() as stack:
        calls = cases["prox_group_l2 vgg16-256 1"](stack)
        assert set(calls) == {"fused", "plain"}
        ours, plain = (call() for call in calls.values())
    torch.testing.assert_close(ours, plain)


def test_calls_take_turns_and_short_ones_are_repeated(check, monkeypatch):
    module = sys.modules["in_turns"]
    now, order = 0.0, []

    def call(name: str, seconds: float) -> None:
        nonlocal now
        now += seconds
        order.append(name)

    monkeypatch.setattr(module.time, "process_time", lambda: now)
    calls = {"long": lambda: call("long", 1.0), "short": lambda: call("short", 8e-4)}
    spent = module.in_turns(calls, 2)
    assert spent["long"] == pytest.approx([1.0] * 2) and spent["short"] == pytest.approx([8e-4] * 2)
    assert order[4:] == ["long", *["short"] * 6, "long"]
    assert len(module.in_turns(calls, 2, 5.0)["long"]) == 4
