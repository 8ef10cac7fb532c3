"""The values that a later step still needs, in memory up to a budget and in files beyond it."""

from __future__ import annotations

import pickle
import tempfile
import warnings
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, fx

from fsc.files import WRITE_ERRORS, reason
from fsc.walking.heap import give_back
from fsc.walking.passing_folder import PassingFolder
from fsc.warning import CompressionWarning

# Memory is given back when so many bytes have been freed, which are so large a part of the budget.
_LOOSE, _PARTS = 1 << 23, 64
# What one step takes beside what is held, in values of the largest size: what both networks read
# and give, a copy on its way to a file, a buffer of a convolution. On the walks of the campaign's
# growth it was at most five.
AT_WORK = 6


@dataclass(frozen=True)
class _Slot:
    """Stands in a value for the tensor of that position in the value's file."""

    index: int


@dataclass(frozen=True)
class _Spilled:
    """A value whose tensors lie in a file, as tensors of the CPU."""

    skeleton: Any
    path: Path
    devices: list[torch.device]


class Frontier:
    """A store of values by key and batch, in memory as far as a budget of bytes lets them.

    What is held and what one step is at work with are to stay within the budget: of that, room for
    six values of the largest size is kept free; a smaller budget holds nothing. A storage that
    several values share, such as a tensor and its flattened view, counts once, and the images' own
    not at all. A value that does not fit goes to a file of its own, and those held go where a
    larger one needs the room; numbers and other non-tensors stay in memory and count nothing. The
    folder of the files is made when the first one is needed, in the place that the environment
    variable TMPDIR names, and removed by `close` or on leaving the `with` block, whatever the
    reason.

    Example:
        >>> with Frontier(memory_budget=0) as frontier:
        ...     frontier.put("conv1", 0, torch.ones(2))
        ...     frontier.get("conv1", 0)
        tensor([1., 1.])
    """

    def __init__(self, memory_budget: int | None = None, images: tuple[Tensor, ...] = ()) -> None:
        """Make an empty store.

        Args:
            memory_budget: bytes for what is held and worked with; None for no limit.
            images: tensors that are there whatever is stored; views of them take nothing.

        Raises:
            ValueError: the budget is negative.
        """
        if memory_budget is not None and memory_budget < 0:
            raise ValueError(f"memory_budget must be at least 0 bytes, got {memory_budget}")
        self.memory_budget = memory_budget
        self.bytes_held = 0
        self.peak_bytes = 0
        self._values: dict[tuple[Hashable, int], Any] = {}
        # The images' own are always in use.
        self._storage_uses = {image.untyped_storage().data_ptr(): 1 for image in images}
        self._folder: PassingFolder | None = None
        self._num_files = 0
        self._largest = 0  # bytes of a value
        self._warned = False
        self._loose = 0  # bytes freed since memory was given back

    def __enter__(self) -> Frontier:
        """Return the store itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""
        self.close()

    def put(self, key: Hashable, batch: int, value: Any) -> None:
        """Store a value, in place of the one that `key` and `batch` had before.

        Args:
            key: what the value belongs to.
            batch: number of the batch.
            value: a tensor, a non-tensor, or tuples, lists, dicts and slices of them. It is not
                copied while in memory, so it must not be overwritten.

        Raises:
            OSError: the value must go to a file and cannot be written.
        """
        self.drop(key, batch)
        self._give_back()
        tensors = _tensors(value)
        self._make_room(sum(_size(tensor) for tensor in tensors))
        needed = sum(self._new_storages(tensors).values())  # bytes
        if needed > 0 and not self._fits(needed):
            self._values[key, batch] = self._spill(value, needed)
        else:
            self._hold(tensors)
            self._values[key, batch] = value

    def get(self, key: Hashable, batch: int) -> Any:
        """Return the value stored under `key` and `batch`.

        Raises:
            KeyError: there is none.
            OSError: its file cannot be read.
        """
        value = self._values[key, batch]
        if not isinstance(value, _Spilled):
            return value
        try:
            tensors = torch.load(value.path, weights_only=True)
        except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise OSError(
                f"Frontier: file {value.path} was removed or damaged before it was read back"
            ) from error
        return _map(
            value.skeleton, _Slot, lambda slot: tensors[slot.index].to(value.devices[slot.index])
        )

    def drop(self, key: Hashable, batch: int) -> None:
        """Forget the value stored under `key` and `batch`, if there is one."""
        value = self._values.pop((key, batch), None)
        if isinstance(value, _Spilled):
            value.path.unlink(missing_ok=True)
        else:
            self._release(_tensors(value))

    def close(self) -> None:
        """Forget every value and remove every file."""
        self._values.clear()
        self._storage_uses.clear()
        self.bytes_held = 0
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    def _fits(self, more: int) -> bool:
        """Whether so many bytes more can be held."""
        if self.memory_budget is None:
            return True
        return self.bytes_held + more + AT_WORK * self._largest <= self.memory_budget

    def _make_room(self, size: int) -> None:
        """Take to files what is held, where steps work with larger values than before."""
        if size <= self._largest:
            return
        self._largest = size
        self._warn_once()
        for place, value in self._values.items():
            if self._fits(0):
                return
            tensors = [] if isinstance(value, _Spilled) else _tensors(value)
            if tensors:
                self._values[place] = self._spill(value, sum(map(_size, tensors)))
                self._release(tensors)

    def _warn_once(self) -> None:
        """Say that a budget holds nothing; one of 0 is meant to."""
        if self.memory_budget and not self._warned and AT_WORK * self._largest > self.memory_budget:
            self._warned = True
            warnings.warn(
                CompressionWarning(
                    f"the memory budget of {self.memory_budget:,} bytes is less than the "
                    f"{AT_WORK * self._largest:,} that minibatches of a layer take while it runs: "
                    "all activations go to disk, and the budget may be passed; a smaller batch "
                    "size needs less"
                ),
                stacklevel=2,
            )

    def _new_storages(self, tensors: list[Tensor]) -> dict[int, int]:
        storages = (tensor.untyped_storage() for tensor in tensors)
        sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
        return {
            pointer: size for pointer, size in sizes.items() if pointer not in self._storage_uses
        }

    def _hold(self, tensors: list[Tensor]) -> None:
        self.bytes_held += sum(self._new_storages(tensors).values())
        self.peak_bytes = max(self.peak_bytes, self.bytes_held)
        for tensor in tensors:
            pointer = tensor.untyped_storage().data_ptr()
            self._storage_uses[pointer] = self._storage_uses.get(pointer, 0) + 1

    def _release(self, tensors: list[Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self._storage_uses[storage.data_ptr()] -= 1
            if self._storage_uses[storage.data_ptr()] == 0:
                del self._storage_uses[storage.data_ptr()]
                self.bytes_held -= storage.nbytes()
                self._loose += storage.nbytes() if storage.device.type == "cpu" else 0

    def _give_back(self) -> None:
        """Have the system use what was freed, where the budget was reached and that is much."""
        if self.memory_budget is None or self._num_files == 0:
            return
        if self._loose > max(_LOOSE, self.memory_budget // _PARTS):
            self._loose = 0
            give_back()

    def _spill(self, value: Any, needed: int) -> _Spilled:
        saved: list[Tensor] = []
        devices: list[torch.device] = []

        def replace(tensor: Tensor) -> _Slot:
            # A view would take its whole storage along into the file.
            saved.append(tensor.detach().to("cpu", copy=True))
            devices.append(tensor.device)
            return _Slot(len(saved) - 1)

        skeleton = _map(value, Tensor, replace)
        self._num_files += 1
        try:
            if self._folder is None:
                self._folder = PassingFolder()
            path = self._folder.path / f"{self._num_files}.pt"
            # Into an open file, so that the system's own error is known, and without renaming or
            # flushing: nobody reads what a killed process leaves here.
            with open(path, "wb") as file:
                torch.save(saved, file)
        except WRITE_ERRORS as error:
            own = self._folder and self._folder.path
            where = own or tempfile.tempdir or "a folder for temporary files"
            raise OSError(
                f"Frontier: {needed} bytes past the memory budget of {self.memory_budget} bytes "
                f"cannot be written to {where} ({reason(error)}); free space there, let TMPDIR "
                "name another folder or raise the memory budget"
            ) from error
        self._loose += needed
        return _Spilled(skeleton, path, devices)


def _map(value: Any, kind: type, function: Any) -> Any:
    return fx.node.map_aggregate(
        value, lambda leaf: function(leaf) if isinstance(leaf, kind) else leaf
    )


def _size(tensor: Tensor) -> int:
    """Bytes of its elements; of an expanded one those that there are."""
    return min(tensor.nbytes, tensor.untyped_storage().nbytes())


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _map(value, Tensor, found.append)
    return found
