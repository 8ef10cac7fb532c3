"""Teacher and student step through the network side by side, each layer run once."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from torch import Tensor, fx, nn

from fsc.arguments import as_count, check_module
from fsc.images.checks import check_images, device_of
from fsc.networks.calls import learnable
from fsc.networks.modes import outside_inference
from fsc.networks.operations import LAYER
from fsc.networks.out_of_place import stepping
from fsc.networks.states import check_sizes_known
from fsc.networks.tracing import layer_names, trace
from fsc.networks.wrappers import unwrap
from fsc.progress import Progress
from fsc.walking.activations import (
    activation_of_sum,
    following_activation,
    run_shortcuts_first,
    shortcut_of,
)
from fsc.walking.frontier import Frontier
from fsc.walking.visitor import Layer, Visitor


@outside_inference()
def walk(
    teacher: nn.Module,
    student: nn.Module,
    images: Tensor,
    visitor: Visitor,
    *,
    batch_size: int = 64,
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Run both networks operation by operation and call the visitor at each layer.

    All batches of one operation run before those of the next, so the student goes on with the
    layers that the visitor has rewritten, and every operation of each network runs exactly once
    for each batch. Only values that a later operation needs are kept. In-place operations run out
    of place. The result depends neither on the batch size nor on the memory budget. Training
    flags are restored.

    Args:
        teacher: a network that torch.fx can trace, with one argument; wrapped ones are unwrapped.
            One that writes into views, or where another name reads, is to be what `fsc.plain` makes
            of it: torch.fx sees neither.
        student: a network of the same structure: the same forward and names of modules.
        images: normalised images [N, C, H, W] of the dtype of the teacher; batches move to the
            device of each network.
        visitor: sees, and may rewrite, each convolution and Linear, or what else its `kind` says.
        batch_size: images in one batch.
        memory_budget: bytes of values to keep in memory, for both networks together, of which
            room for six of the largest size is kept free to work with; what is beyond goes to
            temporary files. None for no limit.
        progress: called with ("layer", layers done, layers in all) after each layer.

    Raises:
        ValueError: a layer does not know its sizes yet, the teacher cannot be traced or has more
            than one argument, the student has other modules or is the teacher, images are empty,
            not finite or of a wrong rank, dtype or number of channels, or batch_size or
            memory_budget is out of range.
        TypeError: an argument is of the wrong type.
        OSError: a value past the budget cannot be written.

    Example:
        >>> from copy import deepcopy
        >>> import torch
        >>> class Names(Visitor):
        ...     def before_run(self, layer):
        ...         print(layer.name, layer.activation)
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
        >>> walk(model, deepcopy(model), torch.ones(2, 3, 8, 8), Names())
        0 relu
        2 none
    """
    check_module("walk: teacher", teacher)
    check_module("walk: student", student)
    batch_size = as_count("walk: batch_size", batch_size)
    teacher, student = unwrap(teacher), unwrap(student)
    check_sizes_known("walk: teacher", teacher)
    check_sizes_known("walk: student", student)
    graph = trace(teacher)
    check_images("walk", images, teacher, graph)
    _check_networks(teacher, student, graph)
    run_shortcuts_first(teacher, graph)
    with ExitStack() as stack:
        for network in (teacher, student):
            stack.enter_context(stepping(network))
        frontier = stack.enter_context(Frontier(memory_budget, (images,)))
        steps = _Walk(graph, (teacher, student), images.split(batch_size), visitor, frontier)
        names = layer_names(teacher, graph, visitor.kind)
        for node in graph.nodes:
            if node.op not in ("call_module", "call_function", "call_method"):
                continue
            name = str(node.target)
            if node.op != "call_module" or name not in names:
                steps.run(node)
                continue
            layer = _layer(teacher, student, graph, names, name, len(images))
            mixes = LAYER.matches(teacher, node)
            steps.visit(node, layer, shortcut_of(teacher, graph, name) if mixes else None)
            if progress is not None:
                progress("layer", names.index(name) + 1, len(names))


class _Walk:
    """The values of both networks, and the steps that take them through one node."""

    def __init__(
        self,
        graph: fx.Graph,
        networks: tuple[nn.Module, nn.Module],
        batches: tuple[Tensor, ...],
        visitor: Visitor,
        frontier: Frontier,
    ) -> None:
        self.batches = batches
        self.visitor = visitor
        self.frontier = frontier
        self.interpreters = [fx.Interpreter(network, graph=graph) for network in networks]
        self.devices = [device_of(network, batches[0]) for network in networks]
        self.last_reads = _last_reads(graph)

    def visit(self, node: fx.Node, layer: Layer, shortcut: fx.Node | None) -> None:
        """Run a layer with the visitor's hooks around it."""
        if not self.visitor.wants(layer.name):
            self.run(node)
            return
        source = node.all_input_nodes[0]
        for batch in range(len(self.batches)):
            if shortcut is not None:
                self.visitor.on_shortcuts(layer, *self._values(shortcut, batch))
            self.visitor.on_inputs(layer, *self._values(source, batch))
        self.visitor.before_run(layer)
        for batch in range(len(self.batches)):
            # No name holds the outputs: the frontier alone decides what stays in memory.
            self.visitor.on_outputs(layer, *(self._step(side, node, batch) for side in (0, 1)))
        change = self.visitor.after_run(layer)
        if change is not None and self._is_read(node):
            for batch in range(len(self.batches)):
                self.frontier.put((1, node), batch, change(self.frontier.get((1, node), batch)))

    def run(self, node: fx.Node) -> None:
        """Run one node of both networks on every batch."""
        for batch in range(len(self.batches)):
            for side in (0, 1):
                self._step(side, node, batch)

    def _step(self, side: int, node: fx.Node, batch: int) -> Any:
        def read(source: fx.Node) -> Any:
            return self._value(side, source, batch)

        operation = getattr(self.interpreters[side], node.op)
        arguments, keywords = fx.node.map_arg((node.args, node.kwargs), read)
        value = operation(node.target, arguments, keywords)
        if self._is_read(node):
            self.frontier.put((side, node), batch, value)
        for source in self.last_reads.get(node, ()):
            self.frontier.drop((side, source), batch)
        return value

    def _values(self, node: fx.Node, batch: int) -> tuple[Any, Any]:
        return self._value(0, node, batch), self._value(1, node, batch)

    def _value(self, side: int, node: fx.Node, batch: int) -> Any:
        if node.op == "placeholder":
            return learnable(self.batches[batch]).to(self.devices[side])  # [B, C, H, W]
        if node.op == "get_attr":
            return self._attribute(side, str(node.target))
        return self.frontier.get((side, node), batch)

    def _attribute(self, side: int, target: str) -> Any:
        # Tracing leaves the constants of a forward as attributes of the traced network only.
        owner = 0 if target.startswith("_tensor_constant") else side
        return self.interpreters[owner].fetch_attr(target)

    @staticmethod
    def _is_read(node: fx.Node) -> bool:
        return any(user.op != "output" for user in node.users)


def _last_reads(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    """Return, for each node, the nodes whose value nothing after it reads."""
    last: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node.op != "output":
            last.update(dict.fromkeys(node.all_input_nodes, node))
    reads: dict[fx.Node, list[fx.Node]] = {}
    for source, reader in last.items():
        reads.setdefault(reader, []).append(source)
    return reads


def _layer(
    teacher: nn.Module,
    student: nn.Module,
    graph: fx.Graph,
    names: list[str],
    name: str,
    num_images: int,
) -> Layer:
    module = teacher.get_submodule(name)
    mixes = isinstance(module, LAYER.modules)
    return Layer(
        name=name,
        teacher=module,
        student=student.get_submodule(name),
        activation=following_activation(teacher, graph, name) if mixes else "none",
        sum_activation=activation_of_sum(teacher, graph, name) if mixes else "none",
        num_images=num_images,
        index=names.index(name),
        count=len(names),
    )


def _check_networks(teacher: nn.Module, student: nn.Module, graph: fx.Graph) -> None:
    if student is teacher:
        raise ValueError("walk: student must be another module than teacher, got the same one")
    arguments = [str(node.target) for node in graph.nodes if node.op == "placeholder"]
    if len(arguments) != 1:
        raise ValueError(
            f"walk: teacher must take one argument, the images, got {len(arguments)} "
            f"({', '.join(arguments)})"
        )
    modules = dict(student.named_modules(remove_duplicate=False))
    for name in (str(node.target) for node in graph.nodes if node.op == "call_module"):
        expected = type(teacher.get_submodule(name))
        found = modules.get(name)
        if not isinstance(found, expected):
            raise ValueError(
                "walk: student must have the modules of teacher, got "
                f"{'none' if found is None else type(found).__name__} instead of "
                f"{expected.__name__} at {name!r}"
            )
