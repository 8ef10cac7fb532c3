"""The published methods and their baselines, as dataclasses of hyper-parameters."""

from fsc.methods.alternation import Alternation
from fsc.methods.back_prop import BackProp
from fsc.methods.base import LayerReport, Method, Outcome, Task
from fsc.methods.channel_pruning import ChannelPruning
from fsc.methods.cross_distillation import CrossDistillation
from fsc.methods.fit_net import FitNet
from fsc.methods.fskd import FSKD
from fsc.methods.grail import Grail
from fsc.methods.joint_alignment import JointSGD
from fsc.methods.kd import KD
from fsc.methods.l1_norm import L1Norm
from fsc.methods.mir import MiR
from fsc.methods.progressive_mir import ProgressiveMiR
from fsc.methods.solve_then_train import SolveThenTrain
from fsc.methods.thinet import ThiNet

__all__ = [
    "FSKD",
    "KD",
    "Alternation",
    "BackProp",
    "ChannelPruning",
    "CrossDistillation",
    "FitNet",
    "Grail",
    "JointSGD",
    "L1Norm",
    "LayerReport",
    "Method",
    "MiR",
    "Outcome",
    "ProgressiveMiR",
    "SolveThenTrain",
    "Task",
    "ThiNet",
]
