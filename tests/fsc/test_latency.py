"""Times of networks side by side: who runs how often, and what is left as it was."""

import time

import numpy as np
import pytest
import torch
from torch import nn

from fsc.networks import latency


class Watched(nn.Module):
    """Notes the state that it runs in."""

    def __init__(self, name, notes):
        super().__init__()
        self.name, self.notes = name, notes

    def forward(self, x):
        self.notes.append((self.name, self.training, torch.get_num_threads(), len(x)))
        return x.flatten(1)


def test_a_network_may_give_several_things(one_thread):
    class Two(nn.Module):
        def forward(self, x):
            return {"scores": x, "features": (x, x)}

    assert latency.latencies([Two()], torch.zeros(1, 1, 2, 2), repeats=1)[0] > 0


def test_several_images_go_through_at_once(one_thread):
    notes = []
    latency.latencies([Watched("a", notes)], torch.zeros(5, 3, 4, 4), repeats=2)
    assert {count for *_, count in notes} == {5}


def test_a_network_may_take_several_things(one_thread):
    class Sum(nn.Module):
        def forward(self, image, shift):
            return image + shift

    one = torch.zeros(1, 3)
    for given in ((one, one), {"shift": one, "image": one}):
        assert latency.latencies([Sum()], given, repeats=1)[0] > 0


def test_what_waits_is_not_counted_on_a_cpu(one_thread):
    """As where the machine does something else: the clock goes on, the process does not."""

    class Sleepy(nn.Module):
        def forward(self, x):
            time.sleep(0.05)
            return x

    (milliseconds,) = latency.latencies([Sleepy()], torch.zeros(1, 1, 2, 2), repeats=3)
    assert milliseconds < 50


def test_networks_take_turns_on_one_thread_in_evaluation_mode(one_thread):
    notes = []
    networks = [Watched("a", notes).train(), Watched("b", notes).eval()]
    torch.set_num_threads(2)
    found = latency.latencies(networks, torch.zeros(1, 3, 4, 4), repeats=4)
    assert len(found) == 2 and all(value > 0 for value in found)
    assert {note[1:] for note in notes} == {(False, 1, 1)}
    names = [name for name, *_ in notes]
    turns = {tuple(names[start : start + 2]) for start in range(0, len(names), 2)}
    assert turns == {("a", "b"), ("b", "a")}, "nobody is always first"
    assert networks[0].training and not networks[1].training
    assert torch.get_num_threads() == 2


def test_the_median_leaves_warm_up_and_outliers_out(monkeypatch):
    times = iter([1000.0, 1000.0, 1000.0, 2.0, 900.0, 3.0])
    monkeypatch.setattr(latency, "_milliseconds", lambda network, image: next(times))
    assert latency.latencies([nn.Flatten()], torch.zeros(1, 1, 2, 2), repeats=3) == [3.0]


def test_every_measurement_is_given_in_turn(monkeypatch):
    times = iter([1000.0, 1000.0] * 3 + [1.0, 10.0, 20.0, 2.0])
    monkeypatch.setattr(latency, "_milliseconds", lambda network, image: next(times))
    networks = [nn.Flatten(), nn.Flatten()]  # in the second turn the second one comes first
    assert latency.timings(networks, torch.zeros(1, 1, 2, 2), repeats=2) in (
        [[1.0, 2.0], [10.0, 20.0]],
        [[10.0, 20.0], [1.0, 2.0]],
    )


@pytest.mark.parametrize(
    "kind", [tuple, nn.ModuleList, iter, lambda networks: dict(enumerate(networks)).values()]
)
def test_networks_in_whatever_holds_them(kind, one_thread):
    networks = kind([nn.Flatten(), nn.ReLU()])
    assert len(latency.latencies(networks, torch.zeros(1, 1, 2, 2), repeats=np.int64(1))) == 2


def test_every_turn_is_told_and_none_while_something_is_timed(monkeypatch):
    notes = []

    def measured(network, image):
        notes.append("timed")
        return 1.0

    monkeypatch.setattr(latency, "_milliseconds", measured)
    given = ([nn.Flatten(), nn.Flatten()], torch.zeros(1, 1, 2, 2))
    latency.latencies(*given, repeats=2, progress=lambda *told: notes.append(told))
    expected = [["timed", "timed", ("turn", number, 5)] for number in range(1, 6)]
    assert notes == [each for turn in expected for each in turn]


@pytest.mark.parametrize(
    ("image", "repeats", "sentence"),
    [
        (
            torch.zeros(0, 3, 4, 4),
            1,
            r"with one N of at least 1, got \[0, 3, 4, 4\]",
        ),
        (
            (torch.zeros(2, 3), torch.zeros(1)),
            1,
            r"as many in every input, .* got \[2, 3\] for input 0 and \[1\] for input 1",
        ),
        (torch.zeros(1, 3, 4, 4), 0, "repeats must be at least 1, got 0"),
    ],
)
def test_refuses_what_cannot_be_measured(image, repeats, sentence):
    for measure in (latency.latencies, latency.timings):
        with pytest.raises(ValueError, match=f"^{measure.__name__}: .*{sentence}"):
            measure([nn.Flatten()], image, repeats=repeats)


@pytest.mark.parametrize(
    ("networks", "images", "sentence"),
    [
        (nn.Flatten(), torch.zeros(1, 3), "networks must be several, got Flatten"),
        (None, torch.zeros(1, 3), "networks must be several, got NoneType"),
        (
            nn.Sequential(nn.Flatten()),
            torch.zeros(1, 3),
            "networks must be several, got Sequential",
        ),
        ([3], torch.zeros(1, 3), r"networks must be a torch\.nn\.Module, got int"),
        ([nn.Flatten()], None, r"images must be a torch\.Tensor, got NoneType"),
        ([nn.Flatten()], (torch.zeros(1, 3), [1]), r"images must be a torch\.Tensor, got int"),
    ],
)
def test_arguments_of_another_kind_are_named(networks, images, sentence):
    for measure in (latency.latencies, latency.timings):
        with pytest.raises(TypeError, match=f"^{measure.__name__}: {sentence}$"):
            measure(networks, images)


def test_networks_that_cannot_be_timed_are_one_sentence(one_thread):
    takes = r"forward of Conv2d, \(input\)"
    for measure in (latency.latencies, latency.timings):
        start = f"^{measure.__name__}: "
        with pytest.raises(ValueError, match=f"{start}networks must be one or more, got none$"):
            measure([], torch.zeros(1, 3, 4, 4))
        with pytest.raises(ValueError, match=rf"{start}images must be what {takes} takes, got \[1"):
            measure([nn.Flatten(), nn.Conv2d(3, 4, 3)], torch.zeros(1, 5, 4, 4))
