"""How long networks take for some images, measured side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from fsc.arguments import as_count, is_several
from fsc.images.checks import device_of
from fsc.images.joint import Inputs, check_numbers
from fsc.networks.calls import call_of
from fsc.networks.entry import unfit
from fsc.networks.modes import evaluation_mode
from fsc.networks.outputs import tensors_of
from fsc.networks.states import check_holds_values
from fsc.progress import Progress

# Networks are timed for one image, and for so many at once.
BATCH = 64
_NUM_WARM_UP = 3


def latencies(
    networks: Iterable[nn.Module],
    images: Inputs,
    *,
    repeats: int = 50,
    progress: Progress | None = None,
) -> list[float]:
    """Return the milliseconds that each network takes for some images at once, on one thread.

    The median of `timings` leaves out what the machine does now and then.

    Args:
        networks: see `timings`, as for what follows.
        images: [N, C, ...] with N above 0.
        repeats: measurements of each.
        progress: told of every turn.

    Returns:
        One median a network, in their order.

    Raises:
        ValueError: there is no network or image, a network does not run, or repeats is below 1.
        TypeError: an argument is of the wrong type.
    """
    found = _measured("latencies", networks, images, repeats, progress)
    return [statistics.median(each) for each in found]


def timings(
    networks: Iterable[nn.Module],
    images: Inputs,
    *,
    repeats: int = 50,
    progress: Progress | None = None,
) -> list[list[float]]:
    """Measure the milliseconds that each network takes for some images at once, on one thread.

    The networks take turns, so that whatever else the machine does meets all of them. On a CPU the
    time of this thread counts, which is that of the clock where nothing else runs. A network on
    another device is timed by the clock, and answers when its scores are back on the CPU.

    Args:
        networks: each runs in evaluation mode where its parameters are; modes and the number of
            threads are restored.
        images: what they take, [N, ...] in every input with N above 0, normalised, anywhere.
        repeats: measurements of each, at least 1; a few more to warm up are not counted.
        progress: told of every turn, those to warm up too, in no time that is measured.

    Returns:
        Every measurement of each network, turn after turn, in their order.

    Raises:
        ValueError: there is no network or image, a network does not run, or repeats is below 1.
        TypeError: an argument is of the wrong type.
    """
    return _measured("timings", networks, images, repeats, progress)


def _measured(
    function: str,
    networks: Iterable[nn.Module],
    images: Inputs,
    repeats: int,
    progress: Progress | None,
) -> list[list[float]]:
    """See `timings`; the function is that of the user, for what is refused."""
    # A network of several is one to be timed, but for a list of them.
    is_one = isinstance(networks, nn.Module) and not isinstance(networks, nn.ModuleList)
    if is_one or not is_several(networks):
        raise TypeError(f"{function}: networks must be several, got {type(networks).__name__}")
    networks = tuple(networks)
    if not networks:
        raise ValueError(f"{function}: networks must be one or more, got none")
    for network in networks:
        check_holds_values(f"{function}: networks", network)
    check_numbers(function, images)
    repeats = as_count(f"{function}: repeats", repeats)
    calls = [_call(network, images) for network in networks]
    found: list[list[float]] = [[] for _ in networks]
    with ExitStack() as stack:
        stack.enter_context(one_thread())
        stack.enter_context(torch.inference_mode())
        for network in networks:
            stack.enter_context(evaluation_mode(network))
        num_turns = _NUM_WARM_UP + repeats
        for turn in range(num_turns):
            for place in range(len(networks)):
                # Another one first each time: what the machine does may have a rhythm of its own.
                index = (turn + place) % len(networks)
                try:
                    found[index].append(_milliseconds(networks[index], calls[index]))
                except Exception as error:  # whatever a forward of somebody else raises
                    said = unfit(networks[index], _call(networks[index], images), images, error)
                    raise ValueError(f"{function}: images must be {said}") from error
            if progress is not None:
                progress("turn", turn + 1, num_turns)
    return [times[_NUM_WARM_UP:] for times in found]


def _call(network: nn.Module, images: Inputs) -> Any:
    """Arguments by place and by name, where the network is: copies, which it may write into."""
    return tree_map(lambda leaf: leaf.to(device_of(network, leaf), copy=True), call_of(images))


def _milliseconds(network: nn.Module, call: Any) -> float:
    args, kwargs = call
    is_here = all(leaf.device.type == "cpu" for leaf in tree_leaves(call))
    clock = time.thread_time if is_here else time.perf_counter
    start = clock()
    for output in tensors_of(network(*args, **kwargs)):
        output.cpu()
    return 1000 * (clock() - start)


def compiled(network: nn.Module) -> nn.Module:
    """The network as `torch.compile` makes it, once for every shape: at the first call with it.

    As a whole: a call ends in an exception where a part would stay as it is.
    """
    return cast(nn.Module, torch.compile(network, dynamic=False, fullgraph=True))


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread; the number from before comes back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def largest_layer(network: nn.Module, image: Tensor) -> int:
    """Bytes that one layer reads and writes at once for an image, at most.

    Args:
        network: it runs once, in evaluation mode.
        image: [1, C, ...], moved to the device of the network.

    Example:
        >>> largest_layer(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.zeros(1, 1, 5, 5))
        200
    """
    largest = 0

    def weigh(_: nn.Module, read: Any, written: Any) -> None:
        nonlocal largest
        leaves = [leaf for leaf in tree_leaves((read, written)) if isinstance(leaf, Tensor)]
        largest = max(largest, sum(leaf.nbytes for leaf in leaves))

    leaves = [module for module in network.modules() if not any(module.children())]
    hooks = [module.register_forward_hook(weigh) for module in leaves]
    try:
        with evaluation_mode(network), torch.inference_mode():
            network(image.to(device_of(network, image), copy=True))
    finally:
        for hook in hooks:
            hook.remove()
    return largest
