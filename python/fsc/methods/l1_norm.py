"""Filter pruning by the L1 norm, without any data (Li et al., 2017, "Pruning Filters ...")."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fsc import surgery
from fsc.methods.base import Outcome, Task
from fsc.schemes import Scheme


def largest_filters(teacher: nn.Module, scheme: Scheme) -> dict[str, Tensor]:
    """The filters of largest L1 norm in every producer of the scheme.

    Returns:
        For each producer the kept output channels in increasing order, [count].
    """
    kept = {}
    for name, count in scheme.kept.items():
        weight = teacher.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        norms = weight.detach().abs().flatten(1).double().sum(1)  # [C_out]
        kept[name] = norms.argsort(descending=True, stable=True)[:count].sort().values
    return kept


@dataclass(frozen=True)
class L1Norm:
    """The data-free baseline, "L1-norm" in the tables: filters go, nothing is recovered.

    Lifecycle:
        1. rank the filters of every producer by the L1 norm of their weights;
        2. cut the smallest out of a copy of the teacher, with what reads them.
    """

    def compress(self, task: Task) -> Outcome:
        """Cuts the smallest filters out of a copy of the teacher."""
        kept = largest_filters(task.teacher, task.scheme)
        with torch.no_grad():
            student = copy.deepcopy(task.teacher)
            surgery.remove_channels(student, kept, task.images[:1])
        return Outcome(student.eval(), kept)
