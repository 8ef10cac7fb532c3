"""What autograd does with the cross distillation operators, besides the values of gradients."""

import sys
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import fsc_ext
from fsc_ext.testing import devices

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)
TEACHER, STUDENT = (0, 2, 4), (1, 3, 5)
SETTINGS = {"alpha": 0.9, "beta": 0.3, "padding": 1}
_ops = torch.ops.fsc_ext
TWICE = "differentiate twice .* marked with @once_differentia"


def layer_inputs(device: torch.device, wanted: tuple[int, ...] = STUDENT) -> list[Tensor]:
    """Both inputs, weights and biases; those whose places are `wanted` require a gradient."""
    shapes = [(2, 4, 5, 5)] * 2 + [(6, 4, 3, 3)] * 2 + [(6,)] * 2
    tensors = [torch.randn(shape, dtype=torch.float64, device=device) for shape in shapes]
    return [t.requires_grad_(i in wanted) for i, t in enumerate(tensors)]


def layer(*tensors: Tensor | None) -> Tensor:
    return fsc_ext.cross_distill_layer(*tensors, **SETTINGS)


def raw_layer(*tensors: Tensor) -> tuple[Tensor, Tensor]:
    return _ops.cross_distill_layer(*tensors, 0.9, 0.3, "relu", 1, 1, 1, 1)


def losses(device: torch.device) -> dict[str, tuple[Tensor, Tensor]]:
    """A value of each operator, and a leaf behind it."""
    tensors = layer_inputs(device)
    student = tensors[1]
    return {
        "SoftCrossMix": (fsc_ext.soft_cross_mix(tensors[0], student, 0.9, 0.3)[1].sum(), student),
        "DistillResidual": (fsc_ext.distill_residual(student, tensors[0])[0], student),
        "CrossDistillLayer": (layer(*tensors), tensors[3]),
    }


def files_called(function: Callable[[], object]) -> set[str]:
    """The files of all Python that runs, but for this one."""
    files = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            files.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return files - {__file__}


def test_gradients_are_not_made_by_python(device):
    found = losses(device)
    mixed, _ = found.pop("SoftCrossMix")
    roots = {"SoftCrossMix": mixed.grad_fn.next_functions[0][0]}
    roots |= {name: loss.grad_fn for name, (loss, _) in found.items()}
    for name, root in roots.items():
        assert root.name().startswith("torch::autograd::CppNode<") and name in root.name()
    for loss, leaf in losses(device).values():
        files = files_called(lambda loss=loss, leaf=leaf: torch.autograd.grad(loss, leaf))
        assert not [file for file in files if "fsc_ext" in file or "_library" in file]
    for wanted in ((), STUDENT):
        tensors = layer_inputs(device, wanted)
        assert not [
            file for file in files_called(lambda t=tensors: layer(*t)) if "_library" in file
        ]


def test_only_the_student_has_a_graph(device):
    tensors = layer_inputs(device, TEACHER + STUDENT)
    loss, residual = raw_layer(*tensors)
    leaves = [node.variable for node, _ in loss.grad_fn.next_functions]
    assert all(leaf is tensors[place] for leaf, place in zip(leaves, STUDENT, strict=True))
    assert not residual.requires_grad
    loss.backward()
    assert [t.grad is None for t in tensors] == [True, False] * 3
    assert not any(value.requires_grad for value in raw_layer(*layer_inputs(device, TEACHER)))
    student = torch.randn(5, device=device)
    target = torch.randn(5, device=device, requires_grad=True)
    assert not _ops.distill_residual(student, target, "relu")[0].requires_grad


@pytest.mark.parametrize("absent", [(), (4,), (5,), (4, 5)], ids=str)
def test_biases_that_are_not_there(device, absent):
    tensors = [None if i in absent else t for i, t in enumerate(layer_inputs(device))]
    leaves = [t for t in tensors[1::2] if t is not None]
    found = torch.autograd.grad(layer(*tensors), leaves)
    zeros = [torch.zeros(6, dtype=torch.float64, device=device)] * 6
    whole = [zero if t is None else t for t, zero in zip(tensors, zeros, strict=True)]
    expected = torch.autograd.grad(layer(*whole), leaves)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


class Recorder(TorchDispatchMode):
    """Notes which gradients the backward operator is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[list[bool]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is _ops.cross_distill_layer_backward.default:
            self.masks.append(list(args[-1]))
        return func(*args, **(kwargs or {}))


def test_only_the_gradients_that_go_somewhere_are_computed(device):
    tensors = layer_inputs(device)
    with Recorder() as recorder:
        torch.autograd.grad(layer(*tensors), tensors[3])
        torch.autograd.grad(layer(*tensors), [tensors[1], tensors[5]])
        layer(*[t.detach().requires_grad_(i == 3) for i, t in enumerate(tensors)]).backward()
    assert recorder.masks == [[False, True, False], [True, False, True], [False, True, False]]


def test_the_backward_operator_gives_none_where_nothing_is_asked(device):
    tensors = layer_inputs(device, ())
    loss, residual = raw_layer(*tensors)
    settings = [0.9, 0.3, "relu", 1, 1, 1, 1]
    gradients = _ops.cross_distill_layer_backward(
        loss, residual, *tensors, *settings, [False, True, False]
    )
    assert [g is None for g in gradients] == [True, False, True]


@pytest.mark.parametrize("name", ["DistillResidual", "CrossDistillLayer"])
def test_a_second_differentiation_is_refused(device, name):
    loss, leaf = losses(device)[name]
    # Where a constant comes in, as that of the loss alone, the gradient depends on leaves as well.
    for made in (loss**2, loss):
        (gradient,) = torch.autograd.grad(made, leaf, create_graph=True, retain_graph=True)
        penalised = made + gradient.square().sum()
        for again in (gradient.sum(), penalised):
            with pytest.raises(RuntimeError, match=TWICE):
                again.backward(retain_graph=True)
            with pytest.raises(RuntimeError, match=TWICE):
                torch.autograd.grad(again, leaf, allow_unused=True, retain_graph=True)


def test_a_hessian_is_refused(device):
    *tensors, bias_teacher, bias_student = layer_inputs(device, ())
    for place in (1, 3):

        def loss(student, place=place):
            given = [*tensors, bias_teacher, bias_student]
            given[place] = student
            return layer(*given)

        with pytest.raises(RuntimeError, match=TWICE):
            torch.autograd.functional.hessian(loss, tensors[place])


@pytest.mark.parametrize("place", range(6))
def test_what_changes_before_the_backward_is_refused(device, place):
    for wanted in (STUDENT, TEACHER + STUDENT):
        tensors = layer_inputs(device, wanted)
        loss = layer(*tensors)
        with torch.no_grad():
            tensors[place].add_(1)
        with pytest.raises(RuntimeError, match="has been modified by an inplace operation"):
            loss.backward()


def test_a_changed_residual_is_refused(device):
    loss, residual = raw_layer(*layer_inputs(device))
    residual.add_(1)
    with pytest.raises(RuntimeError, match="has been modified by an inplace operation"):
        loss.backward()


class Passed(torch.autograd.Function):
    """The identity, with the gradient that `made` makes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, made: Callable[[Tensor], Tensor | None]) -> Tensor:
        ctx.made = made
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:
        return ctx.made(grad), None


def test_the_graph_of_the_teacher_is_not_kept(device):
    tensors = layer_inputs(device, TEACHER + STUDENT)
    mine = [
        Passed.apply(t, lambda grad: grad) if i in TEACHER else t for i, t in enumerate(tensors)
    ]
    graph = [weakref.ref(mine[i].grad_fn) for i in TEACHER]
    loss = layer(*mine)
    del mine
    assert [node() for node in graph] == [None] * 3
    loss.backward()


def test_no_gradient_of_the_loss_gives_none_of_the_student(device):
    tensors = layer_inputs(device)
    loss = layer(*tensors) + fsc_ext.distill_residual(tensors[1], tensors[0])[0]
    Passed.apply(loss, lambda grad: None).backward()
    assert [t.grad for t in tensors] == [None] * 6


def test_gradients_of_several_losses_at_once(device):
    tensors = layer_inputs(device)
    loss, scales = layer(*tensors), torch.tensor([1.0, -2.0], dtype=torch.float64, device=device)
    leaves = tensors[1::2]
    found = torch.autograd.grad(loss, leaves, scales, is_grads_batched=True, retain_graph=True)
    for i, scale in enumerate(scales):
        expected = torch.autograd.grad(loss, leaves, scale, retain_graph=True)
        torch.testing.assert_close([g[i] for g in found], list(expected))


@pytest.mark.parametrize("name", ["SoftCrossMix", "DistillResidual", "CrossDistillLayer"])
def test_compiled_backward(device, name):
    loss, leaf = losses(device)[name]
    (expected,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    torch._dynamo.utils.counters.clear()
    with torch._dynamo.config.patch(compiled_autograd=True):
        torch.compile(lambda: loss.backward(), backend="eager")()
    assert torch._dynamo.utils.counters["compiled_autograd"]["captures"] == 1
    torch.testing.assert_close(leaf.grad, expected)


def test_meta_tensors_have_gradients(device):
    tensors = [t.detach().to("meta").requires_grad_() for t in layer_inputs(device)]
    loss = layer(*tensors)
    found = torch.autograd.grad(loss, tensors[1::2])
    assert [g.shape for g in found] == [t.shape for t in tensors[1::2]]
