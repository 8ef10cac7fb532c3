"""Forwards that torch.fx cannot follow: what torch.export finds is compressed like any network."""

import copy

import pytest
import torch
from torch import nn
from unfollowed import (
    COMPUTED,
    FOLLOWED,
    AddsZeros,
    Applies,
    AsksBesides,
    AsksForLength,
    Counts,
    CountsTypes,
    FillsParts,
    Hooked,
    TakesImagesApart,
    WritesChannels,
)

import fsc
from fsc.networks.exported import exported
from fsc.networks.plain import pass_on, plain, rewritings
from fsc.networks.tracing import layer_names, trace


def made(kind: type[nn.Module]) -> nn.Module:
    """The network, its BatchNorm uneven."""
    torch.manual_seed(0)
    network = kind().eval()
    with torch.no_grad():
        network.b.running_mean.uniform_(-0.3, 0.3)
        network.b.running_var.uniform_(0.5, 1.5)
        network.b.bias.uniform_(-0.3, 0.3)
    return network


@pytest.fixture(scope="module")
def images():
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


PLAIN: dict[type[nn.Module], nn.Module] = {}


@pytest.fixture
def plain_once(monkeypatch):
    """`plain`, which takes longest: every kind is the same in all tests, and rewritten once."""

    def known(network, example):
        kind = type(network)
        if kind not in PLAIN:
            PLAIN[kind] = plain(network, example)
        copied = copy.deepcopy(PLAIN[kind])
        pass_on(PLAIN[kind], copied)
        return copied

    monkeypatch.setattr("fsc.networks.entry.plain", known)
    return known


@pytest.mark.parametrize("kind", FOLLOWED)
def test_is_compressed_like_any_network(kind, images, plain_once):
    result = fsc.compress(made(kind), images, method="cd-soft")
    assert result.report.flops <= 0.5 * result.report.flops_teacher
    assert set(result.report.left.values()) == {"they reach the output of the network"}


@pytest.mark.parametrize("kind", FOLLOWED)
def test_its_student_is_rewritten_again_where_it_is_loaded(kind, images, tmp_path, plain_once):
    result = fsc.compress(made(kind), images, method="l1", pruning_ratio=0.5)
    fsc.save(result.student, tmp_path / "student.safetensors")
    loaded = fsc.load(tmp_path / "student.safetensors", model=made(kind))
    for count in (1, 5):  # of images, which stays open
        torch.testing.assert_close(loaded(images[:count]), result.student(images[:count]))


@pytest.mark.parametrize("kind", FOLLOWED)
def test_computes_what_the_network_computes(kind, images, plain_once):
    network = made(kind)
    found = plain_once(network, images[:2])
    assert layer_names(found, trace(found)) == ["a", "c", "d"]
    for count in (1, 4):
        torch.testing.assert_close(found(images[:count]), network(images[:count]))


@pytest.mark.parametrize("kind", [*FOLLOWED, FillsParts])
def test_its_student_can_be_trained(kind, images, plain_once):
    student = fsc.compress(made(kind), images, method=fsc.MiR(steps=2)).student
    student(images).square().sum().backward()
    assert student.a.weight.grad.abs().sum() > 0 or kind.__name__ == "CastsItself"  # it detaches


def test_says_what_was_done(images, plain_once):
    (said,) = rewritings(plain_once(made(AsksForLength), images))
    assert (said.name, said.was) == ("", "AsksForLength")
    assert said.became == "the graph that torch.export finds"
    assert "size of the example" in said.remark


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (WritesChannels, "does not run without some of them"),
        (AddsZeros, "no layer makes"),
        (FillsParts, "no layer makes"),
    ],
)
def test_channels_whose_number_is_written_down_stay(kind, reason, images, plain_once):
    result = fsc.compress(made(kind), images, method="l1", pruning_ratio=0.5)
    assert list(result.report.kept) == ["a"]
    assert reason in result.report.left["c"]


def test_one_image_is_enough(images):
    """torch.export alone takes a size of one for fixed."""
    for kind in (AddsZeros, AsksForLength):
        network = made(kind)
        torch.testing.assert_close(plain(network, images[:1])(images), network(images))


@pytest.mark.parametrize(
    ("function", "kind", "reasons"),
    [
        (
            fsc.inspect,
            Counts,
            r"'len' is not supported .*; torch.export fails with: .* changes its buffers",
        ),
        (fsc.compress, CountsTypes, r"; torch.export fails with: .* changes its buffers"),
        (
            fsc.compress,
            TakesImagesApart,
            r"TakesImagesApart.*Proxy object cannot be iterated.*; "
            r"(rewritten it .* another number of images|torch.export .* not run)",
        ),
    ],
)
def test_a_refusal_says_why_torch_export_does_not_help(function, kind, reasons, images, capfd):
    with pytest.raises(ValueError, match=reasons) as error:
        function(made(kind), images)
    said = str(error.value)
    assert said.startswith(f"{function.__name__}: model cannot be traced, the outermost forward")
    assert "\n" not in said
    assert capfd.readouterr() == ("", "")  # torch.export prints a lot where it fails


def test_a_forward_that_is_not_called_is_left_and_says_so(images):
    (said,) = rewritings(plain(made(AsksBesides), images))
    assert (said.name, said.remark.count("does not call it")) == ("part", 2)


def test_what_changes_its_buffers_is_not_exported(images):
    with pytest.raises(ValueError, match="changes its buffers"):
        exported(made(Counts), (images,), {})


def test_a_layer_with_a_hook_is_not_called_twice_over(images):
    network = made(Hooked)
    torch.testing.assert_close(plain(network, images)(images), network(images))


def test_a_copy_and_what_it_holds_are_its_own(images):
    network = made(AsksForLength)
    found = exported(network, (images,), {})
    again = copy.deepcopy(found)
    with torch.no_grad():
        again.a.weight.zero_()
    torch.testing.assert_close(found(images), network(images))


@pytest.fixture(scope="module")
def by_operator(images):
    """What the graph gives for every operator, and what the network gives; exported once."""
    torch.manual_seed(0)
    network = Applies(*COMPUTED.values()).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-0.5, 0.5)
        network.b.running_mean.uniform_(-0.3, 0.3)
        network.b.running_var.uniform_(0.5, 1.5)
        found = exported(network, (images,), {})
        return dict(zip(COMPUTED, zip(found(images), network(images), strict=True), strict=True))


@pytest.mark.parametrize("operator", COMPUTED)
def test_every_operator_becomes_what_computes_the_same(operator, by_operator):
    torch.testing.assert_close(*by_operator[operator])


@pytest.mark.parametrize(
    ("operator", "layer"),
    [
        ("conv_transpose2d", "up"),
        ("linear", "e"),
        ("layer_norm", "norm"),
        ("group_norm", "groups"),
        ("prelu", "slope"),
    ],
)
def test_a_layer_that_computes_what_an_operator_does_is_called_again(operator, layer, images):
    found = exported(Applies(COMPUTED[operator]).eval(), (images,), {})
    called = [str(node.target) for node in found.graph.nodes if node.op == "call_module"]
    assert sorted(called) == sorted(["a", "b", "c", "d", layer])


def test_a_constant_takes_the_name_of_no_other_tensor():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 3)
            self.constant_0 = nn.Parameter(torch.tensor(5.0))
            self.register_buffer("constant_1", torch.tensor([3.0]))
            self.constant_2 = "a word"

        def forward(self, x):
            made = torch.arange(4.0).view(4, 1, 1) + torch.ones(())
            return self.layer(x) * made + self.constant_1 * self.constant_0

    network, x = Named().eval(), torch.randn(2, 3, 5, 5)
    found = exported(network, (x,), {})
    torch.testing.assert_close(found(x), network(x))
    state = network.state_dict()
    assert all(torch.equal(found.state_dict()[name], value) for name, value in state.items())
