"""The line search behind a ReLU against its reference."""

import pytest
import torch

import fsc_ext
from fsc_ext import reference
from fsc_ext.testing import FLOATING, compiled, devices

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)
every_dtype = pytest.mark.parametrize("dtype", FLOATING, ids=str)

# Sums of a row are taken in lanes of the tensor's dtype, in another order than the reference's.
TOLERANCE = {
    torch.float32: {"rtol": 2e-4, "atol": 2e-5},
    torch.float64: {"rtol": 1e-10, "atol": 1e-12},
}


def problem(device, dtype, rows=5, count=1500, downhill=True):
    """Output, direction and target [rows, count]; each direction descends or does not."""
    output = torch.randn(rows, count, dtype=dtype, device=device)
    target = torch.randn(rows, count, dtype=dtype, device=device).relu()
    gradient = torch.where(output > 0, output - target, 0)
    direction = torch.randn_like(output) * 0.3 - gradient
    return output, direction if downhill else -direction, target


@every_dtype
@pytest.mark.parametrize("count", [1, 15, 1024, 1500])
def test_values(device, dtype, count):
    output, direction, target = problem(device, dtype, count=count)
    moved, steps, losses, residual = reference.line_search_relu(output, direction, target)
    found = fsc_ext.line_search_relu_(output, direction, target)
    torch.testing.assert_close(found[0], steps, **TOLERANCE[dtype])
    torch.testing.assert_close(found[1], losses.double(), **TOLERANCE[dtype])
    torch.testing.assert_close(output, moved, **TOLERANCE[dtype])
    torch.testing.assert_close(found[2], residual, **TOLERANCE[dtype])


@every_dtype
def test_uphill_rows_stay(device, dtype):
    output, direction, target = problem(device, dtype, downhill=False)
    before = output.clone()
    steps, losses, _ = fsc_ext.line_search_relu_(output, direction, target)
    assert torch.equal(output, before)
    assert torch.equal(steps, torch.zeros_like(steps))
    expected = (before.relu() - target).double().square().sum(1)
    torch.testing.assert_close(losses, expected, **TOLERANCE[dtype])


@every_dtype
def test_the_loss_of_no_row_rises(device, dtype):
    output, direction, target = problem(device, dtype, rows=64, count=20)
    before = (output.relu() - target).double().square().sum(1)
    _, losses, residual = fsc_ext.line_search_relu_(output, direction * 50, target)
    assert (losses <= before * (1 + 1e-5)).all()
    torch.testing.assert_close(
        losses, (output.relu() - target).double().square().sum(1), **TOLERANCE[dtype]
    )
    assert torch.equal(residual, torch.where(output > 0, output - target, 0))


def test_half_a_newton_step(device):
    """A step that jumps over the kink and lands higher is halved."""
    output = torch.tensor([[1.0, -10.0]], dtype=torch.float64, device=device)
    direction = torch.tensor([[0.1, 10.0]], dtype=torch.float64, device=device)
    target = torch.tensor([[1.5, 0.0]], dtype=torch.float64, device=device)
    moved, expected, losses, _ = reference.line_search_relu(output, direction, target)
    found, lowest, _ = fsc_ext.line_search_relu_(output, direction, target)
    assert 0 < expected.item() < 5
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(lowest, losses)
    torch.testing.assert_close(output, moved)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0)])
def test_empty(device, shape):
    output = torch.empty(shape, device=device)
    steps, losses, residual = fsc_ext.line_search_relu_(output, output.clone(), output.clone())
    assert steps.shape == losses.shape == (shape[0],)
    assert residual.shape == shape
    assert not steps.any()
    assert not losses.any()


def test_strided_direction_and_target(device):
    output, direction, target = problem(device, torch.float64)
    expected = output.clone()
    fsc_ext.line_search_relu_(expected, direction, target)
    fsc_ext.line_search_relu_(output, direction.T.contiguous().T, target.T.contiguous().T)
    assert torch.equal(output, expected)


def test_same_bits_for_any_number_of_threads(device, one_thread):
    output, direction, target = problem(device, torch.float32, rows=40, count=3000)
    alone = output.clone()
    fsc_ext.line_search_relu_(alone, direction, target)
    torch.set_num_threads(2)
    fsc_ext.line_search_relu_(output, direction, target)
    assert torch.equal(output, alone)


def test_opcheck(device):
    torch.library.opcheck(torch.ops.fsc_ext.line_search_relu_, problem(device, torch.float64))


def test_compiles(device):
    output, direction, target = problem(device, torch.float32)
    expected = output.clone()
    fsc_ext.line_search_relu_(expected, direction, target)
    compiled(fsc_ext.line_search_relu_)(output, direction, target)
    assert torch.equal(output, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": torch.ones(2)}, r"output must be \[C_out, R\], got \[2\]"),
        ({"output": torch.ones(3, 2).T}, r"output must be contiguous, got strides"),
        ({"output": torch.ones(2, 3, dtype=torch.int64)}, r"output must be float32 or float64"),
        ({"direction": torch.ones(3, 2)}, r"direction must have the shape of output"),
        ({"direction": torch.ones(2, 3).double()}, r"direction must have the dtype of output"),
        ({"target": torch.ones(2, 4)}, r"target must have the shape of output"),
        ({"target": torch.ones(2, 3).double()}, r"target must have the dtype of output"),
        ({"output": torch.ones(2, 3, requires_grad=True)}, r"output must not require a gradient"),
        ({"target": torch.ones(2, 3, requires_grad=True)}, r"target must not require a gradient"),
    ],
)
def test_errors(device, changes, message):
    arguments = {name: torch.ones(2, 3) for name in ("output", "direction", "target")} | changes
    with pytest.raises(RuntimeError, match="line_search_relu_: " + message):
        fsc_ext.line_search_relu_(**{n: t.to(device) for n, t in arguments.items()})
