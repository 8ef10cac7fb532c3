"""A teacher and images as users hand them over, made one plain network that takes one tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from fsc.arguments import check_module
from fsc.images.checks import check_images, device_of
from fsc.images.forward import Forward
from fsc.images.joint import Inputs, check_values, input_names, shapes_in_words
from fsc.networks.calls import call_of, learnable, output_of
from fsc.networks.computed_weights import copy_of
from fsc.networks.draws import check_same_each_time
from fsc.networks.gathering import Images, gathered
from fsc.networks.joint_input import one_input
from fsc.networks.plain import check_followed, plain
from fsc.networks.states import check_sizes_known
from fsc.networks.tracing import trace
from fsc.networks.wrappers import (
    check_layers,
    check_teacher,
    dtype_of,
    in_single_precision,
    outside_of_inference,
    unwrap,
)


@dataclass(frozen=True)
class Entry:
    """What a compression begins with.

    Attributes:
        given: the network as the user has it, unwrapped.
        teacher: the same in plain modules, in float32 or float64, which takes one tensor.
        images: that tensor, [N, C, ...], or [N, values] where the network takes several.
        labels: that came with the images, int64 [N] on the CPU; None where not every one did.
    """

    given: nn.Module
    teacher: nn.Module
    images: Tensor
    labels: Tensor | None = None


def enter(function: str, model: nn.Module, images: Images, num_images: int | None = None) -> Entry:
    """Check a network and images, and bring them together.

    Args:
        function: who asks, for the sentences.
        model: as for `fsc.compress`; it is not changed.
        images: as for `fsc.compress`.
        num_images: how many are needed at most, at least 1; no more are read. None: all.

    Raises:
        ValueError: the network cannot be read or changed, or the images do not fit it.
        TypeError: the images are of the wrong type.
    """
    given = outside_of_inference(unwrap(model))
    check_teacher(given)
    teacher, inputs, labels = taken_in(function, given, images, num_images)
    if isinstance(inputs, Tensor):
        check_images(function, inputs, teacher, moved=False)
    else:
        _check_devices(function, inputs, teacher)
        check_runs(function, inputs, teacher)
    inputs = tree_map(lambda leaf: learnable(leaf[:num_images].detach()), inputs)
    example = tree_map(lambda leaf: leaf[:2], inputs)
    check_same_each_time(function, teacher, call_of(example))
    teacher = plain(teacher, example)
    check_followed(function, teacher, example)
    check_layers(teacher)
    teacher, rows = one_input(function, teacher, inputs)
    check_images(function, rows, teacher, trace(teacher), moved=False)
    if isinstance(inputs, Tensor):
        check_runs(function, rows, teacher)
    return Entry(given, teacher, rows, None if labels is None else labels[:num_images])


def taken_in(
    function: str, model: nn.Module, images: Images, num_images: int | None = None
) -> tuple[nn.Module, Inputs, Tensor | None]:
    """A network without wrappers and what it takes, in single precision where in half; labels.

    Args:
        function: who asks, for the sentences.
        model: as for `fsc.compress`; it is not changed.
        images: as for `fsc.compress`.
        num_images: how many are enough. None: all are wanted.

    Raises:
        ValueError: a layer does not know its sizes yet, the images do not fit the forward, or hold
            what rows of them cannot.
        TypeError: the model or the images are of the wrong type.
    """
    check_module(f"{function}: model", model)
    given = outside_of_inference(unwrap(model))
    check_sizes_known(f"{function}: model", given)
    found, labels = gathered(function, images, given, num_images)
    network, inputs = in_single_precision(given, found)
    if not isinstance(inputs, Tensor):
        check_values(function, inputs, dtype_of(network))
    return network, inputs, labels


def _check_devices(function: str, inputs: Inputs, model: nn.Module) -> None:
    for name, leaf in zip(input_names(inputs), tree_flatten(inputs)[0], strict=True):
        if leaf.device != device_of(model, leaf):
            raise ValueError(
                f"{function}: images must be on the device of the network, "
                f"{device_of(model, leaf)}, got {leaf.device} for {name}"
            )


def check_runs(function: str, inputs: Inputs, model: nn.Module, num_images: int = 1) -> None:
    """Make sure that a network, which is copied for that, runs on the first of its inputs.

    Args:
        function: who asks, for the sentence.
        inputs: of which the first go to the device of the network.
        model: it is run in evaluation mode.
        num_images: how many it is to run on at once: some take no other number.

    Raises:
        ValueError: it does not.
    """
    first = tree_map(lambda leaf: leaf[:num_images].to(device_of(model, leaf)), inputs)
    error = _failure(model, first)
    if error is not None:
        raise ValueError(
            f"{function}: images must be {unfit(model, first, inputs, error)}"
        ) from error


def _failure(model: nn.Module, inputs: Inputs) -> Exception | None:
    """What a copy of a network raises on inputs; None where it runs."""
    try:
        output_of(copy_of(model), call_of(inputs))
    except Exception as error:  # whatever a forward of somebody else raises
        return error
    return None


def unfit(model: nn.Module, first: Inputs, inputs: Inputs, error: Exception) -> str:
    """What inputs must be on which a network fails, and what was given: the end of a sentence.

    Args:
        model: it is copied and run for that.
        first: those of the inputs that it was run on, on its device.
        inputs: all that were given.
        error: what it raised.
    """
    forward = Forward.of(model)
    if _is_one_dict(first) and any(_failure(model, leaf) is None for leaf in first[0].values()):
        names = ", ".join(map(repr, first[0]))
        return f"a tensor or a dict of the arguments of {forward}, got {names}"
    integers = _wanted_as_floats(model, first)
    if integers:
        return f"floating point for {forward}, got {' and '.join(integers)}"
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    # Torch goes on with a list of signatures.
    line = line.removesuffix(", but expected one of:")
    return (
        f"what {forward} takes, got {shapes_in_words(inputs)}, on which it fails with: "
        f"{type(error).__name__}: {line}"
    )


def _is_one_dict(inputs: Inputs) -> TypeGuard[tuple[dict[str, Tensor]]]:
    """Whether the only argument is a dict, as where no name of it is one of an argument."""
    return isinstance(inputs, tuple) and len(inputs) == 1 and isinstance(inputs[0], dict)


def _wanted_as_floats(model: nn.Module, inputs: Inputs) -> list[str]:
    """The integer inputs, in words, without which being such a network would run: one, or all."""
    leaves, form = tree_flatten(inputs)
    wide = [leaf.is_floating_point() or leaf.is_complex() for leaf in leaves]
    integers = [i for i, is_wide in enumerate(wide) if not is_wide]
    for chosen in ([[i] for i in integers] + [integers]) if integers else []:
        floats = [
            leaf.to(dtype_of(model)) if i in chosen else leaf for i, leaf in enumerate(leaves)
        ]
        if _failure(model, tree_unflatten(floats, form)) is None:
            names = input_names(inputs)
            return [f"{leaves[i].dtype} for {names[i]}" for i in chosen]
    return []
