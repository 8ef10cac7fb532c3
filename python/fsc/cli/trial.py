"""What `fsc analyse` and `fsc grid` share: students of one scheme, looked at on test images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fsc import schemes
from fsc.cli.drawing import Draw
from fsc.cli.given import Inputs
from fsc.cli.inputs import Source, find_scheme
from fsc.images.sampling import FewShotSample
from fsc.schemes import AnyScheme


@dataclass(frozen=True)
class Trial:
    """All that the students of one scheme have in common.

    Attributes:
        inputs: teacher and images.
        scheme: what is left of it.
        draw: how the few images were drawn.
        sample: the few images.
        images: of the test, normalised, float32 [N, C, H, W].
        labels: their classes, int64 [N].
    """

    inputs: Inputs
    scheme: AnyScheme
    draw: Draw
    sample: FewShotSample
    images: Tensor
    labels: Tensor

    @property
    def title(self) -> str:
        """What figures and tables are called."""
        return f"{self.inputs.model_title}, scheme {self.scheme.name}, {self.draw}"

    @property
    def drawn(self) -> dict[str, Any]:
        """What reports say of the draw."""
        draw = self.draw
        return {"shots": draw.num_shots, "ways": draw.num_ways, "images": draw.num_images}


def begun(
    verb: str, source: Source, scheme_name: str, draw: Draw, num_test: int, seed: int
) -> Trial:
    """Read everything, once it is known that accuracies can be measured.

    Args:
        verb: who asks, for the sentence.
        source: of teacher and images.
        scheme_name: of a published scheme, or the path of a file.
        draw: of the few images.
        num_test: how many test images at most.
        seed: of the draw.

    Raises:
        ValueError: there are no test images with labels, or the scheme does not fit.
        OSError, ImportError: what `Source.load` raises.
    """
    inputs = source.load()
    inputs.check_evaluable(f"fsc {verb}")
    inputs.check_scores()
    scheme = find_scheme(scheme_name, inputs)
    schemes.check(scheme, inputs.teacher, inputs.example)
    sample = draw.sample(inputs, seed)
    return Trial(inputs, scheme, draw, sample, *inputs.first_test(num_test))
