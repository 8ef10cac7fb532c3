"""`fsc schemes`: what the published schemes leave of a network, beside the paper's tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from fsc import models, schemes
from fsc.channels.cut_cost import CutCost, shifts
from fsc.channels.groups import labelled_groups
from fsc.cli import options, tables
from fsc.files import write_json
from fsc.networks.cost import Size
from fsc.schemes import QuantizedScheme, SparseScheme

_MODELS = ("vgg16", "resnet56", "resnet34", "mobilenetv2")

# Parameters in millions and FLOPs in billions: CD Tables 10, 11 and 12.
_PUBLISHED = {
    "vgg16": {
        "": (14.99, 0.314), "vgg-50": (4.53, 0.082), "vgg-a": (6.11, 0.208), "vgg-b": (4.37, 0.137),
        "vgg-c": (2.92, 0.061),
    },
    "resnet56": {
        "": (0.85, 0.127), "res-50": (0.50, 0.072), "res-60": (0.42, 0.059),
        "res-70": (0.35, 0.048), "res-90": (0.21, 0.028),
    },
    "resnet34": {
        "": (21.80, 3.68), "res-30": (19.71, 2.97), "res-50": (18.33, 2.51),
        "res-70": (16.92, 2.05), "res-70+": (12.79, 1.85),
    },
}  # fmt: skip
# Parameters and FLOPs left, in percent: MiR Table 2 and section 4.4, which print what is gone.
_PUBLISHED_LEFT = {
    "resnet34": {
        "prune-a-cd": (92.7, 86.0), "prune-a-normal": (85.0, 86.3),
        "prune-a-residual": (91.2, 86.6),
        "prune-b-cd": (88.3, 76.3), "prune-b-normal": (76.7, 76.2),
        "prune-b-residual": (79.4, 76.2),
        "prune-c-cd": (83.9, 66.7), "prune-c-normal": (69.7, 68.7),
        "prune-c-residual": (76.5, 66.5),
    },
    "mobilenetv2": {"prune-d": (87.1, 78.4), "prune-e": (92.3, 86.7)},
}  # fmt: skip
_PAPER = "paper: Cross Distillation (Bai et al., AAAI 2020),"
_MIR = "MiR (Wang et al., CVPR 2022),"
_REASONS = {
    "vgg16": f"{_PAPER} Table 10, whose VGG-16 has a hidden linear layer more, 0.263 M. What it "
    "and FSKD (Li et al., 2018) say gives vgg-a exactly and vgg-b to 5 %; what they say of vgg-c "
    "leaves less than Table 10 prints.",
    "resnet56": f"{_PAPER} Table 11, which counts int(r·c) channels; its code keeps int(r·c) + 1.",
    "resnet34": f"{_PAPER} Table 12, which counts 0.4 % more FLOPs for the whole network too; for "
    f"prune-a to prune-c {_MIR} Table 2, which prints 2.4 points more parameters for "
    "prune-c-residual than the widths leave that give all of its other figures.",
    "mobilenetv2": f"paper: {_MIR} section 4.4, which does not say how it rounds.",
}
_COUNTED = f"parameters: those that are not zero; {tables.FLOPS_NOTE}"


@dataclass(frozen=True)
class Line:
    """One scheme of a network; without a name the network itself.

    Attributes:
        model: the network.
        scheme: its name.
        size: what it leaves.
        published: parameters in millions and FLOPs in billions, as a paper prints them.
        published_left: parameters and FLOPs left in percent, where a paper prints only shares.
    """

    model: str
    scheme: str
    size: Size
    published: tuple[float, float] | None = None
    published_left: tuple[float, float] | None = None


def command(model_names: tuple[str, ...], json_path: Path | None, overwrite: bool) -> None:
    """List the published schemes, with what they leave of a network."""
    options.check_outputs(json_path, None, replacing=overwrite)
    lines: list[Line] = []
    for name in model_names or _MODELS:
        found = describe(name)
        lines += found
        if json_path is not None:
            write_json(json_path, {"schemes": [_plain(line) for line in lines]})
        tables.show(_table(name, found))
    quantized = [name for name in schemes.names() if name.startswith("w")]
    fit = f"{', '.join(quantized)} fit every network and leave its parameters and FLOPs."
    tables.show(f"\n{tables.wrapped(fit)}")
    tables.show_written(json_path)


def describe(model_name: str) -> list[Line]:
    """The network, then every published scheme for it."""
    side = models.image_side(model_name)
    num_classes = 10 if side == 32 else 1000  # CIFAR-10 and ImageNet
    model = models.skeleton(model_name, num_classes, device="cpu")
    # Which channels go together depends neither on the weights nor on the size of the image.
    groups = labelled_groups(model, (torch.zeros(1, 3, 32, 32),))
    cost = CutCost(model, torch.zeros(1, 3, side, side), groups, zeros=shifts(model))
    published = _PUBLISHED.get(model_name, {})
    published_left = _PUBLISHED_LEFT.get(model_name, {})
    lines = [Line(model_name, "", cost.size({}, {}), published.get(""))]
    for name in schemes.names():
        if not schemes.fits(name, model_name):
            continue
        scheme = schemes.named(name, model_name)
        if not isinstance(scheme, QuantizedScheme):
            if isinstance(scheme, SparseScheme):
                left = cost.size({}, scheme.kept)
            else:
                left = cost.size(schemes.channels_left(scheme, model, groups), {})
            printed = published.get(name), published_left.get(name)
            lines.append(Line(model_name, name, left, *printed))
    return lines


def _table(model_name: str, lines: list[Line]) -> Table:
    reason = _REASONS.get(model_name)
    caption = tables.wrapped(_COUNTED, *([] if reason is None else [reason]))
    title = f"Schemes of {model_name}"
    table = Table(
        title=title, caption=caption, box=tables.BOX, pad_edge=False, collapse_padding=True
    )
    table.add_column("scheme", no_wrap=True)
    has_paper = any(line.published or line.published_left for line in lines)
    headings = ["parameters", "parameters\nleft, %", "FLOPs", "FLOPs\nleft, %"]
    headings += ["paper's\nparameters", "paper's\nFLOPs"] if has_paper else []
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    whole = lines[0].size
    for line in lines:
        size = line.size
        cells = [
            f"{size.nonzero / 1e6:.2f} M",
            f"{100 * size.nonzero / whole.nonzero:.1f}",
            f"{size.flops / 1e9:.3f} G",
            f"{100 * size.flops / whole.flops:.1f}",
        ]
        if has_paper:
            cells += _in_the_paper(line)
        table.add_row(line.scheme or "whole network", *cells)
    return table


def _in_the_paper(line: Line) -> list[str]:
    if line.published is not None:
        return [f"{line.published[0]:.2f} M", f"{line.published[1]:.3f} G"]
    if line.published_left is not None:
        return [f"{share:.1f} %" for share in line.published_left]
    return ["-", "-"]


def _plain(line: Line) -> dict[str, Any]:
    return {**asdict(line), **asdict(line.size)}
