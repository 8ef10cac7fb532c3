"""Two networks of different structure go through the same images and meet at layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, fx, nn

from fsc.images.checks import device_of
from fsc.networks.operations import BATCH_NORM
from fsc.networks.out_of_place import stepping
from fsc.networks.tracing import ancestors
from fsc.progress import Progress
from fsc.walking.frontier import Frontier
from fsc.walking.visitor import Layer, Visitor


@dataclass(frozen=True)
class Meeting:
    """Where two networks are compared, as nodes of their graphs.

    Attributes:
        teacher: whose value the student's is to be.
        layer: calls the layer of the student that the visitor may rewrite.
        student: whose value is compared: `layer` itself, or an addition of what it gives, without
            anything but Identities in between. Of a BatchNorm what it reads, in both networks.
        names: of the layer in the teacher and in the student.
        channels: the teacher's of every channel of the student's value, int64 [C]; None: the same.
    """

    teacher: fx.Node
    layer: fx.Node
    student: fx.Node
    names: tuple[str, str]
    channels: Tensor | None = None

    def chosen(self, value: Tensor, axis: int) -> Tensor:
        """What the teacher gives, [N, ...], of the channels that the student has."""
        if self.channels is None:
            return value
        return value.index_select(axis, self.channels.to(value.device))


def walk_to_meetings(
    teacher: tuple[nn.Module, fx.Graph],
    student: tuple[nn.Module, fx.Graph],
    images: Tensor,
    meetings: Sequence[Meeting],
    visitor: Visitor,
    *,
    batch_size: int = 64,
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Run two networks from one meeting to the next and call the visitor at each.

    Every operation that a meeting depends on runs once for each batch, and only values that a
    later operation or meeting needs are kept. Of the visitor `on_outputs` and `after_run` are
    called; where the meeting is behind an addition they see what the layer gives, and what it
    would have to give for the sum to be the teacher's. For a BatchNorm `on_inputs` and
    `before_run` are.

    Args:
        teacher: a network and its graph.
        student: a network and its graph, which takes the same images.
        images: [N, ...].
        meetings: each of another layer.
        visitor: may rewrite the layers of the student where they meet.
        batch_size: images in one batch.
        memory_budget: as for `fsc.walk`.
        progress: called with ("block", meetings done, meetings in all).
    """
    order = {node: index for index, node in enumerate(student[1].nodes)}
    meetings = sorted(meetings, key=lambda meeting: order[meeting.student])
    batches = images.split(batch_size)
    with ExitStack() as stack:
        for network in (teacher[0], student[0]):
            stack.enter_context(stepping(network))
        frontier = stack.enter_context(Frontier(memory_budget, (images,)))
        wanted = [meeting.teacher for meeting in meetings]
        given = [node for meeting in meetings for node in _read(meeting, student[0])]
        sides = (
            _Side(*teacher, batches, frontier, wanted),
            _Side(*student, batches, frontier, given),
        )
        for index, meeting in enumerate(meetings):
            _meet(meeting, sides, visitor, _layer(teacher[0], student[0], meeting, meetings))
            if progress is not None:
                progress("block", index + 1, len(meetings))


def _meet(meeting: Meeting, sides: tuple[_Side, _Side], visitor: Visitor, layer: Layer) -> None:
    teacher, student = sides
    teacher.run_to(meeting.teacher)
    student.run_to(meeting.student)
    read = _read(meeting, student.network)
    axis = -1 if isinstance(layer.student, nn.Linear) else 1
    channels = meeting.channels if visitor.chooses and meeting.layer is meeting.student else None
    if channels is not None:
        layer = replace(layer, channels=channels.to(teacher.device))
    for batch in range(len(student.batches)):
        wanted = teacher.value(meeting.teacher, batch)
        if channels is None:
            wanted = meeting.chosen(wanted, axis)
        if meeting.layer not in read:
            visitor.on_inputs(layer, wanted, student.value(meeting.student, batch))
            continue
        given = student.value(meeting.layer, batch)
        if meeting.layer is not meeting.student:
            wanted = wanted - (student.value(meeting.student, batch) - given)
        visitor.on_outputs(layer, wanted, given)
    if meeting.layer not in read:
        visitor.before_run(layer)
    else:
        change = visitor.after_run(layer)
        if change is not None:
            student.change(meeting, change)
    teacher.release(meeting.teacher)
    for node in read:
        student.release(node)


def _read(meeting: Meeting, student: nn.Module) -> set[fx.Node]:
    """The nodes of the student whose values a visitor is shown."""
    is_norm = isinstance(student.get_submodule(meeting.names[1]), BATCH_NORM)
    return {meeting.student} if is_norm else {meeting.layer, meeting.student}


class _Side:
    """One of the networks, with the values that it still needs.

    Args:
        network: runs from its images on.
        graph: of the network.
        batches: of images.
        frontier: where values are held; both sides may share it.
        met: the nodes whose values are asked for from outside, each as often as it is here.
    """

    def __init__(
        self,
        network: nn.Module,
        graph: fx.Graph,
        batches: Sequence[Tensor],
        frontier: Frontier,
        met: Sequence[fx.Node],
    ) -> None:
        self.network, self.batches, self.frontier = network, batches, frontier
        self.device = device_of(network, batches[0])
        self._interpreter = fx.Interpreter(network, graph=graph)
        needed = {*met, *(parent for node in met for parent in ancestors(node))}
        computing = ("call_module", "call_function", "call_method")
        self._steps = [n for n in graph.nodes if n in needed and n.op in computing]
        self._done = {node for node in graph.nodes if node.op not in computing}
        self._reads = Counter(met)
        for node in self._steps:
            self._reads.update(node.all_input_nodes)

    def run_to(self, node: fx.Node) -> None:
        """Run all that comes before a node, and the node."""
        while node not in self._done:
            step = self._steps.pop(0)
            for batch in range(len(self.batches)):
                self.frontier.put((id(self), step), batch, self._run(step, batch))
            self._done.add(step)
            for source in step.all_input_nodes:
                self.release(source)

    def value(self, node: fx.Node, batch: int) -> Any:
        """What a node has given for a batch."""
        if node.op == "placeholder":
            return self.batches[batch].to(self.device)  # [B, C, ...]
        if node.op == "get_attr":
            return self._interpreter.fetch_attr(str(node.target))
        return self.frontier.get((id(self), node), batch)

    def change(self, meeting: Meeting, change: Callable[[Tensor], Tensor]) -> None:
        """Let a layer have given something else, and what came after it until the meeting."""
        for batch in range(len(self.batches)):
            before = self.value(meeting.layer, batch)
            after = change(before)
            if meeting.layer is not meeting.student:
                after = self.value(meeting.student, batch) + (after - before)
            self.frontier.put((id(self), meeting.student), batch, after)

    def release(self, node: fx.Node) -> None:
        """Say that one of those who read a value has done so."""
        self._reads[node] -= 1
        if self._reads[node] == 0:
            for batch in range(len(self.batches)):
                self.frontier.drop((id(self), node), batch)

    def _run(self, node: fx.Node, batch: int) -> Any:
        args, kwargs = fx.node.map_arg(
            (node.args, node.kwargs), lambda source: self.value(source, batch)
        )
        return getattr(self._interpreter, node.op)(node.target, args, kwargs)


def _layer(
    teacher: nn.Module, student: nn.Module, meeting: Meeting, meetings: Sequence[Meeting]
) -> Layer:
    return Layer(
        name=meeting.names[1],
        teacher=teacher.get_submodule(meeting.names[0]),
        student=student.get_submodule(meeting.names[1]),
        activation="none",
        sum_activation="none",
        num_images=0,
        index=meetings.index(meeting),
        count=len(meetings),
    )
