"""What data sets and augmentations are called; apart from them, so that torch is not needed."""

DATA_SETS = ("cifar10", "digits")
SPLITS = ("train", "test")
AUGMENTATIONS = ("mirror", "crop", "mixup")
