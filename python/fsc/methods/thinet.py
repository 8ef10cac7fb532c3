"""ThiNet (Luo et al., ICCV 2017): channels that the next layer misses least, greedily."""

from dataclasses import dataclass
from typing import ClassVar

from fsc.arguments import check_fields
from fsc.methods.base import WITHOUT_CHANNELS, Outcome, Task
from fsc.methods.layerwise import fit_readers
from fsc.solvers.reconstruction import Reconstruction, Unknowns


@dataclass(frozen=True)
class ThiNet:
    """Filter pruning by the statistics of the next layer, without labels and fine-tuning.

    Lifecycle:
        1. fold every BatchNorm into its convolution, in copies of the teacher;
        2. walk both networks side by side; at each layer that reads channels of which some go,
           remove one after another, so that what all removed ones add to its output on the
           student's inputs stays smallest in square (Eq. 6, Algorithm 1), nothing corrected;
        3. fit what stays to the teacher's output by least squares, one scale a channel (Eq. 7), and
           walk on with the student;
        4. cut the channels out.

    Layers that lose no inputs keep the teacher's weight, as in the paper. Channels that several
    layers read are chosen before the walk, by the L1 norm of the filters that write them, and each
    reader is fitted to what stays. The paper samples pixels and fine-tunes with labels after each
    layer; here all pixels of all filters count, as in the Cross Distillation paper, and nothing is
    fine-tuned.

    Args:
        reconstruction: "scales" fits one scale a kept channel, as the paper does; "weights" fits
            all weights and the bias, as later methods do.
        damping: pull towards the teacher's weights, in images. The paper has none: this one only
            decides what the images leave open.

    Raises:
        ValueError: reconstruction is unknown, or damping is not positive and finite.
    """

    cannot_take: ClassVar[tuple[type, ...]] = WITHOUT_CHANNELS
    reconstruction: Unknowns = "scales"
    damping: float = 1e-3

    def __post_init__(self) -> None:
        """Refuses unknown choices before any work is done."""
        check_fields(self)
        self._solver()

    def compress(self, task: Task) -> Outcome:
        """Compresses a copy of the task's teacher."""
        return fit_readers(task, self._solver(), "input_channels")

    def _solver(self) -> Reconstruction:
        return Reconstruction("greedy", self.reconstruction, self.damping)
