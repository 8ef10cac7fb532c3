"""What each method is called, and the papers' parameters for each family of networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fsc import models

if TYPE_CHECKING:
    from fsc.layers.objectives import Objective
    from fsc.methods import Method

# What each does, short enough for a line with its time.
IN_WORDS = {
    "seconds": "each layer on many augmented images, no training",
    "default": "seconds, then all layers trained for minutes",
    "quarter-hour": "seconds, then all layers trained for longer",
    "l1": "drops the smallest filters, recovers nothing",
    "cd-nc": "each layer: student's input to teacher's output",
    "cd-correction": "each layer: teacher's input to teacher's output",
    "cd-imitation": "each layer: treats student's input as teacher's layer",
    "cd-convex": "each layer: correction and imitation, weighed",
    "cd-soft": "each layer: inputs of both networks mixed",
    "fskd": "1x1 convolution behind each layer, then absorbed",
    "fskd-sgd": "1x1 convolutions of all layers trained together",
    "thinet": "greedy choice by the next layer, then scales",
    "channel-pruning": "LASSO choice by the next layer, then least squares",
    "grail": "what small filters gave, taken from those that stay",
    "mir-before": "all layers trained for the features before pooling",
    "mir-after": "all layers trained for the features after pooling",
    "mir-progressive": "single weights go by turns with training for features",
    "bp": "all layers trained for the labels",
    "kd": "all layers trained for the teacher's scores and the labels",
    "fitnet": "features at the ends of stages, then kd",
}
NAMES = tuple(IN_WORDS)
# Those that train, and take so many steps.
WITH_STEPS = ("mir-before", "mir-after", "mir-progressive", "bp", "kd", "fitnet")
# Those that learn labels, and the one that cannot do without.
WITH_LABELS = ("bp", "kd", "fitnet")
NEEDS_LABELS = "bp"
DATA_FREE = "l1"
# The one that takes longer than anybody waits who only looks.
LONGEST = "quarter-hour"
# That takes schemes of single weights, and no other.
WEIGHTS_ALONE = "mir-progressive"
# What is compared and analysed where nothing else is asked for.
COMPARED = ("l1", "fskd", "cd-nc", "mir-before", "default")
ANALYSED = ("cd-nc", "cd-convex", "cd-soft")

# The parameters that the CD paper states for its tables, by family: mu; alpha and beta.
_CONVEX = {"resnet": 0.9, "vgg": 0.6, "imagenet-resnet": 0.9}
_SOFT = {"resnet": (0.9, 0.5), "vgg": (0.9, 0.3), "imagenet-resnet": (0.9, 0.5)}


def named(
    name: str,
    model_name: str | None = None,
    mir_steps: int | None = None,
    views: str | None = None,
) -> Method:
    """Return a method with its hyper-parameters for a family of networks.

    Args:
        name: one of `NAMES`.
        model_name: one of `fsc.models.names()`; None for another network, for which the objectives
            have the parameters that they have without a family.
        mir_steps: minibatches of MiR, BP, KD and FitNet; `ProgressiveMiR` takes a tenth of them
            between two prunings, as the paper does; None: the papers'.
        views: of the images, for these, one of `fsc.images.names.VIEWS`; None: the papers' for
            CIFAR-10.

    Raises:
        ValueError: an unknown name, or no step.
    """
    # Here, so that the names are there without torch.
    from fsc.layers.objectives import Convex, Correction, Estimation, Imitation, Soft
    from fsc.methods import (
        FSKD,
        KD,
        BackProp,
        ChannelPruning,
        CrossDistillation,
        FitNet,
        Grail,
        JointSGD,
        L1Norm,
        MiR,
        ProgressiveMiR,
        SolveThenTrain,
        ThiNet,
    )
    from fsc.methods.solve_then_train import training as trained_for

    family = "" if model_name is None else models.family(model_name)
    typed = {"steps": mir_steps, "views": views}
    training: dict[str, Any] = {key: value for key, value in typed.items() if value is not None}
    turns: dict[str, Any] = {} if mir_steps is None else {"steps_between": max(1, mir_steps // 10)}
    objectives: dict[str, Objective] = {
        "cd-nc": Estimation(),
        "cd-correction": Correction(),
        "cd-imitation": Imitation(),
        "cd-convex": Convex(_CONVEX[family]) if family in _CONVEX else Convex(),
        "cd-soft": Soft(*_SOFT[family]) if family in _SOFT else Soft(),
    }
    if name in objectives:
        return CrossDistillation(objectives[name])
    others: dict[str, Callable[[], Method]] = {
        "seconds": lambda: SolveThenTrain(train=None),
        "default": SolveThenTrain,
        "quarter-hour": lambda: SolveThenTrain(train=trained_for(3000)),
        "l1": L1Norm,
        "fskd": FSKD,
        "fskd-sgd": lambda: FSKD(sgd=JointSGD()),
        "thinet": ThiNet,
        "channel-pruning": ChannelPruning,
        "grail": Grail,
        "mir-before": lambda: MiR("before", **training),
        "mir-after": lambda: MiR("after", **training),
        "mir-progressive": lambda: ProgressiveMiR(**training, **turns),
        "bp": lambda: BackProp(**training),
        "kd": lambda: KD(**training),
        "fitnet": lambda: FitNet(**training),
    }
    if name not in others:
        raise ValueError(
            f"method must be one of {', '.join(NAMES)}, or one of fsc.methods, got {name!r}"
        )
    return others[name]()
