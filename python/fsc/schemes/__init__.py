"""Pruning schemes: what a network keeps. Schemes are data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from fsc.channels.proof import channel_groups
from fsc.images.joint import Inputs
from fsc.networks.entry import taken_in
from fsc.networks.plain import plain, plain_name
from fsc.networks.wrappers import unwrap
from fsc.scheme_tables import fits, names
from fsc.schemes.blocks import DropBlocks, check_blocks
from fsc.schemes.decoupling import Decoupling, named_layers
from fsc.schemes.files import from_json
from fsc.schemes.finding import find
from fsc.schemes.pointwise_alone import pointwise_alone
from fsc.schemes.published import named
from fsc.schemes.quantized import QuantizedScheme, check_quantized, quantized
from fsc.schemes.slimming import by_scale, slimming
from fsc.schemes.sparse import SparseScheme, check_sparse, sparse
from fsc.schemes.structured import Scheme, channels_left, structured

AnyScheme = Scheme | SparseScheme | QuantizedScheme | DropBlocks | Decoupling
"""What `fsc.compress(scheme=...)` takes beside names and files."""


def check(scheme: AnyScheme, model: nn.Module, example_inputs: Inputs) -> None:
    """Make sure that a scheme fits a network, before any work is done.

    Args:
        scheme: what stays.
        model: the network.
        example_inputs: what it takes, as for `structured`; one image is enough.

    Raises:
        ValueError: it does not; see `channels_left`, `check_sparse`, `check_quantized`,
            `check_blocks` and `named_layers`.
    """
    given = unwrap(model)
    model, inputs, _ = taken_in("check", model, example_inputs)
    model = plain(model, inputs)
    scheme = in_plain_names(scheme, model)
    if isinstance(scheme, SparseScheme):
        check_sparse(scheme, model)
    elif isinstance(scheme, QuantizedScheme):
        check_quantized(scheme, model)
    elif isinstance(scheme, DropBlocks):
        check_blocks(scheme, model, inputs)
    elif isinstance(scheme, Decoupling):
        named_layers(scheme, given, model)
    elif scheme.kept:
        groups = channel_groups(model, inputs)
        channels_left(scheme, model, groups)
        by_scale(scheme, model, groups)
    else:
        raise ValueError(f"scheme {scheme.name!r} prunes no layer")


def in_plain_names(scheme: AnyScheme, model: nn.Module) -> AnyScheme:
    """The scheme with the names that its layers have in a network that `plain` returned."""
    if isinstance(scheme, Scheme | SparseScheme):
        kept = {plain_name(model, name): count for name, count in scheme.kept.items()}
        return replace(scheme, kept=kept)
    if isinstance(scheme, QuantizedScheme):
        bits = {plain_name(model, name): count for name, count in scheme.bits.items()}
        return replace(scheme, bits=bits)
    if isinstance(scheme, Decoupling) and isinstance(scheme.terms, Mapping):
        terms = {plain_name(model, name): count for name, count in scheme.terms.items()}
        return replace(scheme, terms=terms)
    return scheme


__all__ = [
    "AnyScheme",
    "Decoupling",
    "DropBlocks",
    "QuantizedScheme",
    "Scheme",
    "SparseScheme",
    "by_scale",
    "check",
    "check_blocks",
    "check_quantized",
    "channels_left",
    "check_sparse",
    "find",
    "fits",
    "from_json",
    "named",
    "named_layers",
    "names",
    "pointwise_alone",
    "quantized",
    "slimming",
    "sparse",
    "structured",
]
