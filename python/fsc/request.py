"""What a call of `compress` asks for: its method, and what another must share to go on with it."""

from typing import Any

from torch import Tensor, nn

from fsc import method_names
from fsc.goal import Goal
from fsc.images.folder import ImageFolder
from fsc.methods.base import Method
from fsc.methods.cross_distillation import CrossDistillation
from fsc.methods.journal import origin
from fsc.methods.solve_then_train import SolveThenTrain
from fsc.methods.views import with_files
from fsc.models.recognition import recognise
from fsc.networks.wrappers import unwrap
from fsc.solvers.closed_form import Selection


def method_of(given: Method | str | None, teacher: nn.Module) -> Method:
    """The method that `compress` takes for an argument: itself, that of a name, or the default."""
    if not isinstance(given, str):
        return SolveThenTrain() if given is None else given
    return method_names.named(given, recognise(unwrap(teacher)))


def selection_of(method: Method) -> Selection:
    """How a method chooses channels: by the norms of filters where it does not say otherwise."""
    return method.selection if isinstance(method, CrossDistillation | SolveThenTrain) else "norm"


def identity(
    teacher: nn.Module,
    images: Tensor,
    method: Method,
    goal: Goal,
    seed: int,
    labels: Tensor | None = None,
    originals: ImageFolder | None = None,
    keep_batch_norm: bool = False,
) -> dict[str, Any]:
    """What two compressions must share for one to go on where the other stopped.

    Args:
        teacher: the network as `compress` is given it.
        images: what it takes, in one tensor, on its device.
        method: how it is compressed.
        goal: what is asked for; a scheme, not its name.
        seed: of whatever the method draws.
        labels: those that the method learns; None: it learns none.
        originals: the files that the method crops; None: it crops none.
        keep_batch_norm: whether folded BatchNorms are put back.

    Raises:
        OSError: a file cannot be read.
    """
    own = with_files(origin(method, seed, teacher, images, labels), originals)
    asked = {"scheme": goal.definition()}
    return own | asked | ({"keep_batch_norm": True} if keep_batch_norm else {})
