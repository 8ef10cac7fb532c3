"""The benchmarks that pytest runs, `bench_*(run, ...)`, as cases: a name, and calls by variant."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import product
from types import ModuleType
from typing import Any

import torch
from in_turns import Calls

# Makes the calls; what they need to stay as it is stands on the stack.
Case = Callable[[ExitStack], Calls]

# What counts as good plain PyTorch: the first of these that a benchmark has.
PLAIN = ("plain", "plain_float32", "torch", "copied", "reference")


def cases(module: ModuleType) -> Iterator[tuple[str, Case]]:
    """Every benchmark of a module with every combination of its parameters but the variant.

    A name is that of the function without `bench_`, and the ids of the parameters, outermost first.
    """
    for name, function in vars(module).items():
        if not name.startswith("bench_"):
            continue
        values = _parameters(function)
        variant = next(parameter for parameter, by_id in values.items() if "fused" in by_id)
        variants = values.pop(variant)
        plain = next(each for each in PLAIN if each in variants)
        both = {each: {variant: variants[each]} for each in ("fused", plain)}
        for ids in product(*values.values()):
            chosen = {p: values[p][each] for p, each in zip(values, ids, strict=True)}
            words = " ".join([name.removeprefix("bench_"), *ids])
            yield words, partial(_calls, function, chosen, both)


def _parameters(function: Any) -> dict[str, dict[str, Any]]:
    """Values by id of every parameter."""
    found = {}
    for mark in reversed(function.pytestmark):
        parameter, values = mark.args
        ids = mark.kwargs.get("ids", str)
        named = map(ids, values) if callable(ids) else ids
        found[parameter] = dict(zip(named, values, strict=True))
    return found


def _calls(
    function: Callable[..., object],
    chosen: dict[str, Any],
    variants: dict[str, dict[str, Any]],
    _: ExitStack,
) -> Calls:
    """What the benchmark hands to `run`, each variant with inputs of its own but equal values."""
    found: dict[str, Callable[[], object]] = {}
    for name, variant in variants.items():

        def run(group: str, call: Callable[..., object], *given: object, name: str = name) -> None:
            found[name] = partial(call, *given)

        torch.manual_seed(0)
        function(run, **chosen, **variant)
    return found
