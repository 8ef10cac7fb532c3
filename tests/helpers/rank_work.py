"""What single processes of a group do in tests of `fsc.ranks`."""

from __future__ import annotations

import os
import signal
import warnings
from typing import Any

import shared_cases
import torch
from networks import chain
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

import fsc
from fsc import ranks
from fsc.images.folder import ImageFolder
from fsc.layers.moments import Columns, Moments
from fsc.methods import layerwise
from fsc.methods.lesson import Learner, Lesson
from fsc.methods.score_losses import cross_entropy
from fsc.methods.views import FixedViews
from fsc.solvers.patch import Patch


def pieces() -> dict[str, Any]:
    """What the functions of `fsc.ranks` give."""
    rank = ranks.number()
    own = torch.full((2, rank), float(rank))
    doubled = torch.ones(3) * (rank + 1)
    ranks.add_up(doubled)
    found: dict[str, Any] = {
        "joined": ranks.side_by_side(own, 1),
        "summed": doubled,
        "total": ranks.total(rank + 1),
        "own": ranks.own(5),
        "share": ranks.share(torch.arange(5)),
        "everyone": ranks.everyone(f"rank {rank}"),
        "first": ranks.first(lambda: (rank, ranks.count())),
    }
    try:
        ranks.first(_refuse)
    except OSError as error:
        found["error"] = str(error)
    return found


def _refuse() -> None:
    raise FileNotFoundError("nothing is there")


def moments(seen: Tensor) -> list[Tensor]:
    """The moments and columns of a layer that reads images [N, 3, H, W] in float32."""
    patch = Patch.of(nn.Conv2d(3, 4, 3))
    gathered = Moments(patch), Columns(patch)
    for each in gathered:
        for batch in ranks.share(seen).split(2):
            each.accumulate(batch, 2 * batch)
        each.join_ranks()
    sums, columns = gathered
    grams = [sums.gram_student, sums.gram_cross, sums.gram_teacher]
    return [*grams, *columns.teacher, *columns.student, torch.tensor(sums.num_images)]


def gradients(batch_size: int) -> list[Tensor]:
    """The gradients of two steps on five images in float32, the second on what is left over."""
    torch.manual_seed(3)
    model, seen = chain(), shared_cases.images().float()
    views = FixedViews.of(seen, 5).with_targets(labels=torch.arange(5) % 4)
    schedule = fsc.BackProp(steps=2, batch_size=batch_size, batch_norm="frozen")
    learner = Learner(model, model, Lesson("", views, cross_entropy, 2, 0.1, schedule, 0))
    found = []
    for _ in range(2):
        learner.advance()
        found += [parameter.grad.clone() for parameter in model.parameters()]  # type: ignore[union-attr]
    return found


def seen_by_each(name: str) -> tuple[list[int], list[int]]:
    """How many images this rank walks over, and how many it trains on in every step."""
    walked: list[int] = []
    trained: list[int] = []
    usual = layerwise.walk

    def watching(teacher: nn.Module, student: nn.Module, seen: Tensor, *rest: Any, **more: Any):  # type: ignore[no-untyped-def]
        walked.append(len(seen))
        usual(teacher, student, seen, *rest, **more)

    def watch(module: nn.Module, given: tuple[Any, ...]) -> None:
        if isinstance(module, nn.Conv2d) and module.in_channels == 3 and torch.is_grad_enabled():
            trained.append(len(given[0]))

    layerwise.walk = watching
    handle = register_module_forward_pre_hook(watch)
    try:
        shared_cases.compressed(name)
    finally:
        layerwise.walk = usual
        handle.remove()
    return walked, trained


def cropping(folder: str) -> tuple[dict[str, Tensor], list[int]]:
    """A student trained on crops of five files, and how many this rank trains on in every step."""
    trained: list[int] = []

    def watch(module: nn.Module, given: tuple[Any, ...]) -> None:
        if isinstance(module, nn.Conv2d) and module.in_channels == 3 and torch.is_grad_enabled():
            trained.append(len(given[0]))

    torch.manual_seed(0)
    files = ImageFolder(folder, 8)
    handle = register_module_forward_pre_hook(watch)
    try:
        method = fsc.MiR(views="original-crops", **shared_cases.FROZEN)
        student = fsc.compress(chain(), files, method=method, scheme=shared_cases.HALF).student
    finally:
        handle.remove()
    return dict(student.state_dict()), trained


def too_few() -> None:
    """One image for two ranks."""
    fsc.compress(chain().double(), shared_cases.images(1), method="cd-nc", scheme=shared_cases.HALF)


def own_images() -> None:
    """Each rank is given images of its own."""
    torch.manual_seed(0)
    network = chain().double()
    seen = shared_cases.images() + ranks.number()
    fsc.compress(network, seen, method="cd-nc", scheme=shared_cases.HALF)


def own_choice() -> None:
    """Each rank asks for layers of another kind."""
    torch.manual_seed(0)
    given = {"method": "cd-nc", "scheme": shared_cases.HALF}
    keeps = ranks.number() == 1
    fsc.compress(chain().double(), shared_cases.images(), **given, keep_batch_norm=keeps)


def by_turns(journal: str | None = None) -> dict[str, Any]:
    """A network pruned iteratively, and one that is trained and aligned by turns."""
    folders = [None if journal is None else f"{journal}/{name}" for name in ("pruned", "taught")]
    torch.manual_seed(0)
    (teacher, student), seen = (chain().double() for _ in range(2)), shared_cases.images()
    training = fsc.BackProp(**shared_cases.FROZEN)
    alternation = fsc.Alternation(training=training, rounds=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fsc.CompressionWarning)
        pruned = _pruned_iteratively(teacher, seen, journal=folders[0])
        given = (teacher, student, seen, torch.arange(5) % 4)
        taught = alternation.teach(*given, journal=folders[1])
    scores = [each.score for each in pruned.candidates]
    states = [dict(network.state_dict()) for network in (pruned.student, taught)]
    return {"scores": scores, "pruned": states[0], "taught": states[1]}


def _pruned_iteratively(teacher: nn.Module, seen: Tensor, **options: Any) -> fsc.IterativeResult:
    method = fsc.FSKD(solve_on=0)
    given = {"pruning_ratios": [0.4], "rounds": 2, "method": method} | options
    return fsc.prune_iteratively(teacher, seen, **given)


def refused_by_turns() -> list[str]:
    """What is said of layers that one rank ignores, labels of its own, and of too few images."""
    teacher, seen, rank = chain().double(), shared_cases.images(), ranks.number()
    calls: list[tuple[Tensor, dict[str, Any]]] = [
        (seen, {"ignored": ["conv1"] if rank else []}),
        (seen, {"labels": torch.arange(5) % (3 + rank)}),
        (seen, {"score_images": seen[rank:]}),
        (seen[:2], {}),
    ]
    said = []
    for images, options in calls:
        try:
            _pruned_iteratively(teacher, images, **options)
        except ValueError as error:
            said.append(str(error))
    return said


def with_warnings(journal: str) -> tuple[list[str], int]:
    """The warnings and the progress that a rank tells."""
    told: list[str] = []
    torch.manual_seed(0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fsc.compress(
            chain().double(),
            100 * shared_cases.images(),
            method="cd-nc",
            scheme=shared_cases.HALF,
            journal=journal,
            progress=lambda what, done, total: told.append(what),
        )
    return [str(each.message) for each in said], len(told)


def dying(name: str, journal: str, layer: str) -> None:
    """The second rank is killed where the walk reaches a layer, or a training its second step."""
    if ranks.number() == 1:
        _kill_at(layer)
    shared_cases.compressed(name, journal)


def _kill_at(layer: str) -> None:
    from fsc.methods.layer_solver import LayerSolver

    usual, advance, steps = LayerSolver.before_run, Learner.advance, [0]

    def before_run(self: LayerSolver, reached: Any) -> None:
        if reached.name == layer:
            os.kill(os.getpid(), signal.SIGKILL)
        usual(self, reached)

    def step(self: Learner) -> Tensor:
        steps[0] += 1
        if steps[0] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return advance(self)

    LayerSolver.before_run = before_run  # type: ignore[method-assign]
    Learner.advance = step  # type: ignore[method-assign]


def normalising() -> dict[str, Tensor]:
    """The student of a training with BatchNorm in train mode."""
    torch.manual_seed(0)
    method = fsc.MiR(steps=3, batch_size=5)
    network = chain().double()
    found = fsc.compress(
        network, shared_cases.images(), method=method, scheme=shared_cases.HALF
    ).student
    return dict(found.state_dict())


def alone() -> dict[str, Tensor] | str:
    """The first rank compresses without the other."""
    if not ranks.is_first():
        return "elsewhere"
    with ranks.alone():
        return shared_cases.compressed("moments")[0]
