"""Mimicking then Replacing (Wang et al., CVPR 2022): all layers learn the features together."""

import copy
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fsc.methods.base import Outcome, Task
from fsc.methods.l1_norm import largest_channels
from fsc.networks import tracing
from fsc.networks.cutting import cut_channels


@dataclass(frozen=True)
class MiR:
    """Filters chosen by the L1 norm, then all layers before the head trained on features.

    Lifecycle:
        1. cut the filters of smallest L1 norm out of a copy of the teacher;
        2. compute the teacher's features of the images and of their mirror images, once;
        3. minimise the mean squared error between the student's and the teacher's features (Eq. 5)
           by SGD on randomly mirrored minibatches, BatchNorm in train mode;
        4. put the student's layers in front of the teacher's head, which was never touched.

    Args:
        features: "before" or "after" the last pooling; the paper recommends before.
        steps: minibatches; the paper's 2000.
        batch_size: images of a minibatch; all of them where there are fewer.
        learning_rate: of SGD; falls tenfold after 40 % and 80 % of the steps.
        momentum: of SGD.
        weight_decay: of SGD.

    Raises:
        ValueError: a value is out of its range.
    """

    features: Literal["before", "after"] = "before"
    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        """Refuses values that no training can use."""
        if self.features not in ("before", "after"):
            raise ValueError(f"features must be before or after, got {self.features!r}")
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be finite and above 0, got {self.learning_rate}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be finite and at least 0, got {self.weight_decay}")

    def compress(self, task: Task) -> Outcome:
        """Compresses a copy of the task's teacher."""
        kept = largest_channels(task.teacher, task.groups, task.channels_left())
        student = copy.deepcopy(task.teacher)
        cut_channels(student, task.groups, kept)
        both = torch.stack([task.images, task.images.flip(3)])  # [2, N, C, H, W]
        targets = self._targets(task.teacher, both, task.batch_size)
        body = self._body(student).eval()
        features = body(task.images[:1])
        if features.shape[1:] != targets.shape[2:]:
            raise ValueError(
                "scheme must leave the features that MiR mimics as wide as the teacher's, "
                f"{list(targets.shape[2:])}, got {list(features.shape[1:])}"
            )
        self._mimic(body, both, targets, task)
        return Outcome(student.eval(), kept)

    def _body(self, model: nn.Module) -> nn.Module:
        """The layers before the head, sharing the model's parameters."""
        graph = tracing.trace(model)
        before, after = tracing.feature_nodes(model, graph)
        return tracing.truncate(model, graph, before if self.features == "before" else after)

    def _targets(self, teacher: nn.Module, both: Tensor, batch_size: int) -> Tensor:
        """The teacher's features of the images and of their mirror images, [2, N, ...]."""
        body = self._body(teacher).eval()
        with torch.no_grad():
            features = [body(batch) for batch in both.flatten(0, 1).split(batch_size)]
        return torch.cat(features).unflatten(0, both.shape[:2])

    def _mimic(self, body: nn.Module, both: Tensor, targets: Tensor, task: Task) -> None:
        """Trains the body to give the targets."""
        body.train()
        optimizer = torch.optim.SGD(
            body.parameters(),
            lr=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        milestones = [math.ceil(0.4 * self.steps), math.ceil(0.8 * self.steps)]
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
        generator = torch.Generator().manual_seed(task.seed)
        step = 0
        with torch.enable_grad():
            while step < self.steps:
                order = torch.randperm(both.shape[1], generator=generator, device="cpu")
                for chosen in order.split(self.batch_size)[: self.steps - step]:
                    mirrored = torch.randint(2, (len(chosen),), generator=generator, device="cpu")
                    drawn = mirrored.to(both.device), chosen.to(both.device)
                    loss = nn.functional.mse_loss(body(both[drawn]), targets[drawn])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    scheduler.step()
                    step += 1
                    if task.progress is not None:
                        task.progress("mimicking features", step, self.steps)
