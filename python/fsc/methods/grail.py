"""Grail (CPAL 2026): what is gone is taken from what stays, by ridge regression."""

from dataclasses import dataclass
from typing import ClassVar

from fsc.arguments import check_fields
from fsc.methods.base import WITHOUT_CHANNELS, Outcome, Task
from fsc.methods.layerwise import fit_readers
from fsc.solvers.mixing import Mixing


@dataclass(frozen=True)
class Grail:
    """Compensation of pruned channels by linear reconstruction, without training.

    Lifecycle:
        1. rank the channels of every group by the L1 norm of the filters that make them, and fold
           every BatchNorm into its convolution, in copies of the teacher;
        2. walk the networks once; at each layer that reads channels of which some go, gather the
           Gram matrix G of all of its input channels in the teacher, pixel by pixel, and solve
           B = G_:P (G_PP + lambda I)^-1, which takes all channels from the kept ones P;
        3. merge B into the layer, W' = W B, the same B at every tap of a kernel; the bias stays;
        4. cut the channels out.

    Statistics are the teacher's alone, as in the paper, so that no layer knows of the errors
    before it; the reports have what is left of the teacher's output on the student's inputs. Any
    ranking will do in the paper; this is that of `L1Norm`. Layers that lose no inputs keep the
    teacher's weight.

    Args:
        ridge: lambda, in mean squares of the kept channels; that of the released code.

    Raises:
        ValueError: ridge is not positive and finite.
    """

    cannot_take: ClassVar[tuple[type, ...]] = WITHOUT_CHANNELS
    ridge: float = 1e-3

    def __post_init__(self) -> None:
        """Refuses a system that may be singular before any work is done."""
        check_fields(self)
        Mixing(self.ridge)

    def compress(self, task: Task) -> Outcome:
        """Compresses a copy of the task's teacher."""
        return fit_readers(task, Mixing(self.ridge), None)
