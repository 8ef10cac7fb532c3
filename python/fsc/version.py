"""The version of the installed distribution `fsc-ext`, which holds fsc and fsc_ext."""

import importlib.metadata

__version__ = importlib.metadata.version("fsc-ext")
