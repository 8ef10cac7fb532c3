"""A step of MiR on ResNet-56 against the bare student's forward, backward and SGD.

python bench/bench_mimic_step.py [rounds]

Run so, the three steps take turns, and the ratio of two is the median of those within a round: what
else the machine does falls on all of them alike. The student is that of res-50, a minibatch has 50
images, the teacher's features are there already. One thread, process CPU time.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from operator import truediv
from pathlib import Path
from statistics import median, quantiles

sys.path.append(str(Path(__file__).parent / "helpers"))

import pytest
import torch
from in_turns import in_turns
from torch import Tensor, nn

import fsc
from fsc import models, schemes
from fsc.channels.proof import channel_groups
from fsc.methods.base import Task
from fsc.methods.feature_losses import feature_loss
from fsc.methods.features import TeacherFeatures, body_of, head_features
from fsc.methods.fixed_views import FixedViews
from fsc.methods.l1_norm import without_the_rest
from fsc.methods.lesson import Learner, Lesson
from fsc.methods.memory_layout import fast_layout
from fsc.networks import tracing

BATCH = 50
METHOD = fsc.MiR(batch_size=BATCH, steps=1 << 20)
ROUNDS = 30
Step = Callable[[], Tensor]


def given() -> Task:
    """ResNet-56, its scheme and as many images as a minibatch has."""
    teacher = models.build("resnet56").eval()
    images = torch.randn(BATCH, 3, 32, 32)
    groups = channel_groups(teacher, images[:1])
    return Task(teacher, images, schemes.named("res-50", "resnet56"), groups=groups)


@contextmanager
def mimicking(task: Task) -> Iterator[Step]:
    """One step of MiR, as its training takes it."""
    student, kept = without_the_rest(task)
    nodes = head_features(task.teacher, tracing.trace(task.teacher), "before")
    features = TeacherFeatures(task, nodes, kept)
    views = FixedViews.of(task.images, BATCH).with_targets(features)
    loss = feature_loss("mse", views.targets, 0)
    lesson = Lesson("mimicking", views, loss, METHOD.steps, METHOD.learning_rate, METHOD, 0)
    body = body_of(student, "before")
    with fast_layout(body, lesson.views.example) as layout:
        yield Learner(student, body, lesson, 1.0, layout).advance


@contextmanager
def bare(task: Task, layout: torch.memory_format) -> Iterator[Step]:
    """Forward, backward and SGD of the student alone, in some layout."""
    student: nn.Module = without_the_rest(task)[0].train().to(memory_format=layout)
    images = task.images.contiguous(memory_format=layout)
    rate, momentum, decay = METHOD.learning_rate, METHOD.momentum, METHOD.weight_decay
    sgd = torch.optim.SGD(student.parameters(), rate, momentum, weight_decay=decay)

    def step() -> Tensor:
        loss = student(images).square().mean()
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        return loss.detach()

    yield step


# By the names of bench/table.py: ours, PyTorch written for speed, PyTorch as it comes.
VARIANTS = {
    "fused": mimicking,
    "plain": lambda task: bare(task, torch.channels_last),
    "torch": lambda task: bare(task, torch.contiguous_format),
}

WORDS = {
    "fused": "MiR",
    "plain": "bare student, channels last",
    "torch": "bare student, contiguous",
}


@pytest.mark.parametrize("variant", VARIANTS)
def bench_mimic_step(run, variant):
    with VARIANTS[variant](given()) as step:
        run("mimic_step resnet56-50", step)


def steps(stack: ExitStack) -> dict[str, Step]:
    """All three, of one network and the same images."""
    task = given()
    return {name: stack.enter_context(make(task)) for name, make in VARIANTS.items()}


def main(rounds: int) -> None:
    """Prints the median of each step, and how it stands to the bare one in the same layout."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with ExitStack() as stack:
        seconds = in_turns(steps(stack), rounds)
    for name, what in WORDS.items():
        low, middle, high = quantiles(map(truediv, seconds["fused"], seconds[name]), n=4)
        print(
            f"{what}: {1000 * median(seconds[name]):.1f} ms; a step of MiR takes {middle:.3f} of "
            f"it, quartiles {low:.3f} and {high:.3f}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
