"""What images are like, and what it takes to know."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fsc.images.augmentation import filled_up
from fsc.images.checks import check_images
from fsc.images.scale import emptiness, statistics


def _new_bytes(found: object, given: tuple[object, ...]) -> int:
    if not isinstance(found, Tensor):
        return 0
    known = {each.untyped_storage().data_ptr() for each in given if isinstance(each, Tensor)}
    own = found.untyped_storage()
    return 0 if own.data_ptr() in known else own.nbytes()


class Largest(TorchDispatchMode):
    """The most bytes of a tensor that anything makes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        self.bytes = max([self.bytes, *(_new_bytes(each, args) for each in tree_leaves(found))])
        return found


@pytest.mark.parametrize("shape", [(150, 3, 4, 5), (3, 2, 7), (70, 1, 2, 3, 4), (65, 4)])
def test_statistics_are_those_of_all_images_together(shape: tuple[int, ...]) -> None:
    images = torch.randn(shape) * 3 + 1
    found = statistics(images)
    whole = images.transpose(0, 1).flatten(1).double()  # [C, values]
    for values, expected in (
        (found.mean, whole.mean(1)),
        (found.deviation, whole.std(1, correction=0)),
        (found.minimum, whole.amin(1)),
        (found.maximum, whole.amax(1)),
    ):
        torch.testing.assert_close(torch.tensor(values).double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "look", [statistics, emptiness, lambda images: check_images("here", images)]
)
@pytest.mark.parametrize("are_the_same", [False, True])
def test_many_images_are_not_held_again_to_be_looked_at(look, are_the_same: bool) -> None:
    images = torch.randn(1, 3, 8, 8).repeat(1000, 1, 1, 1)
    if not are_the_same:
        images += torch.randn_like(images)
    with Largest() as largest:
        look(images)
    assert 0 < largest.bytes < images.numel() * images.element_size() / 4


def test_enough_images_are_not_copied() -> None:
    images = torch.randn(5, 3, 4, 4)
    assert filled_up(images, 5) is images and filled_up(images, 4) is images
