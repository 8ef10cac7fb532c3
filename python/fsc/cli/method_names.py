"""What the command line calls each method, and the papers' parameters for each family."""

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


def named(name: str, model_name: str, mir_steps: int) -> Method:
    """Return a method with its hyper-parameters for a family of networks.

    Args:
        name: one of `NAMES`.
        model_name: one of `fsc.models.names()`.
        mir_steps: minibatches of MiR.

    Raises:
        ValueError: an unknown name, or no step.
    """
    family = models.family(model_name)
    objectives: dict[str, Objective] = {
        "cd-nc": Estimation(),
        "cd-correction": Correction(),
        "cd-imitation": Imitation(),
        "cd-convex": _CONVEX[family],
        "cd-soft": _SOFT[family],
    }
    if name in objectives:
        return CrossDistillation(objectives[name])
    others: dict[str, Callable[[], Method]] = {
        "l1": L1Norm,
        "fskd": FSKD,
        "mir-before": lambda: MiR("before", steps=mir_steps),
        "mir-after": lambda: MiR("after", steps=mir_steps),
    }
    if name not in others:
        raise ValueError(f"method must be one of {', '.join(NAMES)}, got {name!r}")
    return others[name]()
