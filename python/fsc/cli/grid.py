"""`fsc grid`: how much the weights of the losses matter (Fig. 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from fsc import compress
from fsc.cli import tables
from fsc.cli.drawing import Draw
from fsc.cli.goals import of_scheme
from fsc.cli.inputs import Source
from fsc.cli.outputs import Results
from fsc.cli.progress import Reporter
from fsc.cli.run import batch_size_for
from fsc.cli.trial import Trial, begun
from fsc.files import write_json
from fsc.layers.objectives import Convex, Objective, Soft
from fsc.methods import CrossDistillation
from fsc.report import figure
from fsc.training.evaluate import accuracy

# Points that are as good as the best one, by their weights; of the others their number is said.
_NUM_NAMED = 5


def command(
    draw: Draw,
    source: Source,
    results: Results,
    scheme_name: str,
    objective_name: str,
    intervals: int,
    num_test: int,
    seed: int,
) -> None:
    """Compress with every weight of a loss on a grid and evaluate each student."""
    results.hold()
    trial = begun("grid", source, partial(of_scheme, scheme_name), draw, num_test, seed)
    rows: list[dict[str, float]] = []
    grid = grid_of(objective_name, intervals)
    with Reporter() as reporter:
        for line in trial.inputs.notes:
            reporter.say(line)
        for number, (point, objective) in enumerate(grid, start=1):
            text = _in_words(point)
            top1 = _accuracy_of(objective, trial, reporter, text)
            rows.append({**point, "top1": top1})
            reporter.say(f"  {text:<24} {top1:6.2f} %   {number} of {len(grid)}")
    if results.json_path is not None:
        found = {"scheme": trial.goal.name, **trial.draw.identity, "points": rows}
        write_json(results.json_path, found)
    if results.figure_path is not None:
        figure.draw_grid(rows, results.figure_path, title=trial.title)
    tables.show(_best(rows))
    tables.show_written(results.json_path, results.figure_path)


def _best(rows: Sequence[Mapping[str, float]]) -> str:
    """The best accuracy and where it is reached: the first point, and others that are as good."""
    top1 = max(row["top1"] for row in rows)
    first, *others = (
        _in_words({name: value for name, value in row.items() if name != "top1"})
        for row in rows
        if row["top1"] == top1
    )
    told = f"Best: {top1:.2f} % at {first}"
    if not others:
        return told
    more = f"; and {len(others) - _NUM_NAMED} more" if len(others) > _NUM_NAMED else ""
    return tables.wrapped(f"{told}; as good at {'; '.join(others[:_NUM_NAMED])}{more}")


def _accuracy_of(objective: Objective, trial: Trial, reporter: Reporter, text: str) -> float:
    """What a student by this objective gets right, in percent."""
    inputs = trial.inputs
    student = compress(
        inputs.teacher,
        inputs.images_of(trial.sample),
        method=CrossDistillation(objective),
        scheme=trial.goal.scheme,
        seed=trial.sample.seed,
        progress=reporter.stage(text),
    ).student
    stage = reporter.stage(f"{text}: test")
    return accuracy(student, trial.images, trial.labels, batch_size_for(inputs), stage)


def _in_words(point: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in point.items())


def grid_of(objective_name: str, intervals: int) -> list[tuple[dict[str, float], Objective]]:
    """Every point of the grid with its objective; mu, or alpha and beta, from 0 to 1."""
    values = [step / intervals for step in range(intervals + 1)]
    if objective_name == "convex":
        return [({"mu": mu}, Convex(mu)) for mu in values]
    return [
        ({"alpha": alpha, "beta": beta}, Soft(alpha, beta)) for alpha in values for beta in values
    ]
