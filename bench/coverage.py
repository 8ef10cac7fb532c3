"""How many real networks the package handles: rewritten, cut at one half, cut equal to masked.

    python bench/coverage.py --json coverage.json timm:resnet50 torchvision:vgg11_bn ...

Networks of timm and torchvision with random weights, on an image of 64x64 (`timm:botnet26t_256@256`
for another size). Every network that the JSON file holds already is left out, so that an
interrupted run goes on. torch-pruning's pruner runs beside it where it is installed. At the end the
table of all networks is printed as Markdown. Neither library is needed for anything else.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fsc import schemes
from fsc.channels.cutting import cut_channels
from fsc.channels.proof import channel_groups, check_cut
from fsc.files import write_json
from fsc.methods.l1_norm import largest_channels
from fsc.networks import cost
from fsc.networks.plain import plain

RATIO = 0.5


def build(name: str) -> tuple[nn.Module, Tensor]:
    """A network with random weights and running statistics as of a trained one, and two images."""
    library, _, rest = name.partition(":")
    model_name, _, side = rest.partition("@")
    torch.manual_seed(0)
    if library == "timm":
        import timm

        model = timm.create_model(model_name)
    else:
        import torchvision

        model = torchvision.models.get_model(model_name, weights=None)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
    pixels = int(side or 64)
    return model.eval(), torch.randn(2, 3, pixels, pixels)


def by_fsc(model: nn.Module, images: Tensor) -> tuple[nn.Module, dict[str, Any]]:
    """The network cut by the L1 norm, and what there is to tell."""
    start = time.process_time()
    teacher = plain(model, images)
    scheme = schemes.structured(teacher, RATIO, images[:1])
    groups = channel_groups(teacher, images[:1])
    kept = largest_channels(teacher, groups, schemes.channels_left(scheme, teacher, groups))
    check_cut(teacher, groups, kept, images[:1])
    student = copy.deepcopy(teacher)
    cut_channels(student, groups, kept)
    told = {
        "groups": len(groups),
        "cut": len(kept),
        "held_back": scheme.held_back,
        "seconds": time.process_time() - start,
    }
    return student, told


def by_torch_pruning(model: nn.Module, images: Tensor) -> nn.Module:
    """The network cut by torch-pruning's own pruner, the classifier left alone."""
    import torch_pruning

    pruned = copy.deepcopy(model)
    linears = [module for module in pruned.modules() if isinstance(module, nn.Linear)]
    pruner = torch_pruning.pruner.MagnitudePruner(
        pruned,
        images[:1],
        torch_pruning.importance.MagnitudeImportance(p=1),
        pruning_ratio=RATIO,
        ignored_layers=linears[-1:],
    )
    pruner.step()
    return pruned


def shares(model: nn.Module, cut: nn.Module, images: Tensor) -> list[float]:
    """Shares of parameters and multiply-accumulates that went, in percent."""
    with torch.no_grad():
        if not cut(images).isfinite().all():
            raise ValueError("outputs are not finite")
    pairs = [(cost.parameters(each), cost.flops(each, images[:1])) for each in (model, cut)]
    return [100 * (1 - left / whole) for whole, left in zip(*pairs, strict=True)]


def attempt(work: Callable[[], Any]) -> Any:
    """What a piece of work gives, or a sentence where it fails: the others go on."""
    try:
        return work()
    except Exception as error:  # whatever a library raises
        return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def measure(name: str) -> dict[str, Any]:
    """Everything about one network."""
    model, images = build(name)

    def ours() -> dict[str, Any]:
        student, told = by_fsc(model, images)
        return told | {"shares": shares(model, student, images)}

    return {
        "parameters": cost.parameters(model),
        "fsc": attempt(ours),
        "torch_pruning": attempt(lambda: shares(model, by_torch_pruning(model, images), images)),
    }


def table(found: dict[str, dict[str, Any]]) -> str:
    """All networks as Markdown."""
    lines = [
        "| network | M parameters | fsc: − parameters %, − MACs % | torch-pruning |",
        "|---|---|---|---|",
    ]
    for name, row in sorted(found.items()):
        ours, theirs = row["fsc"], row["torch_pruning"]
        told = ours if isinstance(ours, str) else "{:.1f}, {:.1f}".format(*ours["shares"])
        beside = "fails" if isinstance(theirs, str) else "{:.1f}, {:.1f}".format(*theirs)
        lines.append(f"| {name} | {row['parameters'] / 1e6:.2f} | {told} | {beside} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", help="timm:NAME or torchvision:NAME, then @SIDE")
    parser.add_argument("--json", type=Path, required=True, help="where results are kept")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    found = json.loads(given.json.read_text(encoding="utf-8")) if given.json.is_file() else {}
    for name in given.networks:
        if name not in found:
            found[name] = measure(name)
            write_json(given.json, found)
            print(name, "done", flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
