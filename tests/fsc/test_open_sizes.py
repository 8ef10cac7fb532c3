"""Numbers of channels that are written into a forward."""

import copy
import json
import pickle

import branching
import pytest
import torch
from torch import Tensor, fx, nn

import fsc
from fsc.channels.proof import channel_groups
from fsc.networks.modes import unprinted
from fsc.networks.open_sizes import holders, set_size, sizes_of
from fsc.networks.plain import plain, rewritings

IMAGES = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def sized() -> nn.Module:
    return branching.branching(branching.Sized)


def test_they_become_attributes_of_the_graph_of_the_block_alone() -> None:
    model = sized()
    result = plain(model, IMAGES)
    assert type(result) is branching.Sized and holders(model) == ["block"]
    # What the forward does not call is kept, and so are all names.
    assert result.state_dict().keys() == model.state_dict().keys()
    assert sorted(sizes_of(result).values()) == [2, 3, 3, 4, 4, 4, 4, 8]
    (done,) = rewritings(result)
    assert (done.name, done.was) == ("block", "Counted") and "sizes" in done.became
    with torch.no_grad():
        assert torch.equal(result(IMAGES), model(IMAGES))
        other = torch.randn(1, 3, 9, 7)
        assert torch.equal(result(other), model(other))


def test_a_network_that_was_opened_stays_as_it_is() -> None:
    once = plain(sized(), IMAGES)
    again = plain(once, IMAGES)
    assert holders(once) == [] and sizes_of(again) == sizes_of(once)


def test_copies_can_be_changed_apart() -> None:
    model = plain(sized(), IMAGES)
    before = sizes_of(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        name = next(iter(before))
        assert sizes_of(other) == before
        set_size(other, name, 1)
        assert sizes_of(model) == before and sizes_of(other)[name] == 1


def test_sizes_that_the_input_has_are_left() -> None:
    class Shuffling(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            count, channels, height, width = x.shape
            x = x.view(count, channels // 2, 2, height, width)
            return x.transpose(1, 2).reshape(count, -1, height, width)[:4, :, 1:]

    model = nn.Sequential(nn.Conv2d(3, 4, 1), Shuffling(), nn.Conv2d(4, 2, 1))
    found = plain(model.eval(), IMAGES)
    # The 2 is one that a cut may have to change, for all that the code tells.
    assert sizes_of(found) == {"1.size_0": 2}


class Chosen(nn.Module):
    """A forward that is chosen when the module is made, and a parameter that is viewed."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(6))
        self.forward = self.halves

    def halves(self, x: Tensor) -> Tensor:
        first, second = torch.split(x, [2, 4], 1)
        return torch.cat([second, first], 1) * self.scale.view(6, 1, 1)


def test_a_forward_chosen_later_and_a_parameter_that_is_viewed() -> None:
    layers = [nn.Conv2d(3, 6, 1), Chosen(), nn.Conv2d(6, 2, 1)]
    model = plain(nn.Sequential(*layers).eval(), IMAGES)
    assert sorted(sizes_of(model).values()) == [2, 4, 6]
    group = channel_groups(model, IMAGES[:1])[0]
    assert group.frozen is None and int(group.free.sum()) == 6


def test_a_student_is_saved_and_loaded_with_them(tmp_path) -> None:
    teacher, path = sized(), tmp_path / "student.safetensors"
    scheme = fsc.schemes.structured(teacher, 0.5, IMAGES[:1])
    student = fsc.compress(teacher, IMAGES, method="l1", scheme=scheme).student
    assert sizes_of(student) != sizes_of(plain(teacher, IMAGES))
    fsc.save(student, path)
    loaded = fsc.load(path, sized())
    assert sizes_of(loaded) == sizes_of(student)
    with torch.no_grad():
        assert torch.equal(loaded(IMAGES), student(IMAGES))


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ([1], "sizes in the header must be those of the network, got"),
        ({"block.size_77": 1}, "sizes in the header must be those of the network, got"),
        ({"block.size_0": -1}, "block.size_0 of sizes in the header must be an integer from 0 to"),
        ({"block.size_0": "4"}, "block.size_0 of sizes in the header must be an integer from 0 to"),
    ],
)
def test_damaged_sizes_in_a_file_are_refused(
    sizes: object, sentence: str, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("fsc.networks.saved_structure.sizes_of", lambda model: sizes)
    fsc.save(plain(sized(), IMAGES), tmp_path / "student.safetensors")
    monkeypatch.undo()
    assert json.dumps(sizes)
    with pytest.raises(ValueError, match=sentence):
        fsc.load(tmp_path / "student.safetensors", sized())


class Shuffling(nn.Module):
    """As of ShuffleNet: sizes of the input, by which the channels of a later value are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(8, 8, 1, groups=4), nn.Conv2d(8, 8, 1, groups=4)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = self.first(x).relu()
        y = y.view(n, 4, c // 4, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        return (x + self.last(y)).relu()


def test_graphs_that_are_tried_and_do_not_run_print_nothing(capfd) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), Shuffling(), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)
    ).eval()
    images = torch.randn(2, 3, 8, 8)
    left = fsc.inspect(model, images).left
    assert any("does not run without some" in reason for reason in left.values())
    fsc.compress(model, images, method="l1", pruning_ratio=0.5, progress=False)
    assert capfd.readouterr().err == ""


def test_graphs_print_again_afterwards(capfd) -> None:
    graph = fx.symbolic_trace(Shuffling())
    with pytest.raises(RuntimeError), unprinted(graph):
        graph(torch.zeros(1, 4, 2, 2))
    assert capfd.readouterr().err == ""
    call, batch = type(graph).__call__, torch.zeros(1, 8, 2, 2)
    with unprinted(graph):
        expected = graph(batch)
    assert type(graph).__call__ is call and torch.equal(graph(batch), expected)
