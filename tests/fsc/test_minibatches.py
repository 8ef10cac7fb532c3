"""Minibatches are begun ahead of the step that takes them."""

import pytest
import torch
from torch import Tensor

from fsc.methods.minibatches import Minibatches


class _Counting:
    """Views that keep which minibatches were begun and which were given."""

    count, ahead = 5, 2

    def __init__(self) -> None:
        self.begun: list[list[int]] = []
        self.given: list[list[int]] = []

    def begin(self, chosen: Tensor, generator: torch.Generator, own: slice = slice(None)):
        self.begun.append(chosen.tolist() + torch.randint(100, (1,), generator=generator).tolist())
        number = self.begun[-1]
        return lambda layout: (self.given.append(number) or chosen, [])


@pytest.mark.parametrize("ahead", [0, 1, 2, 7])
def test_minibatches_are_begun_ahead_and_never_in_vain(ahead: int) -> None:
    eager, views = _Counting(), _Counting()
    eager.ahead, views.ahead = 0, ahead
    layout = torch.contiguous_format
    plain, minibatches = (Minibatches(each, 2, 8, seed=4) for each in (eager, views))
    for step in range(8):
        state = minibatches.state()
        assert all(torch.equal(state[key], value) for key, value in plain.state().items())
        if step == 5:
            again = Minibatches(views, 2, 8, seed=0)
            again.restore(state, step)
            minibatches = again
        assert torch.equal(minibatches.take(layout).images, plain.take(layout).images)
        if step < 5:
            assert len(views.begun) == min(8, step + 1 + ahead)
    assert views.given == eager.given == eager.begun
    assert [len(each) for each in eager.given[:3]] == [3, 3, 2]
    # One more than was said is made all the same, the last image of a pass.
    assert len(minibatches.take(layout).images) == 1
