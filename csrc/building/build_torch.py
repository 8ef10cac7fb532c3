"""Which torch the extension is compiled against: the one of the environment that it is made for.

Build isolation hides that environment's packages, so pip would fetch a torch of its own, gigabytes
that may be of another version or for another device. Its folders are still known, and the torch in
them is used; only where there is none does the build ask for one.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import site
import sys
import sysconfig

OLDEST = (2, 11)
NEWEST = (2, 15)  # that the sources have been compiled against: docs/install.md
FETCHED = f"torch>={OLDEST[0]}.{OLDEST[1]},<{NEWEST[0]}.{NEWEST[1] + 1}"
SETUPTOOLS = (77, 0)  # the first that reads the licence as pyproject.toml states it


def require_setuptools() -> None:
    """Ends the build in one sentence where setuptools is missing or too old to read the project."""
    wanted = f'setuptools {SETUPTOOLS[0]} or newer: `pip install "setuptools>={SETUPTOOLS[0]},<82"`'
    try:
        found = importlib.metadata.version("setuptools")
    except importlib.metadata.PackageNotFoundError:
        sentence = f"fsc-ext: this environment has no setuptools; the build needs {wanted}"
        raise SystemExit(sentence) from None
    if minor_version(found) < SETUPTOOLS:
        raise SystemExit(f"fsc-ext: setuptools {found} is too old; the build needs {wanted}")


def minor_version(version: str) -> tuple[int, int]:
    """Return (2, 13) for 2.13.0+cpu; the C++ interface may change with each of them."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def environment_folders() -> list[str]:
    """Where the interpreter's own packages lie, even when they are hidden from sys.path."""
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    folders += site.getsitepackages()
    if sys.prefix == sys.base_prefix:  # else the user's folder is not part of the environment
        folders.append(site.getusersitepackages())
    return list(dict.fromkeys(folders))


def torch_at_hand() -> str | None:
    """Make the environment's torch importable and return its version, None where there is none."""
    if importlib.util.find_spec("torch") is None:
        for folder in environment_folders():
            if os.path.isfile(os.path.join(folder, "torch", "version.py")):
                sys.path.append(folder)  # behind the build's own packages
                importlib.invalidate_caches()
                break
        else:
            return None
    version = importlib.metadata.version("torch")
    if minor_version(version) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise SystemExit(
            f"fsc-ext: torch must be {oldest} or newer, this environment has {version}: "
            f'`pip install --upgrade "torch>={oldest}"` first'
        )
    return version


def require_torch() -> str:
    """Return the version of the torch at hand, which can be imported; else end in one sentence."""
    version = torch_at_hand()
    if version is None:
        raise SystemExit(
            "fsc-ext: the build needs torch, and this environment has none: `pip install torch` "
            "first, or leave out --no-build-isolation, and pip fetches one"
        )
    try:
        importlib.import_module("torch")
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise SystemExit(f"fsc-ext: torch {version} cannot be imported here: {reason}") from error
    return version


def runtime_requirement(version: str) -> str:
    """The minor version of torch compiled against, as the wheel asks for it."""
    major, minor = minor_version(version)
    return f"torch>={major}.{minor},<{major}.{minor + 1}"
