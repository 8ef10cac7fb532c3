"""The table of accuracy against images a class, and that the documents hold what the runs gave."""

import importlib
import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

import click
import pytest

from fsc.files import read_json

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"


@pytest.fixture
def shots_table(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    monkeypatch.delitem(sys.modules, "shots_table", raising=False)
    return importlib.import_module("shots_table")


def written(
    folder: Path, name: str, shots: int, augment: str | None = None, **runs: list[float]
) -> Path:
    made = [
        {"method": method, "seed": seed, "top1": top1, "seconds": 2.0 + shots}
        for method, accuracies in runs.items()
        for seed, top1 in enumerate(accuracies)
    ]
    path = folder / name
    file = {"model": "resnet56", "data": "cifar10", "scheme": "res-50", "test_images": 10000}
    file |= {"weights_teacher": "ab", "top1_teacher": 93.39, "shots": shots, "runs": made}
    file["augment"] = augment
    path.write_text(json.dumps(file))
    return path


def test_each_cell_has_mean_spread_draws_and_the_papers_figure(shots_table, tmp_path):
    files = [
        written(tmp_path, "a.json", 1, fskd=[84.0, 85.0, 86.0, 87.0, 88.0], l1=[78.4]),
        written(tmp_path, "b.json", 10, fskd=[88.0, 90.0]),
        written(tmp_path, "c.json", 10, default=[91.0, 91.0, 91.0, 91.0, 91.0]),
        written(tmp_path, "d.json", 10, "mixup:3", fskd=[90.0]),
    ]
    _, rows = shots_table.read(files)
    assert shots_table.table(rows).splitlines()[2:] == [
        "| `fskd` | 2 to 5 | 86.00 ± 1.58 (84.26) | 89.00 ± 1.41 (88.15) | 3 to 12 |",
        "| `l1` | 1 | 78.40 (80.43) |  | 3 |",
        "| `default` | 5 |  | 91.00 | 12 |",
        "| `fskd + mixup` | 1 |  | 90.00 (88.15) | 12 |",
    ]


def test_files_that_do_not_belong_together_are_refused(shots_table, tmp_path):
    first = written(tmp_path, "a.json", 1, l1=[78.4])
    again = written(tmp_path, "b.json", 1, l1=[78.4])
    with pytest.raises(click.UsageError, match=r"each run once, got l1 at 1 again in .*b\.json"):
        shots_table.read([first, again])
    other = written(tmp_path, "c.json", 5, l1=[78.4])
    other.write_text(other.read_text().replace("res-50", "res-60"))
    with pytest.raises(click.UsageError, match=r"share scheme, got 'res-60' in .*c\.json"):
        shots_table.read([first, other])


@pytest.mark.parametrize("page", sorted(p.stem for p in RESULTS.iterdir() if p.is_dir()))
def test_a_page_of_results_holds_what_its_runs_gave(shots_table, page):
    by_scheme = defaultdict(list)
    for path in sorted((RESULTS / page).glob("*.json")):
        by_scheme[read_json(path, "comparison file")["scheme"]].append(path)
    text = (RESULTS / f"{page}.md").read_text(encoding="utf-8")
    assert by_scheme
    for paths in by_scheme.values():
        assert shots_table.table(shots_table.read(paths)[1]) in text


@pytest.mark.parametrize("path", sorted(RESULTS.glob("fskd/*/*.json")), ids=lambda path: path.stem)
def test_the_page_of_fskd_holds_what_came_back(path):
    found = read_json(path, "comparison file")
    top1 = {
        method: [run["top1"] for run in found["runs"] if run["method"] == method]
        for method in ("l1", "fskd")
    }
    after = f"{mean(top1['fskd']):.2f}"
    if len(top1["fskd"]) > 1:
        after += f" ± {stdev(top1['fskd']):.2f}"
    run = next(run for run in found["runs"] if run["method"] == "fskd")
    left = [f"{100 * run[n] / found[n + '_teacher']:.0f} %" for n in ("parameters", "flops")]
    row = " | ".join([f"{mean(top1['l1']):.2f}", after, *left])
    assert f"| {row} |" in (RESULTS / "fskd.md").read_text(encoding="utf-8")
