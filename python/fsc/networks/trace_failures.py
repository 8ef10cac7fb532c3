"""What the sentence about a network that cannot be traced says: where, why and what to do."""

from __future__ import annotations

import traceback
from pathlib import Path

import torch
from torch import nn

_OWN = (Path(torch.__file__).parent, Path(__file__).parent)
_LIBRARIES = ("site-packages", "dist-packages")
# Of what an exporter or a runtime says, so much is passed on.
_LONGEST = 200
_GUARD = "data-dependent expression"


def sentence(
    function: str,
    error: Exception,
    model: nn.Module,
    innermost: nn.Module | None,
    reason: str | None = None,
    advice: str | None = None,
) -> str:
    """Say which forward failed, at which line, with what, and what helps there.

    Args:
        function: who asks.
        error: what tracing ended with.
        model: the network.
        innermost: the submodule whose forward failed; None for the network's own.
        reason: why, where more is known than the error says.
        advice: what helps; None: what does where a forward cannot be followed.
    """
    names = {module: name for name, module in model.named_modules()}
    name = None if innermost is None else names.get(innermost, "")
    module = "the outermost forward" if name is None else f"module {name!r}"
    kind = type(model if innermost is None else innermost).__name__
    frame, place = _frame(error), place_of(error)
    reason = reason or " ".join(str(error).split()) or type(error).__name__
    usual = (
        "make that forward free of control flow that depends on data, or move that part into a "
        "function marked with torch.fx.wrap"
    )
    if frame is not None and set(_LIBRARIES) & set(Path(frame.filename).parts):
        usual = (
            "that is a library's: take another implementation of the network"
            if name is None
            else f"that is a library's: put a module of your own, free of control flow that "
            f"depends on data, in its place with model.set_submodule({name!r}, ...)"
        )
    return (
        f"{function}: model cannot be traced, {module} ({kind}) failed{place} with: "
        f"{reason.rstrip('.')}; {advice or usual}"
    )


def place_of(error: Exception) -> str:
    """The innermost line that is neither torch's nor ours, to go behind "failed"; "" for none."""
    frame = _frame(error)
    if frame is None or not frame.line:
        return ""
    return f" at {frame.filename}:{frame.lineno}, `{frame.line}`,"


def line_of(error: BaseException) -> str:
    """The first line of what an error says, short; its class where it says nothing."""
    first = next(iter(str(error).strip().splitlines()), "").strip().rstrip(".")
    if len(first) > _LONGEST:
        first = first[: _LONGEST - 3].rstrip() + "..."
    return first or type(error).__name__


def reason_of_export(error: Exception) -> str:
    """Why torch.export fails, without what torch says to its own developers behind that."""
    text = str(error)
    if type(error).__name__ == "GuardOnDataDependentSymNode" or _GUARD in text:
        return "what is done depends on the values of a tensor"
    if text.startswith("Constraints violated"):
        return "the forward does not take any number of images"
    return line_of(error).partition(". ")[0].rstrip(".")


def _frame(error: Exception) -> traceback.FrameSummary | None:
    """The innermost line that is neither torch's nor ours."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame for frame in frames if not any(Path(frame.filename).is_relative_to(p) for p in _OWN)
    ]
    return own[-1] if own else None
