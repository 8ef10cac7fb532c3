"""Steps on layers of 3x3 filters at stride 1, on sizes that take each way through the transforms.

On the CPU in float32 these go through Winograd's transforms in tiles of 4x4 or 2x2, with blocks of
16 channels and 16 or 32 filters. Other devices have other kernels, for which the same holds.
"""

import pytest
import torch
from other_instructions import assert_passes_with_avx2, of_the_cpu
from torch.nn import functional

import fsc_ext
from fsc_ext import reference
from fsc_ext.testing import EMULATED, devices

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)

SHAPES = [  # images, channels, filters, height and width of the input, padding
    (5, 16, 16, (8, 8), 1),
    (3, 8, 33, (7, 9), 1),  # the last filter alone; tiles over the edge
    (7, 20, 40, (5, 5), 0),
    (2, 48, 7, (6, 5), (2, 0)),
    (9, 40, 50, (2, 2), 1),  # tiles of 2x2
    (4, 17, 24, (2, 3), 1),
    (14, 16, 20, (17, 19), 1),  # several panels of rows
    (3, 3, 4, (6, 6), 1),  # too few channels: by at::convolution
]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def schedule(steps=4, rate=0.01, amount=0.0):
    """Learning rates and amounts, [steps] each."""
    one = torch.ones(steps, dtype=torch.float64)
    return rate * one, amount * one


def layer(device, images, channels, filters, size, padding):
    """Weight, input and target, then what else there may be: bias, shortcut, image_weight."""
    weight = torch.randn(filters, channels, 3, 3) / (9 * channels) ** 0.5
    x = torch.randn(images, channels, *size).relu()
    target = torch.randn_like(functional.conv2d(x, weight, padding=padding)).relu()
    more = {
        "bias": torch.randn(filters),
        "shortcut": torch.randn_like(target),
        "image_weight": torch.rand(images),
    }
    tensors = [tensor.to(device) for tensor in (weight, x, target)]
    return *tensors, {name: value.to(device) for name, value in more.items()}


def loss_of(x, target, padding, activation, bias=None, shortcut=None, image_weight=None):
    x, target = x.double(), target.double()
    bias = None if bias is None else bias.double()

    def loss(weight, _):
        output = functional.conv2d(x, weight, bias, padding=padding)
        output = output if shortcut is None else output + shortcut
        output = output.relu() if activation == "relu" else output
        errors = (output - target).square().flatten(1).sum(1)
        return (errors if image_weight is None else errors * image_weight).mean()

    return loss


@every_shape
@pytest.mark.parametrize("activation", ["relu", "none"])
@pytest.mark.parametrize("more", [False, True], ids=["alone", "with_all"])
def test_steps(device, shape, activation, more):
    weight, x, target, others = layer(device, *shape)
    others = others if more else {}
    padding, settings = shape[-1], {"optimizer": "sgd", "momentum": 0.8, "penalty": "l1"}
    loss = loss_of(x, target, padding, activation, **others)
    rates, amounts = schedule(rate=0.005 / x[0, 0].numel(), amount=1e-2)
    expected = reference.minimise(weight.double(), loss, rates, amounts, **settings)
    before = weight.clone()
    losses = fsc_ext.solve_relu_(
        weight, x, target, rates, amounts, padding=padding, activation=activation, **others,
        **settings,
    )  # fmt: skip
    moved = (expected[0] - before).norm()
    assert losses[-1] < losses[0]
    assert (weight - expected[0]).norm() <= 1e-5 * moved + 1e-6 * before.norm()
    torch.testing.assert_close(losses, expected[1], rtol=1e-5, atol=0)


def test_batches(device):
    weight, x, target, others = layer(device, 11, 16, 20, (9, 9), 1)
    expected, (rates, amounts) = weight.clone(), schedule(steps=7)
    losses = fsc_ext.solve_relu_(
        weight, x, target, rates, amounts, padding=1, batch_size=4, **others
    )
    state, found = [torch.zeros_like(weight) for _ in range(2)], []
    for step in range(7):
        part = slice(step % 3 * 4, step % 3 * 4 + 4)
        some = {"bias": others["bias"]}
        some |= {name: others[name][part] for name in ("shortcut", "image_weight")}
        found.append(
            fsc_ext.solve_relu_(
                expected, x[part], target[part], rates[:1], amounts[:1], padding=1, state=state,
                first_step=step + 1, **some,
            )
        )  # fmt: skip
    # The kernels of a GPU keep what fits in their blocks, which differs between the two.
    same_kernel = device.type == "cpu" and not EMULATED
    close = {"rtol": 0, "atol": 0} if same_kernel else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close((weight, losses), (expected, torch.cat(found)), **close)


# at::convolution does not promise as much.
@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="needs AVX2")
@pytest.mark.parametrize(
    "shape",
    [SHAPES[0], SHAPES[6], pytest.param((60, 40, 130, (8, 8), 1), marks=of_the_cpu)],
    ids=str,
)
def test_same_bits_for_any_number_of_threads(device, shape, one_thread):
    weight, x, target, others = layer(device, *shape)
    alone, settings = weight.clone(), {"padding": 1, "penalty": "l1", **others}
    expected = fsc_ext.solve_relu_(alone, x, target, *schedule(), **settings)
    torch.set_num_threads(3)
    assert torch.equal(fsc_ext.solve_relu_(weight, x, target, *schedule(), **settings), expected)
    assert torch.equal(weight, alone)


@pytest.mark.parametrize("size", [(8, 8), (2, 2)], ids=str)
def test_a_weight_that_meets_nothing_stays(device, size):
    # Rounding in place of a gradient of 0 would be a direction to Adam.
    weight, x, target, _ = layer(device, 6, 16, 20, size, 1)
    x[:, :8, 1:] = 0  # the first row of pixels alone: no output has it under its filter's last
    before = weight.clone()
    fsc_ext.solve_relu_(weight, x, target, *schedule(20), padding=1)
    dead = torch.zeros_like(weight, dtype=torch.bool)
    dead[:, :8, 2] = True
    assert torch.equal(weight[dead], before[dead])
    assert (weight[~dead] != before[~dead]).float().mean() > 0.9


def test_a_filter_of_zeros_stays(device):
    weight, x, target, _ = layer(device, 6, 16, 20, (8, 8), 1)
    weight[3] = 0
    fsc_ext.solve_relu_(weight, x, target, *schedule(), padding=1)
    assert not weight[3].any() and weight[4].any()


@pytest.mark.skipif(EMULATED, reason="a kernel of the CPU alone, and many steps")
@pytest.mark.parametrize("shape", [(10, 64, 64, (8, 8), 1), (50, 64, 64, (4, 4), 1)], ids=str)
@pytest.mark.parametrize("share", [None, 1e-3], ids=["alike", "weighted"])
def test_a_weight_that_has_arrived_stays(device, shape, share):
    # The target is the output of that weight, computed in another way: they differ by rounding.
    if device.type != "cpu":
        pytest.skip("a kernel of the CPU alone")
    weight, x, _, _ = layer(device, *shape)
    target = torch.nn.functional.conv2d(x, weight, padding=1).relu_()
    shares = None if share is None else torch.full((len(x),), share, device=device)
    before, settings = weight.clone(), {"padding": 1, "image_weight": shares}
    rates, amounts = schedule(300, rate=1e-3, amount=0.0)
    losses = fsc_ext.solve_relu_(weight, x, target, rates, amounts, **settings)
    assert torch.equal(weight, before) and losses[-1] == losses[0]
    target[:, 3] *= 1.001  # one filter has a way to go
    fsc_ext.solve_relu_(weight, x, target, rates, amounts, **settings)
    assert not torch.equal(weight[3], before[3]) and torch.equal(weight[4:], before[4:])


@pytest.mark.parametrize(
    ("input_scale", "target_scale"), [(1, 1e19), (3e19, 1), (3e19, 1e19)], ids=str
)
def test_sums_that_overflow_do_not_end_the_steps(device, input_scale, target_scale):
    weight, x, target, _ = layer(device, 6, 16, 20, (8, 8), 1)
    weight /= input_scale
    before, rate = weight.clone(), 1e-3 / input_scale**2
    arguments = (input_scale * x, target_scale * target, *schedule(1, rate=rate))
    fsc_ext.solve_relu_(weight, *arguments, padding=1, optimizer="sgd", momentum=0.0)
    assert (weight != before).float().mean() > 0.9


def test_no_images_and_no_steps(device):
    weight, x, target, _ = layer(device, 6, 16, 20, (8, 8), 1)
    rates, amounts = schedule(0)
    losses = fsc_ext.solve_relu_(weight, x[:0], target[:0], rates, amounts, padding=1)
    assert losses.shape == (0,)


def test_nan_is_not_hidden(device):
    weight, x, target, _ = layer(device, 6, 16, 20, (8, 8), 1)
    x[2, 5, 3, 3] = float("nan")
    losses = fsc_ext.solve_relu_(weight, x, target, *schedule(2), padding=1)
    assert losses.isnan().all() and weight[:, 5].isnan().all()


@of_the_cpu
def test_avx2(device):
    if device.type != "cpu":
        pytest.skip("of the CPU's own kernels")
    assert_passes_with_avx2(__file__)
