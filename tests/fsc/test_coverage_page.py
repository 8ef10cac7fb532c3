"""What the page of the coverage bench counts, and how it says of when its rows are."""

import importlib.metadata
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


def row(**changed: object) -> dict:
    made = {"distance": 0.1, "seconds": 1.0, "comes_back": True}
    row = {"parameters": 10, "fault": None, "groups": 2, "free": 1, "torch_pruning": [50.0, 60.0]}
    row |= {"shares": [50.0, 60.0], "without_gates": [50.0, 60.0], "reasons": {}}
    row |= {"methods": {label: dict(made) for label in ("L1", "CD", "FSKD", "MiR")}}
    return row | changed


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0")
    for name in ("coverage_page", "coverage_networks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("coverage_page").page


def test_a_failed_check_counts_as_no_equal_network(page):
    failed = row()
    failed["methods"]["CD"] = "ValueError: cut it computes something else than masked"
    stopped = row(fault="took longer than 5 s")
    del stopped["methods"]["CD"]
    text = page({"timm:a": row(), "timm:b": failed, "timm:c": stopped})
    assert "the cut network equal to the masked one | 1 |" in text
    assert "- timm:b: CD: ValueError: cut it computes something else than masked." in text


def test_the_page_says_from_when_its_rows_are(page):
    rows = {
        "timm:a": row(date="2026-11-25", code="bbb"),
        "timm:b": row(date="2026-12-01", code="aaa+"),
    }
    assert "measured from 25 November 2026 to 1 December 2026 by the code of aaa+ and bbb." in page(
        rows
    )
    assert "measured on 25 November 2026 by the code of bbb; 1 rows do not say when." in page(
        {"timm:a": rows["timm:a"], "timm:c": row()}
    )


def test_rows_say_when_and_of_what_code_they_are(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    coverage = pytest.importorskip("coverage_networks") and importlib.import_module("coverage")
    if not hasattr(coverage, "made_with"):
        pytest.skip("another package is called coverage")
    assert set(coverage.made_with()) == {"date", "code"}
