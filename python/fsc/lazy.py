"""Names of a package that are imported when they are first asked for (PEP 562)."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Mapping
from typing import Any


def exports(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package that imports nothing by itself.

    Both know the names given here and every submodule, so that `fsc.schemes` is there after
    `import fsc`. What was found once is kept in the package and not looked up again.

    Args:
        package: its `__name__`.
        homes: name -> the module that defines it.

    Example:
        >>> get, names = exports("fsc", {"compress": "fsc.compression"})
        >>> get("compress").__module__
        'fsc.compression'
    """

    def get(name: str) -> Any:
        if name in homes:
            value = getattr(importlib.import_module(homes[name]), name)
        elif not name.startswith("_") and importlib.util.find_spec(f"{package}.{name}"):
            value = importlib.import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        module = sys.modules[package]
        rooms = (found.name for found in pkgutil.iter_modules(module.__path__))
        public = (name for name in rooms if not name.startswith("_"))
        return sorted({*vars(module), *homes, *public})

    return get, names
