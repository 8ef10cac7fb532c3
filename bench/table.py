"""Turns pytest-benchmark's JSON into the Markdown table of docs/performance.md.

python bench/table.py bench.json
"""

import json
import re
import sys
from collections import defaultdict
from pathlib import Path

# Variants as they are called in the benchmarks' ids, in the order of the columns.
BASELINES = ("reference", "plain", "plain_float32", "plain_float64", "torch", "compiled", "loop")


def medians(path: Path) -> dict[str, dict[str, float]]:
    """Median seconds of every variant of every group."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for entry in json.loads(path.read_text(encoding="utf-8"))["benchmarks"]:
        variants = [
            v
            for v in (*BASELINES, "compiled_float32", "fused", "in_place")
            if re.search(rf"[\[-]{v}[-\]]", entry["name"])
        ]
        name = variants[0].replace("compiled_float32", "compiled")
        found[entry["group"]][name] = entry["stats"]["median"]
    return found


def milliseconds(seconds: float) -> str:
    """Three significant digits, in milliseconds; of 100 and more, all before the point."""
    taken = 1e3 * seconds
    return f"{taken:#.3g}" if taken < 99.95 else f"{taken:,.0f}"


def main(path: Path) -> None:
    """Prints one row a group: our median, and how many times longer each baseline takes."""
    groups = medians(path)
    columns = [name for name in BASELINES if any(name in row for row in groups.values())]
    print(
        "| operator and shape | fused, ms | " + " | ".join(f"{c} ÷ fused" for c in columns) + " |"
    )
    print("|---" * (len(columns) + 2) + "|")
    for group, row in groups.items():
        ratios = [f"{row[c] / row['fused']:.2f}" if c in row else "" for c in columns]
        print(f"| {group} | {milliseconds(row['fused'])} | " + " | ".join(ratios) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
