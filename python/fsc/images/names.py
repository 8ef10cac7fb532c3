"""What data sets and augmentations are called; apart from them, so that torch is not needed."""

from __future__ import annotations

import re
from dataclasses import dataclass

DATA_SETS = ("cifar10", "cifar100", "digits")
# Before the path of a folder of images, where a data set is asked for.
FOLDER = "folder:"
SPLITS = ("train", "test")
AUGMENTATIONS = ("mirror", "crop", "mixup", "hard")
MOST_COPIES = 10_000
# Augmentations and views of which two images become one.
MIX_LABELS = ("mixup", "hard")
# Of images that a method is trained on: as they are and mirrored; other parts at every step;
# recoloured, moved and mixed; other parts of the files that they were made from.
VIEWS = ("mirrored", "crops", "hard", "original-crops")
# Those that are made from the files of a folder, as large as they are there.
OF_FILES = "original-crops"


@dataclass(frozen=True)
class Augmentation:
    """Images made from the given ones that join them, as in "mirror" or "mixup:39".

    Attributes:
        kind: one of AUGMENTATIONS.
        copies: made from each image.
    """

    kind: str
    copies: int = 1

    @staticmethod
    def parse(text: str) -> Augmentation | None:
        """What a text says; None where it says none."""
        found = re.fullmatch(r"([a-z]+)(?::([0-9]{1,5}))?", text)
        if found is None:
            return None
        kind, copies = found[1], int(found[2] or 1)
        most = 1 if kind == "mirror" else MOST_COPIES  # there is one mirror image
        good = kind in AUGMENTATIONS and 1 <= copies <= most
        return Augmentation(kind, copies) if good else None

    def __str__(self) -> str:
        """As it is typed."""
        return self.kind if self.copies == 1 else f"{self.kind}:{self.copies}"


def one_of(names: tuple[str, ...]) -> str:
    """Names in a sentence: "a, b or c"."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
