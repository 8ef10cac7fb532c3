"""fuse_conv_bn on lists against the same layers one by one, bit for bit."""

import pytest
import torch
from tensor_lists import assert_same

from fsc_ext import foreach_fuse_conv_bn, fuse_conv_bn
from fsc_ext.testing import EMULATED, FLOATING, compiled, devices, layouts, strided

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)
# Device code alone takes half precision.
TAKEN = [*FLOATING, torch.float16, torch.bfloat16] if EMULATED else FLOATING
every_dtype = pytest.mark.parametrize("dtype", TAKEN, ids=str)

# Filters of a whole number of 16 bytes and others, nothing at all in between.
SHAPES = [(6, 4, 3, 3), (5, 7, 1, 1), (0, 3, 3, 3), (8, 1, 3, 3), (4, 9), (4, 0, 3, 3), (1, 2, 500)]
NAMES = ["weights", "biases", "running_means", "running_vars", "bn_weights", "bn_biases"]


def drawn(device, dtype=torch.float32, shapes=SHAPES):
    """The six lists of tensors."""

    def vectors():
        return [torch.randn(shape[0], device=device).to(dtype) for shape in shapes]

    weights = [torch.randn(shape, device=device).to(dtype) for shape in shapes]
    variances = [vector.exp() for vector in vectors()]
    return [weights, vectors(), vectors(), variances, vectors(), vectors()]


def one_by_one(lists, eps):
    folded = [fuse_conv_bn(*layer) for layer in zip(*lists, eps, strict=True)]
    return [weight for weight, _ in folded], [bias for _, bias in folded]


@every_dtype
def test_lists(device, dtype):
    lists = drawn(device, dtype)
    assert_same(foreach_fuse_conv_bn(*lists, 1e-5), one_by_one(lists, [1e-5] * len(SHAPES)))
    eps = [0.1 * i for i in range(len(SHAPES))]
    assert_same(foreach_fuse_conv_bn(*lists, eps), one_by_one(lists, eps))


def test_without_optional_vectors(device):
    lists = drawn(device)
    for shift, i in enumerate((1, 4, 5)):
        lists[i] = [None if (k + shift) % 3 == 0 else v for k, v in enumerate(lists[i])]
    assert_same(foreach_fuse_conv_bn(*lists, 1e-5), one_by_one(lists, [1e-5] * len(SHAPES)))


@pytest.mark.parametrize("count", [39, 40, 41, 90])
def test_more_layers_than_a_table_holds(device, count):
    lists = drawn(device, shapes=[(1 + i % 4, 2 + i % 7) for i in range(count)])
    eps = [i / 100 for i in range(count)]
    assert_same(foreach_fuse_conv_bn(*lists, eps), one_by_one(lists, eps))


def test_layouts_and_alignment(device):
    lists = drawn(device, shapes=[(6, 4, 3, 3), (5, 4, 2, 2), (4, 8), (4, 8)])
    weights = lists[0]
    weights[0], weights[1] = layouts(weights[0])["channels_last"], strided(weights[1])
    weights[2] = torch.randn(33, device=device)[1:].view(4, 8)
    lists[2][3] = strided(lists[2][3])
    assert_same(foreach_fuse_conv_bn(*lists, 1e-5), one_by_one(lists, [1e-5] * 4))
    folded = foreach_fuse_conv_bn(*lists, 1e-5)[0]
    assert folded[0].is_contiguous(memory_format=torch.channels_last)


def test_empty_lists(device):
    assert foreach_fuse_conv_bn([], [], [], [], [], [], 1e-5) == ([], [])


def test_opcheck(device):
    lists = drawn(device)
    lists[1][2] = lists[4][0] = None
    lists[0][0] = layouts(lists[0][0])["channels_last"]
    torch.library.opcheck(
        torch.ops.fsc_ext.foreach_fuse_conv_bn, (*lists, [1e-5] * len(SHAPES)), raise_exception=True
    )


def test_compiles(device):
    lists = drawn(device)
    lists[1][2] = None

    def doubled(*lists):
        weights, biases = foreach_fuse_conv_bn(*lists, 1e-5)
        return [2 * weight for weight in weights], [2 * bias for bias in biases]

    assert_same(compiled(doubled)(*lists), doubled(*lists))


def ones(*changes):
    """Layers of 2, 4 and 3 channels: vectors, others at the given indices."""
    return [dict(changes).get(i, torch.ones(channels)) for i, channels in enumerate((2, 4, 3))]


WEIGHTS = [torch.ones(2, 3, 1, 1), torch.ones(4, 2), torch.ones(3, 1, 2, 2)]
# Every layer in one dtype, and the last in another than the first.
MIXED = {
    name: [*(tensor.double() for tensor in tensors[:2]), tensors[2]]
    for name, tensors in zip(NAMES, [WEIGHTS, *[ones()] * 5], strict=True)
}


@pytest.mark.parametrize(("changes", "message"), [
    ({"weights": [WEIGHTS[0], torch.ones(4), WEIGHTS[2]]},
     r"weights\[1\] must be \[C_out, C_in, ...\], got \[4\]"),
    ({"weights": [w.int() for w in WEIGHTS]}, r"weights\[0\] must be float32 or float64"),
    (MIXED,
     r"weights\[2\] must have the dtype of weights\[0\] \(Double\), got Float"),
    ({"biases": ones((2, torch.ones(5)))},
     r"biases\[2\] must be \[C_out\] with C_out = 3, got \[5\]"),
    ({"running_means": ones((1, torch.ones(1, 4)))}, r"running_means\[1\] must be .* got \[1, 4\]"),
    ({"running_vars": ones((0, torch.ones(2).double()))},
     r"running_vars\[0\] must have the dtype of weights\[0\] \(Float\), got Double"),
    ({"bn_weights": ones((1, torch.ones(3)))}, r"bn_weights\[1\] must be \[C_out\] with C_out = 4"),
    ({"bn_biases": ones((2, torch.ones(4)))}, r"bn_biases\[2\] must be \[C_out\] with C_out = 3"),
    ({"bn_biases": [None]}, "bn_biases must hold 3 tensors, one for each of weights, got 1"),
    ({"weights": []}, "biases must hold 0 tensors, one for each of weights, got 3"),
    ({"eps": [0.1, -1.0, 0.1]}, r"eps\[1\] must be finite and at least 0, got -1"),
    ({"eps": [0.1]}, "eps must hold 3 numbers, one for each of weights, got 1"),
    ({"eps": float("nan")}, r"eps\[0\] must be finite"),
    ({"running_vars": ones((2, torch.tensor([1, -2.0, 1]))), "eps": 0.5},
     r"running_vars\[2\] \+ eps must be positive, got -1.5 in channel 1"),
    ({"bn_weights": ones((1, torch.ones(4, requires_grad=True)))},
     r"bn_weights\[1\] must not require a gradient, because the layers of lists get none"),
    ({"running_vars": ones((0, torch.ones(2, requires_grad=True)))},
     r"running_vars\[0\] must not require a gradient"),
])  # fmt: skip
def test_errors(device, changes, message):
    if (EMULATED or device.type == "cuda") and r"\+ eps" in message:
        pytest.skip("device code does not wait to see a variance; the channel becomes NaN")
    arguments = {**{name: ones() for name in NAMES}, "weights": WEIGHTS, "eps": 1e-5, **changes}

    def move(tensor):
        if tensor is None:
            return None
        return tensor.detach().to(device).requires_grad_(tensor.requires_grad)

    lists = {name: [move(tensor) for tensor in arguments[name]] for name in NAMES}
    with pytest.raises(RuntimeError, match="^foreach_fuse_conv_bn: " + message):
        foreach_fuse_conv_bn(**lists, eps=arguments["eps"])


@pytest.mark.parametrize("name", NAMES)
def test_two_devices(device, name):
    lists = {n: [torch.ones(2, 3)] if n == "weights" else [torch.ones(2)] for n in NAMES}
    lists = {n: [tensor.to(device) for tensor in tensors] for n, tensors in lists.items()}
    lists[name] = [tensor.to("meta") for tensor in lists[name]]
    with pytest.raises(ValueError, match="^foreach_fuse_conv_bn: .* one device, got "):
        foreach_fuse_conv_bn(**lists, eps=1e-5)


def test_weights_may_require_gradients_where_none_are_recorded(device):
    weight = torch.ones(1, 2, device=device, requires_grad=True)
    one = torch.ones(1, device=device)
    with torch.no_grad():
        weights, _ = foreach_fuse_conv_bn([weight], [None], [one], [one], [None], [None], 0.0)
    assert torch.equal(weights[0], weight) and not weights[0].requires_grad


def test_nothing_stands_beside_no_weights(device):
    with pytest.raises(
        RuntimeError, match="eps must hold 0 numbers, one for each of weights, got 1"
    ):
        foreach_fuse_conv_bn([], [], [], [], [], [], [1e-5])
