"""Networks that write into tensors: read as they compute, and nobody's images or counts change."""

import copy
import random

import pytest
import torch
from torch import Tensor, nn

import fsc
from fsc.channels.proof import channel_groups
from fsc.networks import cost
from fsc.networks.calls import call_of
from fsc.networks.latency import timings
from fsc.networks.plain import plain, rewritings
from fsc.networks.tracing import unread
from fsc.training.evaluate import accuracy


class Base(nn.Module):
    """Three convolutions and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(n, 8, 3, padding=1) for n in (3, 8, 8))
        self.act, self.head = nn.ReLU(inplace=True), nn.Linear(8, 4)

    def end(self, x: Tensor) -> Tensor:
        return self.head(self.c(x).relu().mean((2, 3)))


class Named(Base):
    """What is added in place has another name."""

    def forward(self, x):
        x = skip = self.a(x).relu()
        x += self.b(x)
        return self.end((x - 0.9 * skip).relu())


class NamedNew(Base):
    def forward(self, x):
        x = self.a(x).relu()
        skip = x = x + self.b(x)
        return self.end((x - 0.9 * skip).relu())


class Viewed(Base):
    """A part is written through a view."""

    def forward(self, x):
        x = self.a(x).relu()
        part = x[:, :4]
        part *= -3
        return self.end(x)


class ViewedNew(Base):
    def forward(self, x):
        x = self.a(x).relu()
        return self.end(torch.cat([x[:, :4] * -3, x[:, 4:]], 1))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act, self.conv = nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        y = self.conv(self.act(1 * x))
        x += y
        return x


class Listed(Base):
    """Features that are kept in a list are what later blocks make of them."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))

    def forward(self, x):
        found = [self.a(x)]
        for block in self.blocks:
            found.append(block(found[-1]))
        return self.end(sum(found))


class ListedNew(Listed):
    def forward(self, x):
        x = self.a(x)
        for block in self.blocks:
            x = x + block.conv((1 * x).relu())
        return self.end(3 * x)


class Remembered(Base):
    """What is written into later was read before, by a view."""

    def forward(self, x):
        x = self.a(x)
        flat = x.flatten(2)
        self.act(x)
        return self.end(x + flat.reshape(x.shape))


class RememberedNew(Base):
    def forward(self, x):
        return self.end(2 * self.a(x).relu())


PAIRS = [(Named, NamedNew), (Viewed, ViewedNew), (Listed, ListedNew), (Remembered, RememberedNew)]


def made(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind().eval()


def images(count: int = 6) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("kind", "new"), PAIRS)
@pytest.mark.filterwarnings("ignore::fsc.warning.CompressionWarning")
def test_what_is_written_under_another_name_is_read_as_it_is_computed(kind, new):
    assert torch.allclose(made(kind)(images()), made(new)(images()), atol=1e-6)
    found = unread(made(kind), call_of(images()))
    assert (
        found is not None and found.kind == "unlike" and "gives something else" in str(found.error)
    )
    assert unread(made(new), call_of(images())) is None
    rewritten = plain(made(kind), images())
    assert unread(rewritten, call_of(images())) is None
    assert any("torch.export" in each.became for each in rewritings(rewritten))
    results = [
        fsc.compress(made(each), images(), pruning_ratio={"c": 0.5}, method="cd-nc").report
        for each in (kind, new)
    ]
    assert results[0].distance == pytest.approx(results[1].distance, rel=1e-3)


class Counted(Named):
    """Written under another name in a forward that torch.export refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count.add_(1)
        return super().forward(x)


def test_what_cannot_be_read_is_refused_with_what_helps():
    with pytest.raises(ValueError, match=r"gives something else.* as `x = x \+ y`"):
        fsc.compress(made(Counted), images(), method="l1")


class Noisy(Base):
    """Draws from where no seed reaches."""

    def forward(self, x):
        return self.end(self.a(x) * nn.functional.dropout(x, random.random(), True).mean())


class Dropping(Base):
    def forward(self, x):
        return self.end(nn.functional.dropout(self.a(x), 0.5, True))


def test_draws_in_evaluation_mode_are_no_misreading_and_leave_the_generator_as_it_was():
    for kind in (Dropping, Noisy):
        network, given, before = made(kind), call_of(images()), torch.get_rng_state()
        assert unread(network, given) is None
        assert torch.equal(torch.get_rng_state(), before)


class Shifting(Base):
    """Normalises what it is given, in place."""

    def forward(self, x):
        x.sub_(0.5)
        return self.end(self.b(self.a(x).relu()).relu())


class Rectifying(Base):
    def forward(self, x):
        return self.end(self.b(self.a(self.act(x)).relu()).relu())


class Two(Base):
    def forward(self, x, y):
        return self.end(self.b(self.a(self.act(x)) * y.mul_(2).mean()).relu())


@pytest.mark.parametrize("form", ["list", "double"])
@pytest.mark.parametrize("method", ["l1", "cd-nc", "fskd", fsc.MiR(steps=2)])
@pytest.mark.parametrize("kind", [Shifting, Rectifying])
@pytest.mark.filterwarnings("ignore::fsc.warning.CompressionWarning")
def test_images_stay_as_they_are(kind, method, form):
    network, given = made(kind), images()
    if form == "double":
        network, given = network.double(), given.double()
    before, expected = given.clone(), network(given.clone())
    weights = copy.deepcopy(network.state_dict())
    result = fsc.compress(network, list(given) if form == "list" else given, method=method)
    assert torch.equal(given, before)
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    assert torch.equal(network(given.clone()), expected) and network.act.inplace
    assert set(result.report.left.values()) == {"they reach the output of the network"}
    assert type(result.student) is kind and result.student.act.inplace
    assert result.report.flops <= 0.5 * result.report.flops_teacher


@pytest.mark.filterwarnings("ignore::fsc.warning.CompressionWarning")
def test_several_inputs_stay_as_they_are():
    given = images(), images()
    fsc.compress(made(Two), given, method="cd-nc")
    assert all(torch.equal(each, images()) for each in given)


RUNS = {
    "inspect": fsc.inspect,
    "plain": fsc.plain,
    "groups": channel_groups,
    "structured": lambda network, given: fsc.schemes.structured(network, 0.5, given),
    "flops": cost.flops,
    "timings": lambda network, given: timings([network], given, repeats=1),
    "accuracy": lambda network, given: accuracy(network, given, torch.zeros(6).long()),
    "align": lambda network, given: fsc.FSKD().align(network, copy.deepcopy(network), given),
}


@pytest.mark.parametrize("kind", [Shifting, Rectifying])
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.filterwarnings("ignore::fsc.warning.CompressionWarning")
def test_whatever_runs_a_network_leaves_the_images_alone(run, kind):
    given = images()
    RUNS[run](made(kind), given)
    assert torch.equal(given, images())


def test_what_is_shifted_in_place_is_shifted_once():
    groups = {group.name: group.frozen for group in channel_groups(made(Shifting), images(1))}
    assert groups["a"] is None and groups["b"] is None


class Counting(Base):
    """Counts how often it is run, in a buffer, in another that is replaced, and in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.runs, self.first = 0, nn.Conv2d(3, 8, 1)
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("other", torch.zeros(()))

    def forward(self, x, y=None):
        self.runs += 1
        self.count += 1
        self.other = self.other + 1
        return self.end(self.b((self.a(x) + (0 if y is None else self.first(y))).relu()).relu())


@pytest.mark.parametrize(
    "given",
    [list(images()), [images()], (images(), images()), {"x": images(), "y": images()}],
    ids=["images", "batch", "tuple", "dict"],
)
@pytest.mark.parametrize("run", ["compress", "inspect", "structured", "groups"])
@pytest.mark.filterwarnings("ignore::fsc.warning.CompressionWarning")
def test_a_network_that_counts_its_runs_counts_none(run, given):
    network = made(Counting)
    if run == "groups" and isinstance(given, list):
        given = images(1)
    if run == "compress":
        fsc.compress(network, given, method="l1")
    elif run == "structured" and not isinstance(given, list):
        fsc.schemes.structured(network, 0.5, given)
    else:
        {"inspect": fsc.inspect, "groups": channel_groups, "structured": fsc.inspect}[run](
            network, given
        )
    assert (network.runs, float(network.count), float(network.other)) == (0, 0, 0)
