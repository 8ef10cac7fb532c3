"""Pruning schemes: what a network keeps. Schemes are data."""

from __future__ import annotations

from torch import nn

from fsc.networks.wrappers import unwrap
from fsc.scheme_tables import fits, names
from fsc.schemes.files import from_json
from fsc.schemes.finding import find
from fsc.schemes.published import named
from fsc.schemes.quantized import QuantizedScheme, check_quantized, quantized
from fsc.schemes.sparse import SparseScheme, check_sparse, sparse
from fsc.schemes.structured import Scheme, check_structured, structured

AnyScheme = Scheme | SparseScheme | QuantizedScheme


def check(scheme: AnyScheme, model: nn.Module) -> None:
    """Make sure that a scheme fits a network, before any work is done.

    Raises:
        ValueError: it does not; see `check_structured`, `check_sparse` and `check_quantized`.
    """
    model = unwrap(model)
    if isinstance(scheme, SparseScheme):
        check_sparse(scheme, model)
    elif isinstance(scheme, QuantizedScheme):
        check_quantized(scheme, model)
    else:
        check_structured(scheme, model)


__all__ = [
    "AnyScheme",
    "QuantizedScheme",
    "Scheme",
    "SparseScheme",
    "check",
    "check_quantized",
    "check_sparse",
    "check_structured",
    "find",
    "fits",
    "from_json",
    "named",
    "names",
    "quantized",
    "sparse",
    "structured",
]
