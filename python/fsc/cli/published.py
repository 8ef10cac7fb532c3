"""Accuracies from the papers' tables, to stand beside measured ones.

CD: Bai et al., "Few Shot Network Compression via Cross Distillation", AAAI 2020, Tables 1, 7, 13,
14, 16, 17 and 18.
MiR: Wang et al., "Compressing Models with Few Samples: Mimicking then Replacing", CVPR 2022,
Table 12. All on CIFAR-10; of ResNet-56, where the papers' teachers reach 93.32 % (CD) and 93.39 %
(MiR), but for Tables 1, 14 and 17, of VGG-16.
"""

from __future__ import annotations

from dataclasses import dataclass

NUM_SHOTS = (1, 2, 3, 5, 10, 50)
SOURCES = (
    "paper: MiR (CVPR 2022) for mir, teacher 93.39 %; Cross Distillation\n"
    "(AAAI 2020) for the others, teacher 93.32 % (VGG-16: 93.51 %)"
)


@dataclass(frozen=True)
class Published:
    """Top-1 accuracy in percent: mean and standard deviation over the paper's five trials."""

    mean: float
    std: float


# Mean and deviation for each of NUM_SHOTS, scheme res-50: CD Table 7 and, for MiR, MiR Table 12.
# CD Table 7 prints 14.36 for L1 at 5 shots, a figure of another table; Table 13 has 80.43.
_RES_50 = {
    "l1": ((80.43, 0.00),) * 6,
    "bp": ((84.17, 1.55), (86.61, 1.69), (86.86, 1.30), (87.41, 0.98), (87.79, 0.81),
           (90.12, 0.70)),
    "fitnet": ((86.85, 1.91), (87.95, 2.13), (88.94, 1.85), (89.43, 1.60), (91.03, 1.14),
               (91.89, 0.87)),
    "fskd": ((84.26, 1.42), (85.79, 1.31), (85.99, 1.29), (87.53, 1.06), (88.15, 0.71),
             (88.70, 0.55)),
    "thinet": ((88.40, 1.26), (88.76, 1.18), (88.95, 1.19), (89.54, 0.84), (90.36, 0.76),
               (90.89, 0.49)),
    "channel-pruning": ((88.53, 1.37), (88.69, 1.09), (88.79, 0.94), (89.39, 0.80), (89.91, 0.69),
                        (90.45, 0.43)),
    "cd-nc": ((88.05, 1.61), (88.63, 1.69), (89.01, 1.53), (89.51, 1.13), (90.26, 0.83),
              (90.98, 0.29)),
    "cd-convex": ((88.42, 1.63), (89.12, 1.57), (89.75, 1.50), (89.93, 1.03), (90.42, 0.86),
                  (90.85, 0.24)),
    "cd-soft": ((89.00, 1.59), (89.45, 1.43), (89.56, 1.32), (90.14, 1.19), (90.82, 0.79),
                (91.24, 0.33)),
    "mir-before": ((89.27, 0.21), (90.43, 0.12), (90.70, 0.15), (91.14, 0.23), (91.57, 0.14),
                   (92.16, 0.11)),
}  # fmt: skip

# Mean and deviation for each of NUM_SHOTS, VGG-16, scheme vgg-50: CD Table 1.
_VGG_50 = {
    "l1": ((14.36, 0.00),) * 6,
    "bp": ((49.24, 1.76), (49.32, 1.88), (51.39, 1.53), (55.73, 1.19), (57.48, 0.91),
           (64.69, 0.43)),
    "fskd": ((47.91, 1.82), (55.44, 1.71), (61.76, 1.39), (65.69, 1.08), (72.20, 0.74),
             (75.46, 0.49)),
    "fitnet": ((48.51, 2.51), (71.51, 2.03), (76.22, 1.95), (81.10, 1.13), (85.40, 1.02),
               (88.46, 0.76)),
    "thinet": ((58.06, 1.71), (72.07, 1.68), (75.37, 1.59), (78.03, 1.24), (81.15, 0.85),
               (86.12, 0.45)),
    "channel-pruning": ((66.03, 1.56), (75.23, 1.49), (77.98, 1.47), (81.53, 1.29), (83.59, 0.78),
                        (87.27, 0.27)),
    "cd-nc": ((65.57, 1.61), (75.44, 1.69), (78.40, 1.53), (81.20, 1.13), (84.07, 0.83),
              (87.67, 0.29)),
    "cd-convex": ((69.25, 1.39), (80.65, 1.47), (82.08, 1.41), (84.91, 0.98), (86.61, 0.71),
                  (87.64, 0.24)),
    "cd-soft": ((68.53, 1.59), (76.83, 1.43), (80.16, 1.32), (84.28, 1.19), (86.30, 0.79),
                (88.65, 0.33)),
}  # fmt: skip

# The same for 1, 2, 5 and 10 shots with mixed images beside those given: CD Table 14.
_SHOTS_OF_MIXED = (1, 2, 5, 10)
_VGG_50_MIXED = {
    "cd-nc": ((68.40, 1.41), (78.59, 1.35), (81.05, 1.07), (83.47, 0.98)),
    "cd-convex": ((79.97, 1.71), (84.37, 1.32), (86.01, 0.99), (87.01, 0.81)),
    "cd-soft": ((79.63, 1.45), (83.63, 1.21), (86.10, 1.07), (87.12, 0.76)),
}

# Mean and deviation for each of NUM_SHOTS, nine weights of ten removed: CD Table 16.
_SPARSE_90 = {
    "l1": ((10.00, 0.00),) * 6,
    "cd-nc": ((72.71, 1.38), (80.20, 0.97), (82.55, 0.73), (83.39, 0.82), (86.26, 0.53),
              (87.68, 0.39)),
    "cd-convex": ((75.73, 1.28), (84.24, 1.03), (85.06, 0.81), (86.57, 0.70), (87.03, 0.52),
                  (87.82, 0.28)),
    "cd-soft": ((80.59, 1.15), (82.67, 1.25), (84.43, 0.97), (86.38, 0.79), (87.85, 0.60),
                (88.03, 0.31)),
}  # fmt: skip
# Weights and activations on few bits, 1 and 5 shots, VGG-16: CD Table 17, the row "Ours".
_QUANTIZED_VGG16 = {
    ("w2a3", 5): {"cd-convex": (81.20, 1.26)},
    ("w2a3", 1): {"cd-convex": (60.36, 2.86)},
    ("w2a4", 5): {"cd-convex": (91.35, 0.29)},
    ("w2a4", 1): {"cd-convex": (89.12, 0.38)},
}
# W2A32 and W4A32 at 1 and 5 shots, ResNet-56: CD Table 18, the row "Ours".
_QUANTIZED = {
    ("w2a32", 5): {"cd-convex": (86.11, 1.97)},
    ("w2a32", 1): {"cd-convex": (80.92, 2.23)},
    ("w4a32", 5): {"cd-convex": (91.23, 0.45)},
    ("w4a32", 1): {"cd-convex": (90.42, 0.53)},
}
_BY_SHOTS = {"res-50": _RES_50, "sparse-90": _SPARSE_90}

# Mean and deviation at 5 shots for each scheme: CD Table 13.
_SCHEMES_5_SHOTS = ("res-60", "res-70", "res-90")
_OTHER_SCHEMES = {
    "l1": ((50.55, 0.00), (30.50, 0.00), (14.70, 0.00)),
    "bp": ((80.85, 1.23), (72.23, 1.81), (32.03, 2.23)),
    "fitnet": ((86.03, 1.96), (81.90, 2.01), (51.15, 2.60)),
    "fskd": ((82.50, 0.95), (70.93, 1.57), (30.31, 1.76)),
    "thinet": ((85.73, 0.97), (79.75, 1.34), (38.64, 1.78)),
    "channel-pruning": ((86.01, 0.84), (80.20, 1.26), (52.17, 1.43)),
    "cd-nc": ((85.56, 1.32), (80.53, 1.45), (50.98, 1.60)),
    "cd-convex": ((86.80, 1.12), (79.67, 1.56), (50.67, 1.98)),
    "cd-soft": ((86.58, 0.97), (81.86, 1.43), (52.05, 1.75)),
}


def lookup(
    method: str,
    *,
    model_name: str,
    data_name: str,
    scheme: str,
    num_shots: int,
    augment: str | None = None,
) -> Published | None:
    """Return the paper's accuracy for exactly this case, or None where no table has it.

    Args:
        method: by its name on the command line.
        model_name: likewise.
        data_name: likewise.
        scheme: its name.
        num_shots: images a class.
        augment: what joins them, a kind or KIND:COPIES; only of "mixup" a table of its own is
            kept, and the others are compared with the paper's figures without.

    Example:
        >>> lookup("mir-before", model_name="resnet56", data_name="cifar10", scheme="res-50",
        ...        num_shots=5)
        Published(mean=91.14, std=0.23)
    """
    if (model_name, data_name) == ("vgg16", "cifar10"):
        return _of_vgg16(method, scheme, num_shots, (augment or "").partition(":")[0] == "mixup")
    if (model_name, data_name) != ("resnet56", "cifar10"):
        return None
    if method in _QUANTIZED.get((scheme, num_shots), {}):
        return Published(*_QUANTIZED[scheme, num_shots][method])
    if num_shots in NUM_SHOTS and method in _BY_SHOTS.get(scheme, {}):
        return Published(*_BY_SHOTS[scheme][method][NUM_SHOTS.index(num_shots)])
    if scheme in _SCHEMES_5_SHOTS and num_shots == 5 and method in _OTHER_SCHEMES:
        return Published(*_OTHER_SCHEMES[method][_SCHEMES_5_SHOTS.index(scheme)])
    return None


def _of_vgg16(method: str, scheme: str, num_shots: int, is_mixed: bool) -> Published | None:
    if scheme != "vgg-50":
        found = _QUANTIZED_VGG16.get((scheme, num_shots), {})
        return Published(*found[method]) if method in found else None
    shots, rows = (_SHOTS_OF_MIXED, _VGG_50_MIXED) if is_mixed else (NUM_SHOTS, _VGG_50)
    if method not in rows or num_shots not in shots:
        return None
    return Published(*rows[method][shots.index(num_shots)])
