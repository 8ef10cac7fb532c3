"""A callback of Lightning that leaves a student what it is while it is fine-tuned."""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn

from fsc.training.zeros import Zeros
from fsc.wording import shown

# Either has the same callbacks; a trainer takes those of its own package.
_PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def keep_student(
    student: nn.Module | None = None, *, package: str | None = None, batch_norm: str = "frozen"
) -> Any:
    """A callback for a `Trainer` that fine-tunes a student in a `LightningModule`.

    Weights of convolutions and linear layers that are zero when the training begins are zero after
    every minibatch, as in `FineTuning`. BatchNorm's running statistics stay as they are, where a
    few images would make poor ones.

    Args:
        student: the part of the `LightningModule` that is to be kept so; None: all of it.
        package: of the trainer, "lightning.pytorch" or "pytorch_lightning"; None: the first of them
            that is installed.
        batch_norm: "frozen" evaluates BatchNorm with its running statistics, its scales are trained
            all the same; "trained" leaves it as Lightning has it.

    Raises:
        ValueError: package or batch_norm is none of these.
        ImportError: Lightning is not installed.
    """
    if batch_norm not in ("frozen", "trained"):
        raise ValueError(f"batch_norm must be 'frozen' or 'trained', got {shown(batch_norm)}")
    base: Any = _imported(package).Callback

    class KeepStudent(base):
        """Made by `fsc.training.lightning_callback.keep_student`."""

        zeros: Zeros | None = None

        def on_train_start(self, trainer: object, pl_module: nn.Module) -> None:
            """Look where the weights are zero; they are on their device by now."""
            self.zeros = Zeros(student or pl_module)

        def on_train_batch_start(
            self, trainer: object, pl_module: nn.Module, batch: object, batch_idx: int
        ) -> None:
            """Evaluate BatchNorm; a validation in between may have put it back."""
            if batch_norm == "frozen":
                for module in (student or pl_module).modules():
                    if isinstance(module, nn.modules.batchnorm._BatchNorm):
                        module.eval()

        def on_train_batch_end(
            self,
            trainer: object,
            pl_module: nn.Module,
            outputs: object,
            batch: object,
            batch_idx: int,
        ) -> None:
            """Take weights out that the optimiser brought back."""
            if self.zeros is not None:
                self.zeros.restore()

    return KeepStudent()


def _imported(package: str | None) -> Any:
    if package is not None and package not in _PACKAGES:
        raise ValueError(f"package must be one of {', '.join(_PACKAGES)}, got {shown(package)}")
    for name in _PACKAGES if package is None else (package,):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name not in (name, name.partition(".")[0]):
                raise  # It is there, and something that it needs is not.
    raise ImportError(
        f"keep_student: {' or '.join(_PACKAGES)} must be installed: "
        "pip install 'fsc-ext[lightning]'"
    )
