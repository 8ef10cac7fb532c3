"""What all runs of one command share: what is to be left, and what a method may take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fsc import method_names
from fsc.cli.given import Inputs
from fsc.goal import Goal
from fsc.images.names import VIEWS, Augmentation
from fsc.methods import Method
from fsc.sweeping import with_setting

# Of the papers' methods that train: their 2000 take a quarter of an hour.
_MIR_STEPS = 400


@dataclass(frozen=True)
class Settings:
    """What all runs of one command share.

    Attributes:
        goal: what is to be left of the network.
        mir_steps: minibatches of the papers' methods that train.
        batch_size: images that go through the networks at once.
        memory_budget: bytes for activations in memory; None: no limit.
        augment: images added to the given ones, see `fsc.images.augmentation`.
        views: of the images, for methods that train.
        journal: folder that solved layers, or a training, are kept in while one student is made.
        learning_rate: of methods that train; None: their own.
        default_steps: minibatches of the default; None: its own.
        precision: that methods train in.
        iterations: passes of methods that pass over all layers; None: their own.
        keep_batch_norm: whether folded BatchNorms are put back behind their convolutions.
    """

    goal: Goal
    mir_steps: int = _MIR_STEPS
    batch_size: int = 64
    memory_budget: int | None = None
    augment: Augmentation | None = None
    views: str = VIEWS[0]
    journal: Path | None = None
    learning_rate: float | None = None
    default_steps: int | None = None
    precision: str = "float32"
    iterations: int | None = None
    keep_batch_norm: bool = False

    def method(self, name: str, inputs: Inputs) -> Method:
        """The method of a name, with its hyper-parameters for the teacher."""
        steps = self.default_steps if name == "default" else self.mir_steps
        method = method_names.named(name, inputs.known_as, steps, self.views, self.precision)
        if self.iterations is not None and name in method_names.WITH_PASSES:
            method = with_setting(method, "iterations", self.iterations)
        if self.learning_rate is None:
            return method
        return with_setting(method, "learning_rate", self.learning_rate)


@dataclass(frozen=True)
class Resources:
    """What a method may take, as it is typed.

    Attributes:
        mir_steps: minibatches of methods that train; None: those of each.
        views: of the images, for these.
        precision: that they train in.
        augment: images added to the given ones.
        batch_size: images that go through the networks at once.
        memory_budget: megabytes for activations in memory; None: no limit.
        keep_batch_norm: whether folded BatchNorms are put back behind their convolutions.
    """

    mir_steps: int | None
    views: str
    precision: str
    augment: Augmentation | None
    batch_size: int
    memory_budget: float | None
    keep_batch_norm: bool

    def settings(self, goal: Goal, journal: Path | None = None) -> Settings:
        """The same for a goal, with the folder that solved layers are kept in, if any."""
        return Settings(
            goal,
            _MIR_STEPS if self.mir_steps is None else self.mir_steps,
            self.batch_size,
            None if self.memory_budget is None else int(1e6 * self.memory_budget),
            self.augment,
            self.views,
            journal,
            default_steps=self.mir_steps,
            precision=self.precision,
            keep_batch_norm=self.keep_batch_norm,
        )
