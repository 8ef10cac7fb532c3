"""Few-shot compression of convolutional networks: Cross Distillation, FSKD and MiR."""

from typing import TYPE_CHECKING

from fsc import lazy

if TYPE_CHECKING:
    # What a submodule of `fsc` is called, it may be called without an import of its own.
    from fsc import (
        channels as channels,
        images as images,
        methods as methods,
        models as models,
        networks as networks,
        ranks as ranks,
        report as report,
        schemes as schemes,
        solvers as solvers,
        training as training,
        walking as walking,
    )
    from fsc.compression import compress
    from fsc.exporting import Exported, export
    from fsc.iterative_pruning import Candidate, IterativeResult, prune_iteratively
    from fsc.layers.moments import Moments
    from fsc.layers.objectives import Convex, Correction, Estimation, Imitation, Soft
    from fsc.methods import (
        FSKD,
        KD,
        Alternation,
        BackProp,
        ChannelPruning,
        CrossDistillation,
        FitNet,
        Grail,
        L1Norm,
        MiR,
        ProgressiveMiR,
        SolveThenTrain,
        ThiNet,
    )
    from fsc.model_folder import from_pretrained, save_pretrained
    from fsc.networks.checkpoint import load, save
    from fsc.networks.plain import plain
    from fsc.report.inspection import Inspection, inspect
    from fsc.result import Report, Result
    from fsc.sweeping import SweepRun, sweep
    from fsc.version import __version__
    from fsc.walking.walk import walk
    from fsc.warning import CompressionWarning
else:
    # torch takes seconds to import, which `fsc --help` and its like should not cost.
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {"compress": "fsc.compression", "Report": "fsc.result", "Result": "fsc.result"}
        | dict.fromkeys(("Exported", "export"), "fsc.exporting")
        | dict.fromkeys(
            ("Candidate", "IterativeResult", "prune_iteratively"), "fsc.iterative_pruning"
        )
        | {"Moments": "fsc.layers.moments"}
        | dict.fromkeys(
            ("Convex", "Correction", "Estimation", "Imitation", "Soft"), "fsc.layers.objectives"
        )
        | dict.fromkeys(
            (
                "FSKD",
                "KD",
                "Alternation",
                "BackProp",
                "ChannelPruning",
                "CrossDistillation",
                "FitNet",
                "Grail",
                "L1Norm",
                "MiR",
                "ProgressiveMiR",
                "SolveThenTrain",
                "ThiNet",
            ),
            "fsc.methods",
        )
        | dict.fromkeys(("load", "save"), "fsc.networks.checkpoint")
        | dict.fromkeys(("from_pretrained", "save_pretrained"), "fsc.model_folder")
        | dict.fromkeys(("Inspection", "inspect"), "fsc.report.inspection")
        | dict.fromkeys(("SweepRun", "sweep"), "fsc.sweeping")
        | {"plain": "fsc.networks.plain", "walk": "fsc.walking.walk"}
        | {"CompressionWarning": "fsc.warning", "__version__": "fsc.version"},
    )

__all__ = [
    "FSKD",
    "KD",
    "Alternation",
    "BackProp",
    "Candidate",
    "ChannelPruning",
    "CompressionWarning",
    "Convex",
    "Correction",
    "CrossDistillation",
    "Estimation",
    "Exported",
    "FitNet",
    "Grail",
    "Imitation",
    "Inspection",
    "IterativeResult",
    "L1Norm",
    "MiR",
    "Moments",
    "ProgressiveMiR",
    "Report",
    "Result",
    "Soft",
    "SolveThenTrain",
    "SweepRun",
    "ThiNet",
    "__version__",
    "compress",
    "export",
    "from_pretrained",
    "inspect",
    "load",
    "plain",
    "prune_iteratively",
    "save",
    "save_pretrained",
    "sweep",
    "walk",
]
