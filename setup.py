"""Builds the extension `fsc_ext._C` and installs the packages `fsc_ext` and `fsc`.

What the build needs and decides stands in csrc/building/; pip calls build_backend.py there. A
source distribution needs neither torch nor a compiler.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "csrc" / "building"))

from build_torch import OLDEST, require_setuptools, require_torch, runtime_requirement  # noqa: E402

require_setuptools()

from setuptools import find_packages, setup  # noqa: E402

RUNTIME = [
    "click>=8.1",
    "matplotlib>=3.8",
    "numpy>=1.26",
    "pillow>=10.1",
    "rich>=13",
    "safetensors>=0.4",
    "scikit-learn>=1.4",
]


def compiled() -> dict[str, Any]:
    """What depends on the torch at hand: the extension, and the torch that it runs with."""
    if "sdist" in sys.argv:
        return {"install_requires": [f"torch>={OLDEST[0]}.{OLDEST[1]}", *RUNTIME]}
    version = require_torch()
    from build_extension import Compile, extension

    return {
        "install_requires": [runtime_requirement(version), *RUNTIME],
        "ext_modules": [extension()],
        "cmdclass": {"build_ext": Compile},
    }


setup(
    packages=find_packages(include=["fsc_ext*"]) + find_packages("python"),
    package_dir={"fsc": "python/fsc"},
    package_data={"fsc_ext": ["py.typed"], "fsc": ["py.typed"]},
    **compiled(),
)
