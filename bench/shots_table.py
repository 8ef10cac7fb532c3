"""Prints the accuracy of every method against the images a class, from files of `fsc compare`.

python bench/shots_table.py docs/results/resnet56/*.json
python bench/shots_table.py docs/results/resnet56/*.json --figure docs/results/resnet56_shots.png

Each cell: mean and standard deviation over the draws, and in brackets what the papers print. Rows
with images that `--augment` adds are called after them.
Files of other code, scheme or network do not go into one table.
"""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from fsc.cli import published
from fsc.files import read_json
from fsc.report import curves_figure
from fsc.report.curves_figure import Curve

# What all runs of a table share.
SHARED = ("model", "data", "scheme", "test_images", "weights_teacher", "top1_teacher")


@dataclass(frozen=True)
class Cell:
    """A method at one number of images a class.

    Attributes:
        top1: percent, of each draw.
        seconds: of each draw.
        paper: percent, where a paper prints it.
    """

    top1: Sequence[float]
    seconds: Sequence[float]
    paper: float | None

    def __str__(self) -> str:
        """As it stands in the table."""
        mean = f"{statistics.fmean(self.top1):.2f}"
        if len(set(self.top1)) > 1:
            mean += f" ± {statistics.stdev(self.top1):.2f}"
        return mean if self.paper is None else f"{mean} ({self.paper:.2f})"


Rows = Mapping[str, Mapping[int, Cell]]


def read(paths: Sequence[Path]) -> tuple[dict[str, Any], Rows]:
    """What all files share, and of each method, by images a class, what came out.

    Raises:
        click.UsageError: the files do not belong together, or two hold the same runs.
    """
    files = [read_json(path, "comparison file") for path in paths]
    shared = {key: files[0][key] for key in SHARED}
    # By method and what joins the images, however many there are of each.
    found: dict[tuple[str, str], dict[int, list[dict[str, Any]]]] = defaultdict(dict)
    for path, file in zip(paths, files, strict=True):
        for key in SHARED:
            if file[key] != shared[key]:
                raise click.UsageError(
                    f"files must share {key}, got {file[key]!r} in {path} beside {shared[key]!r}"
                )
        kind = (file["augment"] or "").partition(":")[0]
        for method in dict.fromkeys(run["method"] for run in file["runs"]):
            row = found[method, kind]
            if file["shots"] in row:
                raise click.UsageError(
                    f"files must hold each run once, got {method} at {file['shots']} again in "
                    f"{path}"
                )
            row[file["shots"]] = [run for run in file["runs"] if run["method"] == method]
    rows = {
        f"{method} + {kind}" if kind else method: {
            count: _cell(method, kind, shared, count, runs) for count, runs in sorted(row.items())
        }
        for (method, kind), row in found.items()
    }
    return shared, rows


def _cell(
    method: str, augment: str, shared: Mapping[str, Any], count: int, runs: Sequence[Any]
) -> Cell:
    paper = published.lookup(
        method,
        model_name=shared["model"],
        data_name=shared["data"],
        scheme=shared["scheme"],
        num_shots=count,
        augment=augment,
    )
    top1, seconds = ([run[key] for run in runs] for key in ("top1", "seconds"))
    return Cell(top1, seconds, None if paper is None else paper.mean)


def table(rows: Rows) -> str:
    """In Markdown."""
    counts = sorted({count for cells in rows.values() for count in cells})
    lines = [["method", "draws", *(f"{count} a class" for count in counts), "seconds"]]
    lines.append(["---"] * len(lines[0]))
    for name, cells in rows.items():
        drawn = _span([f"{len(cell.top1)}" for cell in sorted(cells.values(), key=_draws)])
        means = sorted(statistics.fmean(cell.seconds) for cell in cells.values())
        taken = _span([f"{mean:.2g}" if mean < 10 else f"{mean:,.0f}" for mean in means])
        accuracies = (str(cells.get(count, "")) for count in counts)
        lines.append([f"`{name}`", drawn, *accuracies, taken])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _draws(cell: Cell) -> int:
    return len(cell.top1)


def _span(words: Sequence[str]) -> str:
    """The first and the last of what is in order, or the one that both are."""
    return words[0] if words[0] == words[-1] else f"{words[0]} to {words[-1]}"


def draw(shared: Mapping[str, Any], rows: Rows, path: Path) -> None:
    """Accuracy against images a class."""
    curves = [
        Curve(name, list(cells), [list(cell.top1) for cell in cells.values()])
        for name, cells in rows.items()
        if len(cells) > 1
    ]
    curves_figure.draw(
        curves,
        path,
        title=f"{shared['model']}, {shared['data']}, {shared['scheme']}",
        label="images a class",
        teacher_top1=shared["top1_teacher"],
        num_test=shared["test_images"],
    )


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--figure", type=click.Path(path_type=Path), help="Draw it too: .png, .pdf or .svg.")
def main(paths: tuple[Path, ...], figure: Path | None) -> None:
    """Print the table of PATHS, files that `fsc compare --json` wrote."""
    shared, rows = read(paths)
    click.echo(f"teacher: {shared['top1_teacher']:.2f} %, {shared['test_images']:,} test images\n")
    click.echo(table(rows), nl=False)
    if figure is not None:
        draw(shared, rows, figure)


if __name__ == "__main__":
    main()
