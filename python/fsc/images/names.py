"""What data sets and augmentations are called; apart from them, so that torch is not needed."""

DATA_SETS = ("cifar10", "cifar100", "digits")
# Before the path of a folder of images, where a data set is asked for.
FOLDER = "folder:"
SPLITS = ("train", "test")
AUGMENTATIONS = ("mirror", "crop", "mixup", "hard")
# Augmentations and views of which two images become one.
MIX_LABELS = ("mixup", "hard")
# Of images that a method is trained on: as they are and mirrored; other parts at every step;
# recoloured, moved and mixed; other parts of the files that they were made from.
VIEWS = ("mirrored", "crops", "hard", "original-crops")
# Those that are made from the files of a folder, as large as they are there.
OF_FILES = "original-crops"


def one_of(names: tuple[str, ...]) -> str:
    """Names in a sentence: "a, b or c"."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
