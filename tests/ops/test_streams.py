"""What the emulator has none of: streams, graphs of other people's recording, a second device."""

import pytest
import torch
from torch.nn import functional

import fsc_ext
from fsc_ext.testing import devices

pytestmark = pytest.mark.skipif(devices()[-1].type != "cuda", reason="needs a GPU")
STEPS = 40


def problem(device):
    """Weight [48, 600], a Hessian that fits into no block, and target; rates and amounts [40]."""
    columns = torch.randn(600, 700, device=device)
    weight, target = torch.randn(2, 48, 600, device=device)
    rates = torch.full((STEPS,), 0.01, dtype=torch.float64)
    return weight, columns @ columns.T / 700, target, rates, torch.full_like(rates, 24)


def solve(weight, hessian, target, rates, amounts):
    return fsc_ext.solve_quadratic_(
        weight, hessian, target, rates, amounts, penalty="soft_topk_groups", dim=0
    )


def test_another_stream():
    weight, *others = problem("cuda")
    expected = weight.clone()
    losses = solve(expected, *others)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = solve(weight, *others)
    stream.synchronize()
    assert torch.equal(weight, expected) and torch.equal(found, losses)


def test_in_a_recording():
    start, *others = problem("cuda")
    expected = start.clone()
    losses = solve(expected, *others)
    weight, graph = start.clone(), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = solve(weight, *others)
    for _ in range(2):
        weight.copy_(start)
        graph.replay()
        assert torch.equal(weight, expected) and torch.equal(found, losses)


def test_images_in_a_recording():
    x, target = torch.randn(2, 10, 16, 8, 8, device="cuda").relu()
    start = torch.randn(16, 16, 3, 3, device="cuda") / 12
    rates = torch.full((STEPS,), 0.001, dtype=torch.float64)

    def run(weight):
        return fsc_ext.solve_relu_(weight, x, target, rates, torch.zeros_like(rates), padding=1)

    expected, weight, graph = start.clone(), start.clone(), torch.cuda.CUDAGraph()
    losses = run(expected)
    with torch.cuda.graph(graph):
        found = run(weight)
    weight.copy_(start)
    graph.replay()
    assert torch.equal(weight, expected) and torch.equal(found, losses)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_device_that_is_not_current():
    inputs = torch.randn(2, 3, 4, 5, 5, device="cuda:1")
    weights = torch.randn(2, 6, 4, 3, 3, device="cuda:1")
    found = fsc_ext.cross_distill_layer(*inputs, *weights)
    target = functional.conv2d(inputs[0], weights[0]).relu()
    expected = (functional.conv2d(inputs[1], weights[1]).relu() - target).square().sum() / 3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)
