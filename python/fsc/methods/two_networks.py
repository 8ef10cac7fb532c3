"""A teacher and a student that somebody else has made, as users hand them over."""

from __future__ import annotations

import warnings

from torch import Tensor, nn

from fsc import ranks
from fsc.arguments import check_module
from fsc.images.joint import Inputs
from fsc.methods.soundness import Yardstick, is_sound
from fsc.networks.entry import Entry, enter
from fsc.networks.gathering import Images, gathered
from fsc.networks.joint_input import joint_of
from fsc.networks.wrappers import unwrap
from fsc.warning import CompressionWarning


def entered(
    function: str, teacher: nn.Module, student: nn.Module, images: Images
) -> tuple[Entry, Entry, Tensor | None]:
    """Check two networks and images, and bring them together.

    Args:
        function: who asks, for the sentences.
        teacher: as for `fsc.compress`, but it takes one tensor; it is not changed.
        student: the same.
        images: as for `fsc.compress`.

    Returns:
        (the teacher, the student, labels that came with the images or None).

    Raises:
        ValueError: a network cannot be read or changed, or the images do not fit it.
        TypeError: an argument is of the wrong type.
    """
    for name, network in (("teacher", teacher), ("student", student)):
        check_module(name, network)
    inputs, loaded = gathered(function, images, unwrap(teacher))
    own = enter(function, teacher, inputs)
    if joint_of(own.teacher) is not None:
        raise ValueError(f"{function}: images must be one tensor [N, C, ...], got several inputs")
    return own, _student(function, student, inputs), loaded


def say(
    sentences: list[str], yardstick: Yardstick, after: float, before: float, stacklevel: int
) -> None:
    """Warn of what did not go as it should, on the first rank.

    Args:
        sentences: what there is to say.
        yardstick: of the teacher.
        after: how far the student is from it.
        before: how far it was.
        stacklevel: of the caller, for the warnings.
    """
    said = list(sentences)
    if not is_sound(after, before):
        said.append(
            "student is farther from the teacher than where it started: its outputs differ by "
            f"{after:.3g} of the {yardstick.scale} of the teacher's, "
            f"those of the start by {before:.3g}"
        )
    for sentence in said if ranks.is_first() else ():
        warnings.warn(sentence, CompressionWarning, stacklevel=stacklevel + 1)


def _student(function: str, student: nn.Module, inputs: Inputs) -> Entry:
    try:
        return enter(function, student, inputs)
    except ValueError as error:
        # It is read as a teacher is, and the sentences say so.
        raise ValueError(f"student must be what a teacher must be: {error}") from error
