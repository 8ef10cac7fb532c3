"""Filter pruning by the L1 norm, without any data (Li et al., 2017, "Pruning Filters ...")."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import fsc_ext
from fsc.methods.base import Outcome, Task
from fsc.networks import surgery
from fsc.schemes import Scheme, SparseScheme


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


def keep_largest_weights(student: nn.Module, scheme: SparseScheme) -> None:
    """Sets all but the largest magnitudes of every layer of the scheme to zero, in place."""
    for name, count in scheme.kept.items():
        weight = student.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        fsc_ext.keep_topk_(weight.detach(), count)


@dataclass(frozen=True)
class L1Norm:
    """The data-free baseline, "L1-norm" in the tables: nothing is recovered.

    Lifecycle:
        1. rank the filters of every producer by the L1 norm of their weights;
        2. cut the smallest out of a copy of the teacher, with what reads them.

    For a scheme of single weights the smallest magnitudes of every layer are set to zero, as the
    Cross Distillation paper does for its unstructured tables.
    """

    def compress(self, task: Task) -> Outcome:
        """Cuts the smallest filters out of a copy of the teacher."""
        student = copy.deepcopy(task.teacher)
        if isinstance(task.scheme, SparseScheme):
            keep_largest_weights(student, task.scheme)
            return Outcome(student.eval(), {})
        kept = largest_filters(task.teacher, task.structured())
        with torch.no_grad():
            surgery.remove_channels(student, kept, task.images[:1])
        return Outcome(student.eval(), kept)
