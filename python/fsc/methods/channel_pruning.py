"""Channel Pruning (He et al., ICCV 2017): channels by LASSO, then reconstruction."""

from dataclasses import dataclass
from typing import ClassVar

from fsc.arguments import check_fields
from fsc.methods.base import WITHOUT_CHANNELS, Outcome, Task
from fsc.methods.layerwise import fit_readers
from fsc.solvers.reconstruction import Reconstruction


@dataclass(frozen=True)
class ChannelPruning:
    """Filter pruning by LASSO on the inputs of each layer, without labels and fine-tuning.

    Lifecycle:
        1. fold every BatchNorm into its convolution, in copies of the teacher;
        2. walk both networks side by side; at each layer that reads channels of which some go, find
           the penalty of a LASSO over one coefficient a channel that leaves as many as wanted: the
           target is the teacher's output without its bias, the inputs are the student's under the
           teacher's weight (the paper's first step, taken once);
        3. fit the weights and the bias on the kept channels to the teacher's output by least
           squares (second step), and walk on with the student;
        4. cut the channels out.

    Layers that lose no inputs keep the teacher's weight, as in the paper. Channels that several
    layers read are chosen before the walk, by the L1 norm of the filters that write them, and each
    reader is fitted to what stays; the paper's samplers and its compensation of the shortcuts'
    error are left out, as in the Cross Distillation paper. All pixels count, where the paper
    samples some.

    Args:
        damping: pull of the least squares towards the teacher's weight, in images. The paper has
            none: this one only decides what the images leave open.

    Raises:
        ValueError: damping is not positive and finite.
    """

    cannot_take: ClassVar[tuple[type, ...]] = WITHOUT_CHANNELS
    damping: float = 1e-3

    def __post_init__(self) -> None:
        """Refuses a system that may be singular before any work is done."""
        check_fields(self)
        self._solver()

    def compress(self, task: Task) -> Outcome:
        """Compresses a copy of the task's teacher."""
        return fit_readers(task, self._solver(), "input_channels")

    def _solver(self) -> Reconstruction:
        return Reconstruction("lasso", "weights", self.damping)
