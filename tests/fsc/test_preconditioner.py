"""Gradients divided by the second moments of what layers read."""

import math

import pytest
import torch
from torch import Tensor, nn

import fsc
from fsc.methods.preconditioner import Preconditioner

DAMPING = 0.1
DOUBLE = {"dtype": torch.float64}
# A layer, what it reads, and how it cuts it into patches [N, C_in, taps, pixels].
KINDS = {
    "convolution": (nn.Conv2d(3, 4, 3, padding=1), (5, 3, 6, 7)),
    "strided": (nn.Conv2d(3, 4, (2, 3), stride=2, bias=False), (5, 3, 7, 6)),
    "grouped": (nn.Conv2d(4, 6, 3, padding=1, groups=2), (5, 4, 6, 5)),
    "depthwise": (nn.Conv2d(4, 4, 3, padding=1, groups=4), (5, 4, 6, 5)),
    "linear": (nn.Linear(5, 3), (9, 5)),
    "tokens": (nn.Linear(5, 3), (2, 7, 5)),
}


def patches(layer: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Channels [C_in, pixels] and the taps of all of them [taps, C_in patches]."""
    if isinstance(layer, nn.Linear):
        channels = inputs.reshape(-1, inputs.shape[-1]).T
        return channels, channels.reshape(1, -1)
    assert isinstance(layer, nn.Conv2d)
    each = inputs.flatten(0, 1)[:, None]
    cut = nn.functional.unfold(each, layer.kernel_size, padding=layer.padding, stride=layer.stride)
    return inputs.transpose(0, 1).flatten(1), cut.transpose(0, 1).flatten(1)


def inverse(moment: Tensor, mean: Tensor) -> Tensor:
    return torch.linalg.inv(moment / mean + math.sqrt(DAMPING) * torch.eye(len(moment), **DOUBLE))


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_is_multiplied_by_the_inverse_moments_of_channels_and_taps(kind: str) -> None:
    layer, shape = KINDS[kind]
    layer = layer.double()
    torch.manual_seed(0)
    inputs = torch.randn(shape, **DOUBLE) + 0.5
    preconditioner = Preconditioner(nn.Sequential(layer), DAMPING)
    preconditioner.measure(inputs.split(2))
    layer.zero_grad()
    layer(inputs).square().sum().backward()
    plain = layer.weight.grad.flatten(2) if layer.weight.ndim > 2 else layer.weight.grad[..., None]
    channels, taps = patches(layer, inputs)
    groups = getattr(layer, "groups", 1)
    by_taps = plain @ inverse(taps @ taps.T, (taps @ taps.T).diagonal().mean())
    own = [each @ each.T for each in channels.chunk(groups)]
    mean = torch.stack([each.diagonal() for each in own]).mean()
    expected = torch.cat([
        torch.einsum("oct,cd->odt", part, inverse(each, mean))
        for part, each in zip(by_taps.chunk(groups), own, strict=True)
    ])  # fmt: skip
    preconditioner.apply()
    found = layer.weight.grad.reshape(expected.shape)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_a_transposed_convolution_is_taken_as_the_ordinary_one_that_it_is() -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(3, 2, 3, padding=1).double()
    same = nn.Conv2d(3, 2, 3, padding=1).double()
    same.weight.data = layer.weight.data.transpose(0, 1).flip(2, 3)
    same.bias.data = layer.bias.data
    inputs, found = torch.randn(4, 3, 6, 6, **DOUBLE), []
    for each in (layer, same):
        preconditioner = Preconditioner(nn.Sequential(each), DAMPING)
        preconditioner.measure([inputs])
        each(inputs).square().sum().backward()
        preconditioner.apply()
        found.append(each.weight.grad)
    transposed = found[0].transpose(0, 1).flip(2, 3)
    torch.testing.assert_close(transposed, found[1], rtol=1e-5, atol=1e-3)


class _Odd(nn.Module):
    """A layer called by name, one that is never called, one that is too wide."""

    def __init__(self) -> None:
        super().__init__()
        self.named, self.unused = nn.Linear(3, 3), nn.Linear(3, 3)
        self.wide = nn.Linear(5000, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        read = nn.functional.linear(self.named(input=inputs), self.unused.weight)
        return self.wide(read.repeat(1, 2000)[:, :5000])


def test_layers_of_which_nothing_is_known_keep_their_gradients() -> None:
    torch.manual_seed(0)
    network = _Odd()
    inputs = torch.randn(8, 3)
    preconditioner = Preconditioner(network, DAMPING)
    preconditioner.measure([inputs])
    network(inputs).square().sum().backward()
    weights = {n: each for n, each in network.named_parameters() if n.endswith("weight")}
    before = {name: each.grad.clone() for name, each in weights.items()}
    preconditioner.apply()
    changed = {name for name, each in weights.items() if not torch.equal(each.grad, before[name])}
    assert changed == {"named.weight"}


def test_what_reads_nothing_but_zeros_keeps_its_gradient() -> None:
    layer = nn.Conv2d(2, 2, 3)
    preconditioner = Preconditioner(nn.Sequential(layer), DAMPING)
    preconditioner.measure([torch.zeros(1, 2, 5, 5)])
    layer(torch.ones(1, 2, 5, 5)).sum().backward()
    before = layer.weight.grad.clone()
    preconditioner.apply()
    assert torch.equal(layer.weight.grad, before)


def test_methods_that_hold_weights_at_zero_or_have_none_refuse_it() -> None:
    for method in (fsc.ProgressiveMiR, fsc.methods.JointSGD):
        with pytest.raises(ValueError, match="precondition must be None for"):
            method(precondition=0.3)


def test_correlated_inputs_are_learned_in_fewer_steps() -> None:
    torch.manual_seed(0)
    teacher = nn.Conv2d(3, 4, 3)
    images = 3 + torch.randn(16, 3, 8, 8)  # one direction of the input holds nearly all energy

    def error(rate: float, damping: float | None) -> float:
        student = nn.Conv2d(3, 4, 3)
        student.load_state_dict({key: 0 * value for key, value in teacher.state_dict().items()})
        preconditioner = Preconditioner(nn.Sequential(student), damping or 1.0)
        preconditioner.measure([images])
        for _ in range(50):
            loss = (student(images) - teacher(images)).square().mean()
            student.zero_grad()
            loss.backward()
            if damping is not None:
                preconditioner.apply()
            with torch.no_grad():
                for parameter in student.parameters():
                    parameter -= rate * parameter.grad
        return float(loss.detach().nan_to_num(math.inf))

    rates = [2.0**exponent for exponent in range(-10, 2, 2)]
    plain, preconditioned = (min(error(rate, each) for rate in rates) for each in (None, 0.01))
    assert preconditioned < 0.1 * plain


@pytest.mark.parametrize("damping", [0.0, -1.0, math.inf])
def test_a_damping_that_is_none_is_refused(damping: float) -> None:
    with pytest.raises(ValueError, match="precondition must be finite and above 0, got"):
        fsc.MiR(precondition=damping)
