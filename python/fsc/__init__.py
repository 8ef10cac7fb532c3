"""Few-shot compression of convolutional networks: Cross Distillation, FSKD and MiR."""

from fsc.compression import Report, Result, compress
from fsc.layers.moments import Moments
from fsc.layers.objectives import Convex, Correction, Estimation, Imitation, Soft
from fsc.methods import FSKD, CrossDistillation, L1Norm, MiR
from fsc.networks.checkpoint import load, save
from fsc.version import __version__
from fsc.walking.walk import walk

__all__ = [
    "FSKD",
    "Convex",
    "Correction",
    "CrossDistillation",
    "Estimation",
    "Imitation",
    "L1Norm",
    "MiR",
    "Moments",
    "Report",
    "Result",
    "Soft",
    "__version__",
    "compress",
    "load",
    "save",
    "walk",
]
