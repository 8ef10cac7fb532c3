"""What pip calls: setuptools' own hooks, and what those do not do.

- A missing or old tool is one sentence, before setuptools reads the project.
- The build compiles against the torch of the environment (build_torch.py); it asks for one only
  where there is none. A source distribution needs none.
- A wheel holds no file that the sources no longer have.
- An editable installation is a plain list of folders, which type checkers read too; setuptools
  would write an import hook, since the two packages lie in different folders.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import zipfile
from pathlib import Path
from typing import Any

from build_torch import FETCHED, require_setuptools, torch_at_hand

require_setuptools()

from setuptools.build_meta import (  # noqa: E402
    build_editable as _build_editable,  # noqa: E402
    build_sdist,
    build_wheel as _build_wheel,  # noqa: E402
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (ROOT, ROOT / "python")  # that hold fsc_ext and fsc

Settings = dict[str, Any] | None


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """A torch, where the environment has none."""
    return [] if torch_at_hand() else [FETCHED]


get_requires_for_build_editable = get_requires_for_build_wheel


def build_wheel(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """The wheel of setuptools, from an empty folder."""
    for folder in (ROOT / "build").glob("lib*"):
        shutil.rmtree(folder)
    return _build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """The editable wheel of setuptools, its import hook replaced by the list of folders."""
    name = _build_editable(wheel_directory, config_settings, metadata_directory)
    path = Path(wheel_directory) / name
    with zipfile.ZipFile(path) as wheel:
        entries = {
            entry: wheel.read(entry)
            for entry in wheel.namelist()
            if not entry.startswith("__editable__")
        }
    record = next(entry for entry in entries if entry.endswith(".dist-info/RECORD"))
    entries["fsc_ext_sources.pth"] = "".join(f"{folder}\n" for folder in FOLDERS).encode()
    entries[record] = _record(entries, record)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for entry, content in entries.items():
            wheel.writestr(entry, content)
    return name


def _record(entries: dict[str, bytes], record: str) -> bytes:
    lines = [
        f"{entry},sha256={_digest(content)},{len(content)}"
        for entry, content in entries.items()
        if entry != record
    ]
    return "".join(f"{line}\n" for line in [*lines, f"{record},,"]).encode()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]
