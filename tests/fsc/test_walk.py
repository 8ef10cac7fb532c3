import importlib
import tempfile
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsc import models
from fsc.walking.frontier import Frontier
from fsc.walking.visitor import Layer, Visitor
from fsc.walking.walk import walk


class Network(nn.Module):
    """A residual branch, in-place operations, a constant, a parameter and non-tensor values."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.branch = nn.Conv2d(4, 4, 3, padding=1)
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.relu(self.stem(x)))
        y = F.relu(self.branch(x), inplace=True)
        y = (y * self.scale - torch.tensor(0.25)).relu_()
        x, values = torch.max(torch.stack([x, y]), 0)
        x = F.avg_pool2d(x + y * values, x.shape[-1])
        return self.head(x.view(x.size(0), -1))


class Recorder(Visitor):
    """Keeps everything that it sees."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.layers: dict[str, Layer] = {}
        self.seen: dict[tuple[str, str], list[Tensor]] = {}

    def on_inputs(self, layer: Layer, input_teacher: Tensor, input_student: Tensor) -> None:
        self._note("on_inputs", layer, input_teacher, input_student)

    def before_run(self, layer: Layer) -> None:
        self._note("before_run", layer)

    def on_outputs(self, layer: Layer, output_teacher: Tensor, output_student: Tensor) -> None:
        self._note("on_outputs", layer, output_teacher, output_student)

    def after_run(self, layer: Layer) -> Callable[[Tensor], Tensor] | None:
        self._note("after_run", layer)
        return None

    def _note(self, hook: str, layer: Layer, *tensors: Tensor) -> None:
        self.calls.append((hook, layer.name))
        self.layers[layer.name] = layer
        for side, tensor in zip(("teacher", "student"), tensors, strict=False):
            self.seen.setdefault((layer.name, f"{hook} {side}"), []).append(tensor)

    def joined(self, name: str, key: str) -> Tensor:
        return torch.cat(self.seen[name, key])


class Rewriter(Recorder):
    """Shifts every weight by a statistic of all inputs, then every bias by one of all outputs."""

    def before_run(self, layer: Layer) -> None:
        super().before_run(layer)
        layer.student.weight += self.joined(layer.name, "on_inputs student").mean()

    def after_run(self, layer: Layer) -> Callable[[Tensor], Tensor] | None:
        shift = self.joined(layer.name, "on_outputs student").mean()
        layer.student.bias += shift
        return lambda output: output + shift


def networks() -> tuple[nn.Module, nn.Module, Tensor]:
    teacher = Network().double()
    teacher.bn.running_mean.normal_()
    student = deepcopy(teacher)
    with torch.no_grad():
        student.stem.weight *= 0.9
    return teacher, student, torch.randn(7, 3, 8, 8, dtype=torch.float64)


def outputs_by_hooks(network: nn.Module, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    found = {}

    def record(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            found[name] = (inputs[0].detach().clone(), output.detach().clone())

        return hook

    layers = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    handles = [module.register_forward_hook(record(name)) for name, module in layers]
    network.eval()(images)
    for handle in handles:
        handle.remove()
    return found


def test_hooks_come_in_order_with_the_facts_of_the_layer() -> None:
    teacher, student, images = networks()
    recorder = Recorder()
    walk(teacher, student, images, recorder, batch_size=4)
    expected = []
    for name in ("stem", "branch", "head"):
        hooks = ["on_inputs"] * 2 + ["before_run"] + ["on_outputs"] * 2 + ["after_run"]
        expected += [(hook, name) for hook in hooks]
    assert recorder.calls == expected
    assert recorder.layers["branch"] == Layer(
        "branch", teacher.branch, student.branch, "relu", "none", num_images=7, index=1, count=3
    )
    assert recorder.layers["head"].activation == "none"


@pytest.mark.parametrize("budget", [None, 0])
def test_a_visitor_sees_what_the_networks_compute(budget: int | None) -> None:
    teacher, student, images = networks()
    recorder = Recorder()
    walk(teacher, student, images, recorder, batch_size=3, memory_budget=budget)
    for side, network in (("teacher", teacher), ("student", student)):
        for name, (layer_input, output) in outputs_by_hooks(network, images).items():
            # In-place operations later in the network must not reach what was recorded before.
            for key, value in ((f"on_inputs {side}", layer_input), (f"on_outputs {side}", output)):
                torch.testing.assert_close(recorder.joined(name, key), value, rtol=0, atol=1e-10)


def test_results_depend_neither_on_batch_size_nor_on_budget() -> None:
    teacher, student, images = networks()
    results = []
    for batch_size, budget in [(7, None), (1, None), (3, 0), (2, 3000), (2, 60_000), (64, 0)]:
        rewritten = deepcopy(student)
        walk(teacher, rewritten, images, Rewriter(), batch_size=batch_size, memory_budget=budget)
        results.append(rewritten.state_dict())
    assert not torch.equal(results[0]["head.bias"], student.head.bias)
    for result in results[1:]:
        for key, value in result.items():
            torch.testing.assert_close(value, results[0][key], rtol=0, atol=1e-10)


def test_later_layers_see_the_rewritten_student_and_the_old_teacher() -> None:
    teacher, student, images = networks()
    before = deepcopy(teacher.state_dict())
    rewriter = Rewriter()
    walk(teacher, student, images, rewriter, batch_size=3)
    for name, (layer_input, _) in outputs_by_hooks(student, images).items():
        seen = rewriter.joined(name, "on_inputs student")
        torch.testing.assert_close(seen, layer_input, rtol=0, atol=1e-10)
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, before[key])


def test_unwanted_layers_just_run() -> None:
    class OnlyHead(Recorder):
        def wants(self, name: str) -> bool:
            return name == "head"

    teacher, student, images = networks()
    recorder = OnlyHead()
    walk(teacher, student, images, recorder)
    assert {name for _, name in recorder.calls} == {"head"}
    expected = outputs_by_hooks(student, images)["head"][1]
    torch.testing.assert_close(recorder.joined("head", "on_outputs student"), expected)


@pytest.mark.parametrize("budget", [None, 0])
def test_every_layer_of_each_network_runs_once_for_each_batch(budget: int | None) -> None:
    teacher, student = models.build("resnet20"), models.build("resnet20")
    calls: Counter[tuple[str, str]] = Counter()
    for side, network in (("teacher", teacher), ("student", student)):
        for name, module in network.named_modules():
            if not list(module.children()):
                module.register_forward_hook(lambda *_, key=(side, name): calls.update([key]))
    walk(teacher, student, torch.randn(5, 3, 16, 16), Visitor(), batch_size=2, memory_budget=budget)
    convolutions = [key for key in calls if "conv" in key[1]]
    assert len(convolutions) == 2 * 19
    assert set(calls.values()) == {3}


def test_only_the_frontier_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    stores: list[Frontier] = []

    class Watched(Frontier):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            stores.append(self)

        def close(self) -> None:
            assert self.bytes_held == 0
            super().close()

    monkeypatch.setattr(importlib.import_module("fsc.walking.walk"), "Frontier", Watched)
    teacher = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(20)))
    images = torch.randn(4, 3, 8, 8)
    activation = images.numel() * images.element_size()
    walk(teacher, deepcopy(teacher), images, Visitor(), batch_size=4)
    assert 2 * activation <= stores[0].peak_bytes <= 3 * activation
    walk(teacher, deepcopy(teacher), images, Recorder(), batch_size=1)
    assert stores[1].peak_bytes <= 3 * activation


def test_training_flags_and_in_place_flags_come_back() -> None:
    teacher, student, images = networks()
    teacher.bn.eval()
    statistics = teacher.bn.running_mean.clone()

    class Check(Visitor):
        def before_run(self, layer: Layer) -> None:
            assert not layer.student.training and not torch.is_grad_enabled()

    walk(teacher, student, images, Check())
    assert teacher.training and not teacher.bn.training and student.bn.training
    assert teacher.relu.inplace and student.relu.inplace
    assert torch.equal(teacher.bn.running_mean, statistics)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_walk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    class Failing(Visitor):
        def before_run(self, layer: Layer) -> None:
            if layer.name == "branch":
                assert list(tmp_path.rglob("*.pt"))
                raise error

    teacher, student, images = networks()
    with pytest.raises(error):
        walk(teacher, student, images, Failing(), memory_budget=0)
    assert list(tmp_path.iterdir()) == []
    assert student.training and student.relu.inplace


def test_progress_counts_the_layers() -> None:
    told: list[tuple[str, int, int]] = []
    teacher, student, images = networks()
    walk(teacher, student, images, Visitor(), progress=lambda *args: told.append(args))
    assert told == [("layer", 1, 3), ("layer", 2, 3), ("layer", 3, 3)]


def test_networks_of_different_widths_walk_together() -> None:
    teacher = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    student = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 3))
    recorder = Recorder()
    walk(teacher, student, torch.randn(2, 3, 8, 8), recorder)
    assert recorder.joined("2", "on_inputs teacher").shape[1] == 8
    assert recorder.joined("2", "on_inputs student").shape[1] == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(3, 8, 8)}, r"images must be floating point \[N, C, H, W\]"),
        ({"images": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}, "got torch.uint8"),
        ({"images": torch.zeros(0, 3, 8, 8)}, "N at least 1 and C, H, W at least 1, got"),
        ({"images": torch.zeros(1, 3, 8, 8)}, "images must have the dtype of the network"),
        ({"images": torch.zeros(1, 3, 8, 8, device="meta")}, "got a tensor on the meta device"),
        (
            {"images": torch.zeros(1, 1, 8, 8).double()},
            "the 3 input channels of the network, got 1",
        ),
        ({"images": torch.full((2, 3, 8, 8), torch.nan).double()}, "got NaN or Inf in image 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"memory_budget": -5}, "memory_budget must be at least 0 bytes, got -5"),
        ({"student": nn.Sequential(nn.Conv2d(3, 3, 1))}, "got none instead of Conv2d at 'stem'"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, object], message: str) -> None:
    teacher, student, images = networks()
    arguments = {"student": student, "images": images, **change}
    with pytest.raises(ValueError, match=message):
        walk(teacher, visitor=Visitor(), **arguments)


def test_teacher_as_student_and_two_arguments_are_refused() -> None:
    class Sum(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    teacher, _, images = networks()
    with pytest.raises(ValueError, match="student must be another module than teacher"):
        walk(teacher, teacher, images, Visitor())
    with pytest.raises(ValueError, match=r"must take one argument, the images, got 2 \(x, y\)"):
        walk(Sum(), Sum(), images, Visitor())
