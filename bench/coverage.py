"""How many real networks the package handles: cut at one half, compressed by every method, saved.

    python bench/coverage.py --json coverage.json

measures every network of `coverage_networks.py` with random weights, then writes
`docs/results/coverage.md`. Each is rewritten by `fsc.plain`, cut by a half of the channels of every
group that can go, the squeezes of gates too, and the cut network compared with the masked one.
torch-pruning's pruner runs beside it on the same network. Then all four methods compress it: L1
norm, cross distillation in closed form, FSKD, MiR with two steps at a rate that is halved until it
converges; students of the first two, whose layers those of the others have, are saved, loaded into
a fresh network and compared.

A network that the JSON file holds already is left out, so that an interrupted run goes on; names
as arguments measure these alone, anew. Each row says when it was made and of which code. A network
that takes longer than `--limit` is left, and says so. Needs timm, torchvision and torch-pruning;
nothing else of the package does.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import importlib.metadata
import json
import logging
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from coverage_networks import NETWORKS, build
from coverage_page import page
from torch import Tensor, nn

import fsc
from fsc import schemes
from fsc.channels.groups import ChannelGroup
from fsc.channels.proof import channel_groups, check_cut
from fsc.channels.propagation import AT_OUTPUT
from fsc.files import write_atomically, write_json
from fsc.methods.base import Method, Outcome, Task
from fsc.networks import cost
from fsc.networks.plain import pass_on, plain

RATIO = 0.5
METHODS: dict[str, Method] = {
    "L1": fsc.L1Norm(),
    "CD": fsc.CrossDistillation(),
    "FSKD": fsc.FSKD(),
    "MiR": fsc.MiR(steps=2, learning_rate=1e-3, max_retries=80),
}
# FSKD keeps the channels and layers that L1 keeps but folds as CD does, MiR is L1 but for values.
CHECKED = ("L1", "CD")
# Relative, in float64.
ROUNDING = 1e-10
# Seconds for torch-pruning, which does not end on every network.
PATIENCE = 180
PAGE = Path(__file__).resolve().parents[1] / "docs" / "results" / "coverage.md"


class OutOfTime(BaseException):
    """No Exception, so that nothing takes it for a fault of the network."""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raises OutOfTime in what runs longer."""

    def stop(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attempt(work: Callable[[], Any]) -> Any:
    """What a piece of work gives, or a sentence where it fails: the others go on."""
    try:
        return work()
    except Exception as error:  # whatever a library raises
        return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def by_torch_pruning(model: nn.Module, images: Tensor, at_output: list[str]) -> nn.Module:
    """The network cut by torch-pruning's own pruner, what makes the output left alone."""
    import torch_pruning

    pruned = copy.deepcopy(model)
    modules = dict(pruned.named_modules())
    linears = [module for module in modules.values() if isinstance(module, nn.Linear)]
    pruner = torch_pruning.pruner.MagnitudePruner(
        pruned,
        images[:1],
        torch_pruning.importance.MagnitudeImportance(p=1),
        pruning_ratio=RATIO,
        ignored_layers=[modules[name] for name in at_output if name in modules] or linears[-1:],
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


def compressed(name: str, label: str, task: Task) -> dict[str, Any]:
    """What a method makes of a network: how far its student is, and whether it comes back."""
    start = time.process_time()
    outcome = METHODS[label].compress(task)
    seconds = time.process_time() - start
    if label in CHECKED:
        check_cut(task.teacher, task.groups, outcome.kept, task.images[:1])
    with torch.no_grad():
        expected, found = task.teacher(task.images), outcome.student(task.images)
    if not found.isfinite().all():
        raise ValueError("outputs are not finite")
    distance = float((found - expected).norm() / expected.norm()) ** 2
    told = {"seconds": seconds, "distance": distance}
    if label in CHECKED:
        told["comes_back"] = attempt(lambda: comes_back(name, task, outcome))
    return told


def comes_back(name: str, task: Task, outcome: Outcome) -> bool:
    """Whether a student is saved, and loaded into a fresh network, as it is."""
    pass_on(task.teacher, outcome.student)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "student.safetensors"
        fsc.save(outcome.student, path)
        loaded = fsc.load(path, model=build(name)[0])
    state, other = outcome.student.state_dict(), loaded.state_dict()
    if state.keys() != other.keys() or not all(torch.equal(state[k], other[k]) for k in state):
        return False
    images = task.images.double()  # memory is aligned otherwise, so that float32 rounds otherwise
    with torch.no_grad():
        found, expected = loaded.double()(images), outcome.student.double()(images)
    return bool((found - expected).norm() <= ROUNDING * expected.norm())


def half(group: ChannelGroup) -> tuple[str, int]:
    """How many rows of a layer stay where a half of a group goes; the layer that makes most of it.

    Not more can go than one layer makes: that is how a scheme says it.
    """
    layer = max(group.named("writer"), key=lambda name: len(group.rows_of(name)[0]))
    channels, repeats = group.rows_of(layer)
    free, own = int(group.free.sum()), int(group.free[channels].sum())
    gone = free - max(round(free * (1 - RATIO)), int(free == group.size))
    return layer, (len(channels) - min(gone, own - int(own == len(channels)))) * repeats


def reasons(groups: list[ChannelGroup], teacher: nn.Module) -> dict[str, float]:
    """Why groups stay, and the share of the parameters that layers hold that write them."""
    total, found = cost.parameters(teacher), dict[str, float]()
    for group in groups:
        if group.frozen is not None and group.frozen != AT_OUTPUT:
            weights = [teacher.get_submodule(name).weight for name in group.named("writer")]
            held = sum(weight.numel() for weight in weights if isinstance(weight, Tensor))
            found[group.frozen] = found.get(group.frozen, 0.0) + 100 * held / total
    return found


def by_fsc(name: str, model: nn.Module, images: Tensor, row: dict[str, Any]) -> None:
    """Everything that the package does with a network, in a row that grows."""
    start = time.process_time()
    teacher = plain(model, images)
    groups = channel_groups(teacher, images[:1])
    free = [group for group in groups if group.frozen is None]
    row |= {"groups": len(groups), "free": len(free), "seconds": time.process_time() - start}
    row["reasons"] = reasons(groups, teacher)
    row["at_output"] = [n for g in groups if g.frozen == AT_OUTPUT for n in g.named("writer")]
    for gates, key in ((False, "without_gates"), (True, "shares")):
        kept = dict(half(group) for group in free if gates or not group.is_gate)
        task = Task(teacher, images, schemes.Scheme(key, kept), groups=groups)
        row[key] = shares(model, METHODS["L1"].compress(task).student, images)
    row["methods"] = {}
    for label in METHODS:
        row["methods"][label] = attempt(lambda key=label: compressed(name, key, task))


def made_with() -> dict[str, str]:
    """The day, and the code: its commit, with a + where files differ from it, or its version."""
    git = ["git", "-C", str(PAGE.parents[2])]
    try:
        told = [
            subprocess.run([*git, *args], capture_output=True, text=True, check=True).stdout.strip()
            for args in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "-uno"))
        ]
        code = told[0] + ("+" if told[1] else "")
    except (OSError, subprocess.CalledProcessError):
        code = importlib.metadata.version("fsc-ext")
    return {"date": datetime.date.today().isoformat(), "code": code}


def measure(name: str, limit: int) -> dict[str, Any]:
    """Everything about one network."""
    model, images = build(name)
    row: dict[str, Any] = {"parameters": cost.parameters(model), "fault": None, **made_with()}
    try:
        with time_limit(limit):
            by_fsc(name, model, images, row)
    except OutOfTime:
        row["fault"] = f"took longer than {limit} s"
    except Exception as error:  # whatever went wrong is what is to be measured
        row["fault"] = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    at_output = row.pop("at_output", [])
    try:
        with time_limit(PATIENCE):
            row["torch_pruning"] = attempt(
                lambda: shares(model, by_torch_pruning(model, images, at_output), images)
            )
    except OutOfTime:
        row["torch_pruning"] = f"took longer than {PATIENCE} s"
    return row


def main() -> None:
    """Measure what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", help="timm:NAME or torchvision:NAME, then @SIDE")
    parser.add_argument("--json", type=Path, required=True, help="where results are kept")
    parser.add_argument("--limit", type=int, default=1200, help="seconds for one network")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    found = json.loads(given.json.read_text(encoding="utf-8")) if given.json.is_file() else {}
    for name in given.networks or NETWORKS:
        if given.networks or name not in found:
            found[name] = measure(name, given.limit)
            write_json(given.json, found)
            print(name, json.dumps(found[name]), flush=True)
    text = page({name: found[name] for name in NETWORKS if name in found})
    write_atomically(PAGE, lambda path: path.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    main()
