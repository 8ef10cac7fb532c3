"""`fsc analyse --measure pointwise`: the pointwise matrix of a layer, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from rich.table import Table
from torch import Tensor

from fsc.cli import tables
from fsc.cli.trial import Findings, Trial
from fsc.report import pointwise
from fsc.result import Result
from fsc.wording import shown

_NOTE = tables.wrapped(
    "the pointwise convolution of the layer's first term, a row for every output channel and a "
    "column for every input channel, BatchNorm folded",
    "change: distance from the first matrix, squared, in percent of its energy, 0: the same; -: of "
    "another size",
)


def findings(trial: Trial, results: Mapping[str, Result], layer: str) -> Findings:
    """Take the pointwise matrix of a layer of students, by method (FSKD, Fig. 8).

    Raises:
        ValueError: they have no such layer.
    """
    try:
        found = {m: pointwise.pointwise_matrix(each.student, layer) for m, each in results.items()}
    except ValueError as error:
        raise ValueError(
            f"--layer must be in every student, got {shown(layer)}: {error}"
        ) from error
    students = [
        {"method": method, "layer": layer, "matrix": matrix.tolist()}
        for method, matrix in found.items()
    ]
    draw = partial(pointwise.draw, found, title=trial.title, name=layer)
    return Findings(students, [_table(f"{trial.title}: {layer}", found)], draw)


def _table(title: str, found: Mapping[str, Tensor]) -> Table:
    first = next(iter(found.values())).double()
    table = Table(title=title, caption=_NOTE, box=tables.BOX, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for heading in ("size", "smallest", "largest", "change %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for method, matrix in found.items():
        rows, columns = matrix.shape
        change = "-"
        if matrix.shape == first.shape:
            share = (matrix.double() - first).square().sum() / first.square().sum()
            change = f"{100 * float(share):.2f}"
        low, high = float(matrix.min()), float(matrix.max())
        table.add_row(method, f"{rows} x {columns}", f"{low:.4f}", f"{high:.4f}", change)
    return table
