"""Random calls of every operator: equal to the reference, or refused with a sentence."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import calls_fold
import calls_layer
import calls_prox
import calls_solve
import calls_step
import emulator
import torch
from bounded import WrongError, require
from calls import Call, copied, in_words, tensors_of
from drawing import HALF, Draw
from part import Fault, Part
from spoiling import share_memory, spoil
from torch import Tensor

import fsc_ext
from fsc_ext.testing import EMULATED

DRAWN = [
    drawn
    for module in (calls_prox, calls_step, calls_solve, calls_layer, calls_fold)
    for drawn in module.CALLS
]
CALLS = 100  # a case
_REFUSED = (ValueError, TypeError, RuntimeError, NotImplementedError)

if EMULATED:
    emulator.load()


def case(number: int, folder: Path) -> str:
    """So many calls of one operator; which, says the number."""
    drawn = DRAWN[number % len(DRAWN)]
    outcomes: Counter[str] = Counter()
    faults = []
    for seed in range(number * 1000, number * 1000 + CALLS):
        try:
            outcomes[one(drawn, seed)] += 1
        except Fault as fault:
            faults.append(str(fault))
    if faults:
        more = f"; {len(faults) - 1} more of {CALLS} calls" if len(faults) > 1 else ""
        raise Fault(faults[0] + more)
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))


def one(drawn: Any, seed: int) -> str:
    """One call: "equal", "refused", "meta" where nothing was computed, or a `Fault`."""
    draw = Draw(seed)
    call = drawn(draw)
    kind = draw.choices(["valid", "spoiled", "shared", "gradients"], [50, 25, 10, 15])[0]
    if kind == "spoiled":
        spoil(draw, call)
    elif kind == "shared":
        share_memory(draw, call)
    elif kind == "gradients" and call.gradients is not None and not draw.extreme:
        return _told(call, seed, lambda: _differentiated(draw, call))
    return _told(call, seed, lambda: _tried(call, valid=kind not in ("spoiled", "shared")))


def _told(call: Call, seed: int, attempt: Any) -> str:
    words = in_words(call.arguments)
    try:
        return attempt()
    except Exception as error:  # of a check or a backward, too: the sentence has to say which call
        what = "" if isinstance(error, WrongError | Fault) else f"{type(error).__name__}: "
        raise Fault(f"{call.name}({words}), drawn of {seed}: {what}{error}") from error


def _tried(call: Call, valid: bool) -> str:
    before, memory = copied(call.arguments), _Memory(call)
    try:
        result = getattr(fsc_ext, call.name)(**call.arguments)
    except Exception as error:
        memory.require_same("a refused call", without=())
        _require_sentence(call, error, valid)
        return "refused"
    if any(tensor.device.type == "meta" for _, tensor in tensors_of(call.arguments)):
        return "meta"
    memory.require_same("the call", without=call.changes)
    try:
        call.check(before, call.arguments, result)
    except WrongError:
        raise
    except Exception as error:
        if valid:
            raise
        raise Fault(f"accepted what the reference does not take ({error})") from error
    return "equal"


def _require_sentence(call: Call, error: Exception, valid: bool) -> None:
    """The refusal is one of the operator's own, or of the dispatcher's, and names an argument."""
    text = str(error).split("\n")[0]
    told = f"{type(error).__name__}: {text}"
    if not isinstance(error, _REFUSED) or "INTERNAL ASSERT" in str(error):
        raise Fault(f"was refused with {told}")
    its_own = text.startswith((f"{call.name}: ", f"fsc_ext::{call.name}() "))
    if not its_own or not any(re.search(rf"\b{name}\b", text) for name in call.arguments):
        raise Fault(f"was refused without the name of an argument: {told}")
    if not valid or any(part in text for part in call.refusals):
        return
    half = any(tensor.dtype in HALF for _, tensor in tensors_of(call.arguments))
    if not half or EMULATED:
        raise Fault(f"a valid call was refused: {told}")


def _differentiated(draw: Draw, call: Call) -> str:
    """The backward of a valid call against the gradients of the reference."""
    before = copied(call.arguments)
    for name in call.differentiable:
        if call.arguments[name] is not None:
            call.arguments[name] = call.arguments[name].detach().requires_grad_()
    memory = _Memory(call)
    try:
        result = getattr(fsc_ext, call.name)(**call.arguments)
    except Exception as error:
        _require_sentence(call, error, valid=True)
        return "refused"
    results = result if isinstance(result, tuple) else (result,)
    asked = [part for part in results if part.requires_grad]
    grads = [draw.tensor(*part.shape, dtype=part.dtype) for part in asked]
    names = [name for name in call.differentiable if call.arguments[name] is not None]
    inputs = [call.arguments[name] for name in names]
    found = torch.autograd.grad(asked, inputs, grads, allow_unused=True)
    memory.require_same("the call", without=())
    expected = zip(call.differentiable, call.gradients(before, grads), strict=True)
    values = {name: bounded for name, bounded in expected if bounded is not None}
    for name, gradient in zip(names, found, strict=True):
        value, error = values[name]
        gradient = torch.zeros_like(value) if gradient is None else gradient
        require(f"the gradient of {name}", gradient, value, error)
    return "equal gradients"


class _Memory:
    """All memory behind the arguments, with what lies between and beside their elements."""

    def __init__(self, call: Call) -> None:
        """Copies it."""
        self._call = call
        self._kept = {}
        for name, tensor in tensors_of(call.arguments):
            if tensor.layout == torch.strided and tensor.device.type == "cpu":
                storage = tensor.untyped_storage()
                self._kept[storage.data_ptr()] = (name, _bytes(tensor), _bytes(tensor).clone())

    def require_same(self, by: str, without: tuple[str, ...]) -> None:
        """Raises where a byte was changed that belongs to no tensor of these names."""
        for name, now, before in self._kept.values():
            changed = now != before
            for other, tensor in tensors_of(self._call.arguments):
                if other.partition("[")[0] in without and _is_in(tensor, now):
                    size = tensor.element_size()
                    strides = (*(size * step for step in tensor.stride()), 1)
                    begin = size * tensor.storage_offset()
                    changed.as_strided((*tensor.shape, size), strides, begin).zero_()
            if changed.any():
                raise WrongError(f"{by} changed {name}, or what lies around it")


def _bytes(tensor: Tensor) -> Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())


def _is_in(tensor: Tensor, memory: Tensor) -> bool:
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        return False
    return tensor.untyped_storage().data_ptr() == memory.data_ptr()


PART = Part(count=100 * len(DRAWN), case=case, limit=120)
