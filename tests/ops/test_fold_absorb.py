"""absorb_conv1x1 in sizes of many tiles and in every layout, and on lists bit for bit."""

import pytest
import torch
from tensor_lists import assert_same

from fsc_ext import absorb_conv1x1, foreach_absorb_conv1x1, reference
from fsc_ext.testing import (
    EMULATED,
    FLOATING,
    REDUCTION_TOLERANCE,
    compiled,
    devices,
    layouts,
    strided,
)

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)
# Device code alone takes half precision.
TAKEN = [*FLOATING, torch.float16, torch.bfloat16] if EMULATED else FLOATING
NAMES = ["weights", "biases", "pointwise_weights", "pointwise_biases"]

# Whole tiles and parts of them, rows of a whole number of 16 bytes and others, nothing in between.
SHAPES = [(6, 4, 3, 3), (5, 7, 1, 1), (64, 8, 4, 4), (0, 3, 2, 2), (4, 9), (4, 0, 3, 3), (36, 65)]
ROWS = [3, 5, 64, 2, 70, 4, 0]


def drawn(device, dtype=torch.float32, shapes=SHAPES, rows=ROWS):
    """The four lists."""

    def tensors(sizes):
        return [torch.randn(size, device=device).to(dtype) for size in sizes]

    matrices = [(row, shape[0]) for row, shape in zip(rows, shapes, strict=True)]
    biases = [shape[:1] for shape in shapes]
    return [tensors(shapes), tensors(biases), tensors(matrices), tensors((row,) for row in rows)]


def one_by_one(lists):
    absorbed = [absorb_conv1x1(*layer) for layer in zip(*lists, strict=True)]
    return [weight for weight, _ in absorbed], [bias for _, bias in absorbed]


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("size", [(130, 100, 70), (64, 64, 128), (16, 16, 144), (65, 33, 63)])
def test_many_tiles(device, dtype, size):
    rows, channels, inner = size
    weight, bias, matrix, shift = (
        tensors[0] for tensors in drawn(device, dtype, [(channels, inner)], [rows])
    )
    expected = reference.absorb_conv1x1(weight, bias, matrix, shift)
    torch.testing.assert_close(
        absorb_conv1x1(weight, bias, matrix, shift), expected, **REDUCTION_TOLERANCE[dtype]
    )


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (8, 1, 2, 2), (5, 7, 1, 1)], ids=str)
def test_layouts(device, shape):
    weight, bias, matrix, shift = (
        tensors[0] for tensors in drawn(device, shapes=[shape], rows=[4])
    )
    expected = absorb_conv1x1(weight, bias, matrix, shift)
    for layout, arranged in layouts(weight).items():
        found = absorb_conv1x1(arranged, strided(bias), matrix.t().contiguous().t(), strided(shift))
        torch.testing.assert_close(found, expected, **REDUCTION_TOLERANCE[torch.float32])
        if layout == "channels_last":
            assert found[0].is_contiguous(memory_format=torch.channels_last)
    unaligned = torch.randn(weight.numel() + 1, device=device)[1:].view(shape).copy_(weight)
    assert torch.equal(absorb_conv1x1(unaligned, bias, matrix, shift)[0], expected[0])


def test_gradients_of_gradients(device):
    inputs = [tensors[0].double().requires_grad_() for tensors in drawn(device, rows=ROWS)]
    inputs[0] = inputs[0].detach()[:, :2, :2, :1].requires_grad_()
    assert torch.autograd.gradcheck(absorb_conv1x1, inputs)
    assert torch.autograd.gradgradcheck(absorb_conv1x1, inputs)
    assert torch.autograd.gradcheck(lambda w, q: absorb_conv1x1(w, None, q)[0], inputs[::2])


@pytest.mark.parametrize("dtype", TAKEN, ids=str)
def test_lists(device, dtype):
    lists = drawn(device, dtype)
    assert_same(foreach_absorb_conv1x1(*lists), one_by_one(lists))
    lists[1][0] = lists[1][3] = lists[3][0] = lists[3][4] = None
    assert_same(foreach_absorb_conv1x1(*lists), one_by_one(lists))
    lists[3] = [None] * len(SHAPES)
    assert_same(foreach_absorb_conv1x1(*lists[:3]), one_by_one(lists))


@pytest.mark.parametrize("count", [59, 60, 61, 130])
def test_more_layers_than_a_table_holds(device, count):
    shapes = [(1 + i % 4, 2 + i % 7) for i in range(count)]
    lists = drawn(device, shapes=shapes, rows=[1 + i % 3 for i in range(count)])
    assert_same(foreach_absorb_conv1x1(*lists), one_by_one(lists))


def test_layouts_of_lists(device):
    lists = drawn(device, shapes=[(6, 4, 3, 3), (5, 4, 2, 2), (4, 8)], rows=[2, 3, 4])
    lists[0][0] = layouts(lists[0][0])["channels_last"]
    lists[0][1], lists[1][2] = strided(lists[0][1]), strided(lists[1][2])
    lists[2][2] = lists[2][2][:, :, None, None]
    assert_same(foreach_absorb_conv1x1(*lists), one_by_one(lists))


def test_empty_lists(device):
    assert foreach_absorb_conv1x1([], [], []) == ([], [])


def test_opcheck(device):
    lists = drawn(device)
    lists[1][2] = lists[3][0] = None
    lists[0][0] = layouts(lists[0][0])["channels_last"]
    torch.library.opcheck(torch.ops.fsc_ext.foreach_absorb_conv1x1, lists)
    layer = [tensors[0] for tensors in lists[:3]]
    torch.library.opcheck(torch.ops.fsc_ext.absorb_conv1x1, (*layer, None))


def test_compiles(device):
    lists = drawn(device)
    lists[1][2] = None

    def doubled(*lists):
        weights, biases = foreach_absorb_conv1x1(*lists)
        return [2 * weight for weight in weights], [2 * bias for bias in biases]

    assert_same(compiled(doubled)(*lists), doubled(*lists))


WEIGHTS = [torch.ones(2, 3, 1, 1), torch.ones(4, 2)]
ARGUMENTS = {
    "weights": WEIGHTS,
    "biases": [torch.ones(2), torch.ones(4)],
    "pointwise_weights": [torch.ones(3, 2), torch.ones(3, 4)],
    "pointwise_biases": [torch.ones(3), torch.ones(3)],
}


@pytest.mark.parametrize(("changes", "message"), [
    ({"weights": [WEIGHTS[0], torch.ones(4)]},
     r"weights\[1\] must be \[C_out, C_in, ...\], got \[4\]"),
    ({"weights": [w.int() for w in WEIGHTS]}, r"weights\[0\] must be float32 or float64"),
    ({name: [tensors[0].double(), tensors[1]] for name, tensors in ARGUMENTS.items()},
     r"weights\[1\] must have the dtype of weights\[0\] \(Double\), got Float"),
    ({"biases": [None, torch.ones(5)]}, r"biases\[1\] must be \[C_out\] with C_out = 4, got \[5\]"),
    ({"biases": [None]}, "biases must hold 2 tensors, one for each of weights, got 1"),
    ({"pointwise_weights": [torch.ones(3, 2), torch.ones(3, 5)]},
     r"pointwise_weights\[1\] must be \[C_new, C_out\] or .* with C_out = 4, got \[3, 5\]"),
    ({"pointwise_weights": [torch.ones(3, 2)]}, "pointwise_weights must hold 2 tensors"),
    ({"pointwise_biases": [torch.ones(2), None]},
     r"pointwise_biases\[0\] must be \[C_new\] with C_new = 3, got \[2\]"),
    ({"pointwise_biases": []}, "pointwise_biases must hold 2 tensors"),
    ({"weights": [WEIGHTS[0], torch.ones(4, 2, requires_grad=True)]},
     r"weights\[1\] must not require a gradient, because the layers of lists get none"),
])  # fmt: skip
def test_errors(device, changes, message):
    def move(tensor):
        if tensor is None:
            return None
        return tensor.detach().to(device).requires_grad_(tensor.requires_grad)

    arguments = {**ARGUMENTS, **changes}
    lists = {name: [move(tensor) for tensor in tensors] for name, tensors in arguments.items()}
    with pytest.raises(RuntimeError, match="^foreach_absorb_conv1x1: " + message):
        foreach_absorb_conv1x1(**lists)


@pytest.mark.parametrize("name", NAMES)
def test_two_devices(device, name):
    lists = {n: [tensor.to(device) for tensor in tensors] for n, tensors in ARGUMENTS.items()}
    lists[name][1] = lists[name][1].to("meta")
    with pytest.raises(ValueError, match="^foreach_absorb_conv1x1: .* one device, got "):
        foreach_absorb_conv1x1(**lists)


def test_nothing_stands_beside_no_weights(device):
    with pytest.raises(
        RuntimeError, match="biases must hold 0 tensors, one for each of weights, got 1"
    ):
        foreach_absorb_conv1x1([], [None], [])
