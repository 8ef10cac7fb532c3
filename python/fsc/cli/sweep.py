"""`fsc sweep`: how much the weights of the losses matter (Fig. 4)."""

from __future__ import annotations

from pathlib import Path

import torch

from fsc import compress, schemes
from fsc.cli import inputs as cli_inputs, options, tables
from fsc.cli.drawing import Draw
from fsc.cli.progress import Reporter
from fsc.cli.run import batch_size_for
from fsc.cli.teachers import Statistics
from fsc.files import write_json
from fsc.layers.objectives import Convex, Objective, Soft
from fsc.methods import CrossDistillation
from fsc.report import figure
from fsc.training.evaluate import accuracy


def command(
    model_name: str,
    data_name: str,
    scheme_name: str,
    num_shots: int | None,
    num_images: int | None,
    objective_name: str,
    intervals: int,
    num_test: int,
    seed: int,
    json_path: Path | None,
    figure_path: Path | None,
    overwrite: bool,
    checkpoint_path: Path | None,
    data_root: Path | None,
    size: tuple[int, int] | None,
    normalize: Statistics | None,
    device: torch.device,
) -> None:
    """Compress with every weight of a loss on a grid and evaluate each student."""
    draw = Draw(num_shots, num_images)
    options.check_outputs(json_path, figure_path, replacing=overwrite)
    drawn = {"shots": num_shots, "images": num_images}
    inputs = cli_inputs.load(
        model_name, data_name, data_root, checkpoint_path, device, size, normalize
    )
    inputs.check_evaluable("fsc sweep")
    inputs.check_scores()
    scheme = cli_inputs.find_scheme(scheme_name, inputs)
    schemes.check(scheme, inputs.teacher, inputs.example)
    sample = draw.sample(inputs, seed)
    images, labels = inputs.first_test(num_test)
    rows: list[dict[str, float]] = []
    grid = grid_of(objective_name, intervals)
    with Reporter() as reporter:
        for line in inputs.notes:
            reporter.say(line)
        for number, (point, objective) in enumerate(grid, start=1):
            text = ", ".join(f"{name} {value:g}" for name, value in point.items())
            student = compress(
                inputs.teacher,
                inputs.images_of(sample),
                method=CrossDistillation(objective),
                scheme=scheme,
                seed=seed,
                progress=reporter.stage(text),
            ).student
            top1 = accuracy(
                student, images, labels, batch_size_for(inputs), reporter.stage(f"{text}: test")
            )
            rows.append({**point, "top1": top1})
            reporter.say(f"  {text:<24} {top1:6.2f} %   {number} of {len(grid)}")
            if json_path is not None:
                write_json(json_path, {"scheme": scheme.name, **drawn, "points": rows})
    best = max(rows, key=lambda row: row["top1"])
    at = ", ".join(f"{name} {value:g}" for name, value in best.items() if name != "top1")
    if figure_path is not None:
        title = f"{inputs.model_title}, scheme {scheme.name}, {draw}"
        figure.draw_grid(rows, figure_path, title=title)
    tables.show(f"Best: {best['top1']:.2f} % at {at}")
    tables.show_written(json_path, figure_path)


def grid_of(objective_name: str, intervals: int) -> list[tuple[dict[str, float], Objective]]:
    """Every point of the grid with its objective; mu, or alpha and beta, from 0 to 1."""
    values = [step / intervals for step in range(intervals + 1)]
    if objective_name == "convex":
        return [({"mu": mu}, Convex(mu)) for mu in values]
    return [
        ({"alpha": alpha, "beta": beta}, Soft(alpha, beta)) for alpha in values for beta in values
    ]
