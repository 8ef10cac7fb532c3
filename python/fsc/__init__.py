"""Few-shot compression of convolutional networks: Cross Distillation, FSKD and MiR."""

from fsc.checkpoint import load, save
from fsc.compress import Report, Result, compress
from fsc.methods import FSKD, CrossDistillation, L1Norm, MiR
from fsc.moments import Moments
from fsc.objectives import Convex, Correction, Estimation, Imitation, Soft
from fsc.walk import walk

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
    "compress",
    "load",
    "save",
    "walk",
]
