"""FSKD on VGG-16 against two bare forwards, and against the released algorithm.

python bench/bench_fskd.py [--images 500] [--rounds 5] [--no-released]

A plain script and no pytest-benchmark: what is compared takes many seconds and has to take turns,
so that what else the machine does falls on all alike. One thread, process CPU time, medians. With
FSC_DATA the trained network and images of CIFAR-10, else random weights and random images.

The released algorithm, written plainly: for each convolution in turn both networks run on all
images, what the layer gives becomes rows [pixels, C], least squares by SVD in float64 (numpy's
`lstsq`, which it calls, computes so whatever it is given), Q is absorbed. As it stands it runs both
networks to their end every time; what it would take if it stopped at the layer is printed too.
BatchNorm is folded first: the released code knows none.
"""

import copy
import cProfile
import os
import pstats
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click
import torch
from torch import Tensor, nn

import fsc
import fsc_ext
from fsc import FSKD, models, schemes
from fsc.channels.cutting import cut_channels
from fsc.channels.groups import rows_left
from fsc.channels.proof import channel_groups
from fsc.images import data, sampling
from fsc.methods.base import Task
from fsc.methods.l1_norm import largest_channels
from fsc.networks import surgery
from fsc.networks.pretrained import load_pretrained

BATCH = 64
METHOD = FSKD(solve_on=0)
# Where the time of a call goes: the end of a file's name and a function -> words.
PARTS = {
    ("goal.py", "resolved"): "scheme by name",
    ("goal.py", "plan"): "channel groups, tried",
    ("entry.py", "enter"): "network and images checked",
    ("examination.py", "__init__"): "starting point measured",
    ("examination.py", "before"): "scale of images, share",
    ("examination.py", "after"): "student measured",
    ("proof.py", "check_cut"): "proof of the cut",
    ("result.py", "report_of"): "report",
    ("fskd.py", "compress"): "FSKD",
    ("any_aligned.py", "match_of"): "  where both networks meet",
    ("meeting.py", "_run"): "  forwards of both networks",
    ("pointwise_layer.py", "accumulate"): "  Gram matrices",
    ("pointwise_layer.py", "solve"): "  Q",
    ("pointwise_layer.py", "write"): "  Q absorbed",
    ("pointwise_layer.py", "applied"): "  Q on what the layer gave",
}


@dataclass(frozen=True)
class Given:
    """Networks to time; those that are folded have no BatchNorm left.

    Attributes:
        task: teacher with BatchNorm, images, scheme, groups.
        student: the teacher without the channels that go.
        teacher_folded: the teacher.
        student_folded: the student.
        rows: name of a convolution that lost channels -> those of the teacher that it has, [C].
    """

    task: Task
    student: nn.Module
    teacher_folded: nn.Module
    student_folded: nn.Module
    rows: Mapping[str, Tensor]


def given(teacher: nn.Module, images: Tensor, scheme: schemes.Scheme) -> Given:
    """All that is timed."""
    groups = channel_groups(teacher, images[:1])
    task = Task(teacher, images, scheme, BATCH, groups=groups)
    kept = largest_channels(teacher, groups, task.channels_left())
    folded = copy.deepcopy(teacher)
    surgery.fold_batch_norm(folded)
    students = [copy.deepcopy(network) for network in (teacher, folded)]
    for student in students:
        cut_channels(student, groups, kept)
    return Given(task, students[0], folded, students[1], rows_left(groups, kept))


def forwards(networks: tuple[nn.Module, ...], images: Tensor) -> list[Tensor]:
    """What bare networks give, [N, classes] each."""
    with torch.no_grad():
        return [
            torch.cat([network(batch) for batch in images.split(BATCH)]) for network in networks
        ]


@dataclass
class Released:
    """The released algorithm.

    Attributes:
        student: what it made.
        whole: seconds of its forwards through whole networks.
        until: seconds of forwards that would stop at the layer.
        solving: seconds of rows, least squares and absorption.
    """

    student: nn.Module
    whole: float = 0.0
    until: float = 0.0
    solving: float = 0.0

    def recover(self, case: Given) -> None:
        """All convolutions in turn."""
        for name, module in self.student.named_modules():
            if not isinstance(module, nn.Conv2d):
                continue
            wanted, found = (
                self._rows(network, name, case.task.images)
                for network in (case.teacher_folded, self.student)
            )
            begin = time.process_time()
            _absorb(module, _least_squares(found, wanted[:, case.rows.get(name, slice(None))]))
            self.solving += time.process_time() - begin

    def _rows(self, network: nn.Module, name: str, images: Tensor) -> Tensor:
        """What a layer gives for all images, [pixels, C]."""
        kept: list[Tensor] = []

        def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
            kept.append(output)
            self.until += time.process_time() - begin

        handle = network.get_submodule(name).register_forward_hook(keep)
        with torch.no_grad():
            for batch in images.split(BATCH):
                begin = time.process_time()
                network(batch)
                self.whole += time.process_time() - begin
        handle.remove()
        begin = time.process_time()
        rows = torch.cat(kept).movedim(1, -1).flatten(0, -2)
        self.solving += time.process_time() - begin
        return rows


def _least_squares(found: Tensor, wanted: Tensor) -> Tensor:
    """Q, [C, C], of X_S and X_T as rows."""
    answer = torch.linalg.lstsq(found.double(), wanted.double(), driver="gelsd")
    return answer.solution.T.float()


def _absorb(layer: nn.Conv2d, factor: Tensor) -> None:
    with torch.no_grad():
        weight, bias = fsc_ext.absorb_conv1x1(layer.weight, layer.bias, factor)
        layer.weight.copy_(weight)
        if layer.bias is not None and bias is not None:
            layer.bias.copy_(bias)


def breakdown(work: Callable[[], object]) -> None:
    """Prints seconds of CPU time of parts of a call."""
    profile = cProfile.Profile(timer=time.process_time)
    begin = time.process_time()
    profile.runcall(work)
    print(f"\none call, profiled: {time.process_time() - begin:.2f} s")
    found = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    for (file, function), words in PARTS.items():
        spent = sum(
            row[3]
            for (path, _, name), row in found.items()
            if path.endswith(f"/{file}") and name == function
        )
        print(f"  {words:<32}{spent:7.2f}")


def in_turns(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of CPU time of each, the first round left out."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            begin = time.process_time()
            work()
            if number:
                seconds[name].append(time.process_time() - begin)
            elif name == "compress":
                print(f"first compress of the process: {time.process_time() - begin:.2f} s")
    return {name: median(each) for name, each in seconds.items()}


def network_and_images(count: int) -> tuple[nn.Module, Tensor, Tensor]:
    """VGG-16, images to solve on and others, real where there is real data."""
    root = os.environ.get("FSC_DATA")
    if root is None:
        return models.build("vgg16").eval(), *torch.randn(2, count, 3, 32, 32)
    images = []
    for split in ("train", "test"):
        found = data.load("cifar10", split, root)
        chosen = sampling.sample_random(found.labels, count, 0).indices
        images.append(data.to_tensor(found.images[chosen], *models.normalization("vgg16")))
    file = Path(root) / "checkpoints" / "cifar10_vgg16.pt"
    return load_pretrained(models.build("vgg16"), file).eval(), *images


def against_forwards(case: Given, rounds: int) -> tuple[nn.Module, float]:
    """Prints `fsc.compress` and FSKD beside bare forwards.

    Returns:
        (the student, seconds of `fsc.compress`).
    """
    task = case.task
    students: list[nn.Module] = []

    def compress() -> None:
        result = fsc.compress(
            task.teacher, task.images, method=METHOD, scheme=task.scheme, batch_size=BATCH
        )
        students[:] = [result.student]

    def alone() -> None:
        with torch.no_grad():
            METHOD.compress(task)

    plain, folded = (task.teacher, case.student), (case.teacher_folded, case.student_folded)
    works = {
        "compress": compress,
        "FSKD alone": alone,
        "two forwards": lambda: forwards(plain, task.images),
        "two forwards, BatchNorm folded": lambda: forwards(folded, task.images),
    }
    seconds = in_turns(works, rounds)
    print("\n| CPU s | compress is so many times it | FSKD alone |\n|---|---|---|")
    for name, each in seconds.items():
        ratios = (seconds[ours] / each for ours in ("compress", "FSKD alone"))
        print(f"| {name}: {each:.2f} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
    breakdown(compress)
    return students[0], seconds["compress"]


def against_released(case: Given, student: nn.Module, ours: float, others: Tensor) -> None:
    """Prints the released algorithm beside `fsc.compress`, and how far both students are."""
    released = Released(copy.deepcopy(case.student_folded))
    released.recover(case)
    both = f"forwards {released.whole:.1f} s, the rest {released.solving:.1f} s"
    print(f"\nreleased algorithm: {both}")
    for words, spent in (("as it stands", released.whole), ("stopping early", released.until)):
        total = spent + released.solving
        print(f"  {words}: {total:.1f} s, {total / ours:.1f} times compress")
    networks = (case.task.teacher, case.student, student, released.student)
    names = ("not recovered", "compress", "released")
    for images, where in ((case.task.images, "the same images"), (others, "others")):
        wanted, *found = forwards(networks, images)
        print(f"\noutputs on {where}: relative difference from the teacher's, same class")
        for name, each in zip(names, found, strict=True):
            error = (each - wanted).norm() / wanted.norm()
            agreed = (each.argmax(1) == wanted.argmax(1)).float().mean()
            print(f"  {name:<14}{error:.4f}  {100 * agreed:.1f} %")


@click.command()
@click.option("--images", "count", default=500, help="Images that layers are solved on.")
@click.option("--scheme", default="vgg-b", help="A published scheme of VGG-16.")
@click.option("--rounds", default=5, help="Turns after the first.")
@click.option("--released/--no-released", default=True, help="Run the released algorithm too.")
def main(count: int, scheme: str, rounds: int, released: bool) -> None:
    """Print both comparisons."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore", fsc.CompressionWarning)
    teacher, images, others = network_and_images(count)
    case = given(teacher, images, schemes.named(scheme, "vgg16"))
    student, ours = against_forwards(case, rounds)
    if released:
        against_released(case, student, ours, others)


if __name__ == "__main__":
    main()
