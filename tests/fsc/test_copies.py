"""Which channels of a teacher a student still has, seen by its weights."""

import copy
import warnings

import pytest
import torch
from networks import chain
from torch import Tensor, nn

import fsc
from fsc import models
from fsc.channels.copies import Copies, copied_rows
from fsc.channels.proof import channel_groups


def test_copies_of_several_rows_or_of_none_are_not_guessed() -> None:
    rows = torch.randn(5, 8)
    assert copied_rows(rows, 3 * rows[[4, 0]]).tolist() == [4, 0]
    assert copied_rows(rows, -rows[[4, 0]]) is None
    assert copied_rows(rows, rows[[4, 4]]) is None
    assert copied_rows(rows, rows[[4]] + 0.1) is None
    # All multiples of one another: the one of the same length, if there is one alone.
    line = torch.tensor([[1.0], [2.0], [3.0]])
    assert copied_rows(line, line[1:]).tolist() == [1, 2]
    assert copied_rows(torch.cat([line, line]), line[1:]) is None


def test_layers_are_followed_from_what_was_written_to_what_is_read() -> None:
    teacher, image = chain(), torch.randn(1, 3, 8, 8)
    student = copy.deepcopy(teacher)
    first, second = torch.tensor([1, 4, 6]), torch.tensor([0, 5, 8, 9])
    with torch.no_grad():
        student.conv1.weight = torch.nn.Parameter(2 * teacher.conv1.weight[first])
        student.conv2.weight = torch.nn.Parameter(teacher.conv2.weight[second][:, first])
        student.conv3.weight = torch.nn.Parameter(teacher.conv3.weight[:, second])
    copies = Copies(teacher, channel_groups(teacher, image))
    # Asked for out of order it is not known what it reads.
    assert "which 3 of the teacher's 8 channels" in str(copies.of("conv2", student.conv2))
    assert torch.equal(torch.as_tensor(copies.of("conv1", student.conv1)), first)
    assert torch.equal(torch.as_tensor(copies.of("conv2", student.conv2)), second)
    assert torch.equal(torch.as_tensor(copies.of("conv3", student.conv3)), torch.arange(12))
    assert torch.equal(torch.as_tensor(copies.carried("bn1", 3)), first)
    assert copies.carried("bn1", 4) is None
    student.conv1.weight.data.normal_()
    fresh = Copies(teacher, channel_groups(teacher, image))
    assert "its 3 filters are no copies of 3 of the teacher's 8" in str(
        fresh.of("conv1", student.conv1)
    )


class _Stream(nn.Module):
    """Two layers that write one stream, and one that reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.last = nn.Conv2d(6, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        return self.last((x + self.two(x)).relu()).mean((2, 3))


@pytest.mark.parametrize(("rows", "is_followed"), [([0, 2, 3, 5], True), ([5, 0, 3, 2], False)])
def test_another_order_of_channels_is_not_taken_for_the_teachers(
    rows: list[int], is_followed: bool
) -> None:
    torch.manual_seed(0)
    teacher = _Stream()
    copies = Copies(teacher, channel_groups(teacher, torch.randn(1, 3, 8, 8)))
    one, two, last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 1, 3)
    with torch.no_grad():
        one.weight.copy_(teacher.one.weight[rows])
        two.weight.copy_(teacher.two.weight[rows][:, rows])
        last.weight.copy_(teacher.last.weight[:1, rows])
    assert torch.equal(torch.as_tensor(copies.of("one", one)), torch.tensor(rows))
    for name, layer, expected in (("two", two, rows), ("last", last, [0])):
        found = copies.of(name, layer)
        if is_followed:
            assert torch.as_tensor(found).tolist() == expected
        else:
            assert "its channels in another order; say in channels" in str(found)


def test_a_stream_that_was_pruned_here_is_followed_through_shortcuts() -> None:
    torch.manual_seed(0)
    teacher, images = models.build("resnet14").eval(), torch.randn(10, 3, 16, 16)
    result = fsc.compress(teacher, images, method="l1", pruning_ratio=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fsc.FSKD(solve_on=0).align(teacher, result.student, images)
        given = fsc.FSKD(solve_on=0).align(
            teacher, result.student, images, channels=result.report.kept
        )
    torch.testing.assert_close(found(images), given(images))


def test_channels_in_another_order_of_a_layer_as_wide_are_seen() -> None:
    torch.manual_seed(0)
    teacher = _Stream()
    copies = Copies(teacher, channel_groups(teacher, torch.randn(1, 3, 8, 8)))
    student = nn.Conv2d(3, 6, 3)
    student.weight.data = teacher.one.weight.data[[1, 0, 2, 3, 5, 4]]
    assert torch.as_tensor(copies.of("one", student)).tolist() == [1, 0, 2, 3, 5, 4]
    student.weight.data.normal_()
    assert torch.as_tensor(copies.of("one", student)).tolist() == list(range(6))
