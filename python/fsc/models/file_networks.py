"""A network from a function in the user's own file, which is run as the user asked for."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from fsc.models.torchvision_import import leave_out_operators_that_do_not_load
from fsc.wording import shown


def build_from_file(path: str, function: str) -> nn.Module:
    """Run a file and call one of its functions, without arguments.

    The folder of the file is put on the path, as `python FILE.py` would do.

    Args:
        path: of the file.
        function: the name of what returns the network.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file or the function raises, there is no such function, or it returns no
            `torch.nn.Module`.
    """
    module = _run(Path(path))
    found = getattr(module, function, None)
    if not callable(found) or isinstance(found, nn.Module):
        raise ValueError(
            f"model must name a function of {path}, {_what_there_is(module, function)}"
        )
    try:
        model = found()
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"model must be built by {path}:{function}, {_raised(error, path)}"
        ) from error
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model must be built by {path}:{function}, which must return a torch.nn.Module, "
            f"got {type(model).__name__}"
        )
    return model


def _run(path: Path) -> ModuleType:
    """The file as a module; another one for each path, and the same one for the same path."""
    if not path.is_file():
        raise FileNotFoundError(f"model must name a file that exists, got {path}")
    name = f"fsc_model_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    folder = str(path.resolve().parent)
    leave_out_operators_that_do_not_load()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    # Dataclasses and pickle look a module up while it runs.
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raised = _raised(error, str(path))
        raise ValueError(f"model must name a file that runs, got {path}, {raised}") from error
    return module


def _what_there_is(module: ModuleType, function: str) -> str:
    value: Any = getattr(module, function, None)
    if isinstance(value, nn.Module):
        return (
            f"got {function}, which is the network itself; wrap it: def build(): return {function}"
        )
    own = [
        name
        for name, each in vars(module).items()
        if callable(each) and getattr(each, "__module__", None) == module.__name__
    ]
    close = difflib.get_close_matches(function, own, n=3) or own[:3]
    which = f"which has {', '.join(close)}" if close else "which defines none"
    kind = "" if value is None else f" of type {type(value).__name__}"
    return f"{which}; got {shown(function)}{kind}"


def _raised(error: BaseException, path: str) -> str:
    """What was raised, and the line of the file that it came from."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename) == Path(path)
    ]
    if isinstance(error, SyntaxError) and error.filename == path:
        lines = [error.lineno]
    where = f" in line {lines[-1]}" if lines else ""
    text = " ".join(str(error).split())
    return f"which raised {type(error).__name__}{where}" + (f": {text}" if text else "")
