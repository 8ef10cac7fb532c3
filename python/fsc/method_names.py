"""What each method is called, and the papers' parameters for each family of networks."""

from __future__ import annotations

from collections.abc import Callable

from fsc import models
from fsc.layers.objectives import Convex, Correction, Estimation, Imitation, Objective, Soft
from fsc.methods import FSKD, CrossDistillation, L1Norm, Method, MiR

NAMES = (
    "l1",
    "cd-nc",
    "cd-correction",
    "cd-imitation",
    "cd-convex",
    "cd-soft",
    "fskd",
    "mir-before",
    "mir-after",
)
DATA_FREE = "l1"

# The parameters that the CD paper states for its tables, by family.
_CONVEX = {"resnet": Convex(0.9), "vgg": Convex(0.6), "imagenet-resnet": Convex(0.9)}
_SOFT = {"resnet": Soft(0.9, 0.5), "vgg": Soft(0.9, 0.3), "imagenet-resnet": Soft(0.9, 0.5)}


def named(name: str, model_name: str | None = None, mir_steps: int | None = None) -> Method:
    """Return a method with its hyper-parameters for a family of networks.

    Args:
        name: one of `NAMES`.
        model_name: one of `fsc.models.names()`; None for another network, for which the objectives
            have the parameters that they have without a family.
        mir_steps: minibatches of MiR; None: the paper's.

    Raises:
        ValueError: an unknown name, or no step.
    """
    family = "" if model_name is None else models.family(model_name)
    steps = {} if mir_steps is None else {"steps": mir_steps}
    objectives: dict[str, Objective] = {
        "cd-nc": Estimation(),
        "cd-correction": Correction(),
        "cd-imitation": Imitation(),
        "cd-convex": _CONVEX.get(family, Convex()),
        "cd-soft": _SOFT.get(family, Soft()),
    }
    if name in objectives:
        return CrossDistillation(objectives[name])
    others: dict[str, Callable[[], Method]] = {
        "l1": L1Norm,
        "fskd": FSKD,
        "mir-before": lambda: MiR("before", **steps),
        "mir-after": lambda: MiR("after", **steps),
    }
    if name not in others:
        raise ValueError(
            f"method must be one of {', '.join(NAMES)}, or one of fsc.methods, got {name!r}"
        )
    return others[name]()
