"""What each method is called, and the papers' parameters for each family of networks."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fsc import models
from fsc.wording import shown

if TYPE_CHECKING:
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
# Those that train on views that can be chosen; with the default, those whose steps can be; with
# its longer form, which is a number of steps, all that train.
WITH_VIEWS = ("mir-before", "mir-after", "mir-progressive", "bp", "kd", "fitnet")
WITH_STEPS = (*WITH_VIEWS, "default")
WITH_TRAINING = (*WITH_STEPS, "quarter-hour")
# Those that pass over all layers as often as they are told.
WITH_PASSES = ("fskd",)
# Those that learn labels, and the one that cannot do without.
WITH_LABELS = ("bp", "kd", "fitnet")
NEEDS_LABELS = "bp"
DATA_FREE = "l1"
# Those that take longer than anybody waits who only looks.
LONGEST = ("quarter-hour", "fskd-sgd")
# That takes schemes of single weights, and no other.
WEIGHTS_ALONE = "mir-progressive"
# What is compared and analysed where nothing else is asked for.
COMPARED = ("l1", "fskd", "cd-nc", "mir-before", "default")
ANALYSED = ("cd-nc", "cd-convex", "cd-soft")
# Those that recover a student with the channels that l1 keeps.
BY_NORM = ("fskd", "fskd-sgd", "grail", "mir-before", "mir-after", "bp", "kd", "fitnet")

# The parameters that the CD paper states for its tables, by family: mu; alpha and beta.
_CONVEX = {"resnet": 0.9, "vgg": 0.6, "imagenet-resnet": 0.9}
_SOFT = {"resnet": (0.9, 0.5), "vgg": (0.9, 0.3), "imagenet-resnet": (0.9, 0.5)}


def named(
    name: str,
    model_name: str | None = None,
    steps: int | None = None,
    views: str | None = None,
    precision: str | None = None,
) -> Method:
    """Return a method with its hyper-parameters for a family of networks.

    Args:
        name: one of `NAMES`.
        model_name: one of `fsc.models.names()`; None for another network, for which the objectives
            have the parameters that they have without a family.
        steps: minibatches of methods of `WITH_STEPS`; `ProgressiveMiR` takes a tenth of them
            between two prunings, as the paper does; None: the papers', or the default's own.
        views: of the images, for those of `WITH_VIEWS`, one of `fsc.images.names.VIEWS`; None: the
            papers' for CIFAR-10.
        precision: that those of `WITH_TRAINING` train in; None: float32.

    Raises:
        ValueError: an unknown name, or no step.
    """
    if name not in NAMES:
        close = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0.5)
        raise ValueError(
            f"method must be one of {', '.join(NAMES)}, or one of fsc.methods, got {shown(name)}"
            + (f"; did you mean {close[0]!r}?" if close else "")
        )
    typed = {"steps": steps, "views": views, "precision": precision}
    makers = _without_training(model_name) | _training(
        {key: value for key, value in typed.items() if value is not None}
    )
    return makers[name]()


def _without_training(model_name: str | None) -> dict[str, Callable[[], Method]]:
    """Methods that work layer by layer, for a family of networks."""
    # Here, so that the names are there without torch.
    from fsc.layers.objectives import Convex, Correction, Estimation, Imitation, Soft
    from fsc.methods import (
        FSKD,
        ChannelPruning,
        CrossDistillation,
        Grail,
        JointSGD,
        L1Norm,
        SolveThenTrain,
        ThiNet,
    )

    family = "" if model_name is None else models.family(model_name)
    convex = Convex(_CONVEX[family]) if family in _CONVEX else Convex()
    soft = Soft(*_SOFT[family]) if family in _SOFT else Soft()
    return {
        "seconds": lambda: SolveThenTrain(train=None),
        "l1": L1Norm,
        "cd-nc": lambda: CrossDistillation(Estimation()),
        "cd-correction": lambda: CrossDistillation(Correction()),
        "cd-imitation": lambda: CrossDistillation(Imitation()),
        "cd-convex": lambda: CrossDistillation(convex),
        "cd-soft": lambda: CrossDistillation(soft),
        "fskd": FSKD,
        "fskd-sgd": lambda: FSKD(sgd=JointSGD()),
        "thinet": ThiNet,
        "channel-pruning": ChannelPruning,
        "grail": Grail,
    }


def _training(typed: dict[str, Any]) -> dict[str, Callable[[], Method]]:
    """Methods that train, with what is said of their steps, views and precision."""
    from fsc.methods import KD, BackProp, FitNet, MiR, ProgressiveMiR, SolveThenTrain
    from fsc.methods.solve_then_train import training

    # The default has views of its own.
    own = {key: value for key, value in typed.items() if key != "views"}
    turns = {"steps_between": max(1, typed["steps"] // 10)} if "steps" in typed else {}
    return {
        "default": lambda: SolveThenTrain(train=training(**own)),
        "quarter-hour": lambda: SolveThenTrain(train=training(**(own | {"steps": 2000}))),
        "mir-before": lambda: MiR("before", **typed),
        "mir-after": lambda: MiR("after", **typed),
        "mir-progressive": lambda: ProgressiveMiR(**typed, **turns),
        "bp": lambda: BackProp(**typed),
        "kd": lambda: KD(**typed),
        "fitnet": lambda: FitNet(**typed),
    }
