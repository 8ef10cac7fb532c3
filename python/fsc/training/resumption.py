"""A training with labels on disk, so that an interrupted one goes on with the same bits."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fsc.networks.tensor_files import CHECKSUM, checksum, has, read_tensors, write_tensors
from fsc.warning import CompressionWarning

_IDENTITY = "identity"
_DRAWS = "draws"


class TrainingFile:
    """The state of a training after its last epoch, in one file that is overwritten.

    It holds the network, the momenta of SGD, the learning rate and the state of the draws.

    Args:
        path: the file.
        identity: what two runs must share to be the same training, as JSON holds it.
    """

    def __init__(self, path: str | os.PathLike[str], identity: Mapping[str, Any]) -> None:
        """Only remembers where."""
        self.path = Path(path)
        self._identity = dict(identity)

    def keep(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
        epoch: int,
        step: int,
    ) -> None:
        """Write the state after so many epochs and steps.

        Raises:
            OSError: the file cannot be written; what it held before stays.
        """
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        for index, parameter in enumerate(_parameters(optimizer)):
            momentum = optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{index}"] = momentum
        tensors[_DRAWS] = generator.get_state()
        rate = float(optimizer.param_groups[0]["lr"]).hex()
        header = {_IDENTITY: self._identity, "epoch": epoch, "step": step, "rate": rate}
        write_tensors(self.path, tensors, header)

    def take_up(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> tuple[int, int]:
        """Put the state back, in place; a damaged file is passed over with a warning.

        Returns:
            (epochs done, steps done); (0, 0) where there is nothing to go on from.

        Raises:
            ValueError: the file belongs to another training.
        """
        found = self._read()
        if found is None:
            return 0, 0
        tensors, header = found
        self._require_same(header[_IDENTITY])
        state = {f"model.{name}": value for name, value in model.state_dict().items()}
        moved = {
            f"momentum.{index}": parameter
            for index, parameter in enumerate(_parameters(optimizer))
            if f"momentum.{index}" in tensors
        }
        self._require_fit(tensors, state | moved | {_DRAWS: generator.get_state()})
        generator.set_state(tensors[_DRAWS])
        for name, value in state.items():
            value.copy_(tensors[name])
        for name, parameter in moved.items():
            # In the layout of the weight, which sums are taken in.
            buffer = torch.empty_like(parameter).copy_(tensors[name])
            optimizer.state[parameter]["momentum_buffer"] = buffer
        for group in optimizer.param_groups:
            group["lr"] = float.fromhex(header["rate"])
        return header["epoch"], header["step"]

    def _read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        if not self.path.exists():
            return None
        try:
            tensors, header = read_tensors(self.path)
            if not _is_of_a_training(header):
                raise ValueError(f"{self.path} is damaged or no file of a training")
        except ValueError as error:
            warnings.warn(
                f"{error}; the training starts from the beginning", CompressionWarning, stacklevel=5
            )
            return None
        return tensors, header

    def _require_same(self, before: Mapping[str, Any]) -> None:
        differing = [key for key in self._identity if before.get(key) != self._identity[key]]
        if differing:
            told = ", ".join(_told(key, before.get(key), self._identity[key]) for key in differing)
            raise ValueError(
                f"train: state_file must belong to the same training, got {self.path} of one with "
                f"{told}: pass what that one was given, or another file"
            )

    def _require_fit(self, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
        for name, value in wanted.items():
            found = tensors.get(name)
            if found is None or (found.shape, found.dtype) != (value.shape, value.dtype):
                raise ValueError(
                    f"train: state_file must hold the network that is trained, got {self.path} "
                    f"without {name}, or of another shape or dtype: pass another file"
                )


def identity_of(
    model: nn.Module, images: Tensor, labels: Tensor, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What two trainings must share to be one: network, images, labels and settings."""
    state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    seen = {"images": images.detach().cpu(), "labels": labels.detach().cpu()}
    return {
        "model": checksum(state, {}),
        "images": checksum(seen, {}),
        "threads": torch.get_num_threads(),
        "device": images.device.type,
        "torch": torch.__version__,
        **settings,
    }


def _is_of_a_training(header: Any) -> bool:
    """Whether `keep` may have written a header."""
    return (
        isinstance(header, dict)
        and CHECKSUM in header
        and isinstance(header.get(_IDENTITY), dict)
        and all(has(header, key, int) for key in ("epoch", "step"))
        and has(header, "rate", float)
    )


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _told(key: str, before: object, now: object) -> str:
    """How two trainings differ in something, in words."""
    if key in ("model", "images"):
        return f"other {'weights' if key == 'model' else 'images or labels'} at its start"
    return f"{key} {before}, not {now}"
