"""Prints what a campaign has found, the tables of docs/reliability.md.

python tests/campaign/page.py [campaign]

A line a part: how many of its cases were run, what came out, how long it took. Then every fault.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import click

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers")]

import record  # noqa: E402
import run  # noqa: E402
from record import Finding  # noqa: E402

_COUNTED = re.compile(r"(\d+) ([a-z ]+)")


def outcomes(findings: list[Finding]) -> str:
    """What came out how often; of cases that count themselves, the sums of their counts."""
    found: Counter[str] = Counter()
    for finding in findings:
        counted = _COUNTED.findall(finding.outcome)
        # What stands before a colon is the case's own kind.
        own = [(1, finding.outcome.rpartition(": ")[2])] if finding.outcome else []
        for count, word in counted or own:
            found[word] += int(count)
    return ", ".join(f"{count:,} {word}" for word, count in found.most_common())


def line(name: str, findings: list[Finding]) -> str:
    """Of a part."""
    faults = sum(bool(finding.fault) for finding in findings)
    minutes = sum(finding.seconds for finding in findings) / 60
    whole = run.part_of(name).count
    cells = (name, f"{len(findings):,} of {whole:,}", outcomes(findings), faults, f"{minutes:.0f}")
    return f"| {' | '.join(map(str, cells))} |"


@click.command()
@click.argument(
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("campaign"),
)
def main(folder: Path) -> None:
    """Print them."""
    every = {name: record.read(folder / f"{name}.jsonl") for name in run.PARTS}
    click.echo("| part | cases run | what came out | faults | minutes |\n|---|---|---|---|---|")
    for name, findings in every.items():
        click.echo(line(name, findings))
    for name, findings in every.items():
        for finding in findings:
            if finding.fault:
                click.echo(f"\n`{name} --only {finding.number}`: {finding.fault}")


if __name__ == "__main__":
    main()
