"""One pass over the graph of a network that gives every channel of every value its label."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from fsc.channels.label_shapes import lines, varying
from fsc.channels.labels import NONE, Labels
from fsc.channels.masked_norm import takes_all_channels
from fsc.channels.meeting import Meeting
from fsc.networks.open_sizes import Place, Size, holder_of, map_sizes
from fsc.networks.operations import ACTIVATION, BATCH_NORM, CONVOLUTION, DROPOUT, IDENTITY
from fsc.networks.outputs import tensors_of

Role = Literal["writer", "reader", "carrier", "size"]
# Not a fault of the network: every network has such channels.
AT_OUTPUT = "they reach the output of the network"

CHANNEL_NORM = (BATCH_NORM, nn.modules.instancenorm._InstanceNorm)


@dataclass(frozen=True)
class Side:
    """What is indexed by channels.

    Attributes:
        name: of the module, of the bare parameter or of the size.
        role: "writer" for what makes channels, "reader" for what mixes them, "carrier" for what
            handles each by itself, "size" for an integer that counts them.
        labels: of every index, int64 [size].
        axis: of a bare parameter, which of its axes the channels are; None for a module.
    """

    name: str
    role: Role
    labels: Tensor
    axis: int | None = None


class Propagation(fx.Interpreter):
    """Runs a network on an example and gives each value of each tensor its label.

    Args:
        model: the network in evaluation mode, out of place, on the CPU.
        graph: its graph.
        labels: where labels are made, joined and frozen.
        shared: modules that stay whole, because they are called twice or share a weight -> why.
    """

    def __init__(
        self, model: nn.Module, graph: fx.Graph, labels: Labels, shared: dict[str, str]
    ) -> None:
        """Starts with no side known."""
        super().__init__(model, graph=graph)
        self.known = labels
        self.shared = shared
        self.sides: list[Side] = []
        self.pixels: dict[str, int] = {}  # of every layer's output
        self._labels: dict[fx.Node, Any] = {}
        self._parameters: dict[str, Tensor] = {}
        self._sizes: dict[str, tuple[Tensor, int]] = {}  # what each counts, and along which axis

    def run_node(self, n: fx.Node) -> Any:
        """Run a node, then label what it gives."""
        value = super().run_node(n)
        self._labels[n] = self._label(n, value)
        for source in self.user_to_last_uses.get(n, []):
            if source is not n:
                del self._labels[source]
        return value

    def all_sides(self) -> list[Side]:
        """Every side, those of bare parameters too, once the network has run."""
        bare = [self._bare(name, labels) for name, labels in self._parameters.items()]
        sized = [self._size(name, *found) for name, found in self._sizes.items()]
        return self.sides + [side for side in bare + sized if side is not None]

    def _label(self, node: fx.Node, value: Any) -> Any:
        if node.op == "placeholder":
            return tree_map(_unlabelled, value)
        if node.op == "get_attr":
            return self._attribute(str(node.target), value)
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self._labels.__getitem__)
        if node.op == "output":
            self._freeze((args, kwargs), AT_OUTPUT)
            return None
        if not any(isinstance(leaf, Tensor) for leaf in tree_flatten(value)[0]):
            if tensors_of(value):  # an object is made of them, which networks return
                self._freeze((args, kwargs), AT_OUTPUT)
            return tree_map(_unlabelled, value)
        if node.target is operator.getitem and isinstance(args[0], tuple | list | dict):
            index: Any = node.args[1]
            return args[0][index]
        if any(kind.matches(self.module, node) for kind in (ACTIVATION, DROPOUT, IDENTITY)):
            # Most of a network's operations; the others are run to be understood.
            return args[0] if args else kwargs["input"]
        if node.op == "call_module":
            source = args[0] if args else next(iter(kwargs.values()))
            known = self._module(str(node.target), source, value)
            if known is not None:
                beside = "they go into a layer beside its input, as another argument"
                self._freeze((args[1:], kwargs if args else {}), beside)
                return known
        return self._operation(node, (args, kwargs), value)

    def _attribute(self, name: str, value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.numel() == 1:
            return tree_map(_unlabelled, value)
        if name not in self._parameters:
            self._parameters[name] = self.known.make(value.numel()).view(value.shape)
        return self._parameters[name]

    def _bare(self, name: str, labels: Tensor) -> Side | None:
        """The axis of a bare parameter along which its labels vary."""
        labels = self.known.roots(labels)
        axes = varying(labels)
        if len(axes) > 1:
            self.known.freeze(labels, f"parameter {name!r} has them along several axes at once")
        if len(axes) != 1:
            return None
        return Side(name, "carrier", lines(labels, axes[0])[:, 0], axes[0])

    def _note_sizes(
        self, node: fx.Node, marks: Sequence[Tensor | None], results: Sequence[Tensor]
    ) -> None:
        """Takes down what the sizes in a call count that a cut can change."""

        def note(size: int, place: Place) -> int:
            if isinstance(size, Size):
                counted = marks[0] if place.of == "input" else results[place.part]
                assert counted is not None
                axis = place.axis % counted.ndim
                if place.of == "input":
                    counted = counted.narrow(axis, 0, min(size, counted.shape[axis]))
                holder = holder_of(node)
                self._sizes[f"{holder}.{size.name}" if holder else size.name] = counted, axis
            return size

        map_sizes(node, note)

    def _size(self, name: str, counted: Tensor, axis: int) -> Side | None:
        """The labels that a size counts, where they are channels."""
        counted = self.known.roots(counted)
        if axis not in varying(counted):
            return None
        return Side(name, "size", self.known.along(counted, axis))

    def _module(self, name: str, source: Any, value: Any) -> Any:
        """The labels of a known module's output; None where running it tells."""
        module = self.submodules[name]
        has_channels = isinstance(module, (*CHANNEL_NORM, nn.GroupNorm, nn.LayerNorm))
        if name in self.shared and (has_channels or next(module.parameters(), None) is not None):
            self._freeze(source, self.shared[name])
            return tree_map(_unlabelled, value)
        if isinstance(module, CONVOLUTION | nn.Linear):
            return self._layer(name, module, source, value)
        if isinstance(module, CHANNEL_NORM):
            unbatched = getattr(module, "_get_no_batch_dim", lambda: -1)() == source.ndim
            return self._carry(name, source, 0 if unbatched else 1)
        if takes_all_channels(module):
            return self._carry(name, source, -1 if isinstance(module, nn.LayerNorm) else 1)
        if isinstance(module, nn.GroupNorm):
            channels = self.known.along(source, 1).view(module.num_groups, -1)
            self.known.join(channels[:, :1].expand_as(channels).flatten(), channels.flatten())
            return self._carry(name, source, 1)
        if isinstance(module, nn.PReLU) and module.num_parameters > 1:
            return self._carry(name, source, min(1, source.ndim - 1))
        if isinstance(module, nn.LayerNorm):
            self._freeze_varying(source, len(module.normalized_shape))
            return source
        if not [*module.parameters(), *module.buffers()] or isinstance(module, nn.PReLU):
            return None
        self._freeze(
            source,
            f"{type(module).__name__} {name!r} reads them, and is no layer that can be cut",
        )
        return tree_map(_unlabelled, value)

    def _layer(self, name: str, layer: Any, source: Tensor, value: Tensor) -> Tensor:
        """Labels of a convolution's or a Linear's output; its sides are taken down."""
        if isinstance(layer, nn.Linear):
            axis, groups, size = -1, 1, layer.out_features
        else:
            # Without a batch the channels are the first axis.
            axis = source.ndim - len(layer.kernel_size) - 1
            groups, size = layer.groups, layer.out_channels
        columns = self.known.along(source, axis)  # [C_in]
        if groups > 1 and groups == len(columns):
            self.sides.append(Side(name, "carrier", columns))
            rows = columns.repeat_interleave(size // groups)
        else:
            rows = self.known.make(size)
            for channels in (columns, rows):
                self._tie_blocks(channels, groups)
            self.sides += [Side(name, "reader", columns), Side(name, "writer", rows)]
        self.pixels[name] = value[:1].numel() // size
        shape = [1] * value.ndim
        shape[axis] = size
        return rows.view(shape).expand(value.shape)

    def _tie_blocks(self, channels: Tensor, groups: int) -> None:
        """The same channels of every block of a grouped convolution go together."""
        blocks = channels.view(groups, -1)
        self.known.join(blocks[:1].expand_as(blocks).flatten(), blocks.flatten())

    def _carry(self, name: str, source: Tensor, axis: int) -> Tensor:
        self.sides.append(Side(name, "carrier", self.known.along(source, axis)))
        return source

    def _operation(self, node: fx.Node, given: Any, value: Any) -> Any:
        """Labels of what an operation gives that is understood by running it."""
        leaves, form = tree_flatten(self.fetch_args_kwargs_from_env(node))
        marks = [
            self.known.roots(m) if isinstance(m, Tensor) else None for m in tree_flatten(given)[0]
        ]
        places = [i for i, m in enumerate(marks) if m is not None and bool((m != NONE).any())]
        if not places:
            return tree_map(_unlabelled, value)

        def run(inputs: Sequence[Tensor]) -> list[Tensor]:
            changed = list(leaves)
            for place, tensor in zip(places, inputs, strict=True):
                changed[place] = tensor
            args, kwargs = tree_unflatten(changed, form)
            result = getattr(self, node.op)(node.target, args, kwargs)
            return [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]

        kinds = [leaf.dtype for leaf in leaves if isinstance(leaf, Tensor)]
        dtype = next((kind for kind in kinds if kind.is_floating_point), torch.float32)
        labelled = [mark for i, mark in enumerate(marks) if i in places and mark is not None]
        shapes = [leaf.shape for leaf in tree_flatten(value)[0] if isinstance(leaf, Tensor)]
        others = [
            leaf for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and i not in places
        ]
        meeting = Meeting(self.known, self._name(node))
        found = meeting.results(run, labelled, dtype, shapes, others)
        self._note_sizes(node, marks, found)
        labels = iter(found)
        flat, shape = tree_flatten(value)
        return tree_unflatten(
            [next(labels) if isinstance(leaf, Tensor) else None for leaf in flat], shape
        )

    def _freeze_varying(self, labels: Tensor, count: int) -> None:
        """A normalization over channels and pixels computes something else on fewer."""
        last = set(range(labels.ndim - count, labels.ndim))
        if last & set(varying(self.known.roots(labels))):
            self.known.freeze(
                labels,
                "a LayerNorm normalises them together with other axes; one over channels alone can "
                "be cut",
            )

    def _name(self, node: fx.Node) -> str:
        if node.op == "call_module":
            return f"{type(self.submodules[str(node.target)]).__name__} {str(node.target)!r}"
        return str(getattr(node.target, "__name__", node.target))

    def _freeze(self, marks: Any, reason: str) -> None:
        for mark in tree_flatten(marks)[0]:
            if isinstance(mark, Tensor):
                self.known.freeze(mark, reason)


def _unlabelled(value: Any) -> Tensor | None:
    return torch.full(value.shape, NONE, device="cpu") if isinstance(value, Tensor) else None
