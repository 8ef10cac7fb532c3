"""Operators of few-shot network compression, compiled for PyTorch: tensors in, tensors out."""

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fsc_ext import _version

_module = importlib.util.find_spec("fsc_ext._C")
if _module is None or _module.origin is None:
    raise ImportError(
        f"fsc_ext: {Path(__file__).parent} holds no compiled module fsc_ext._C; when this source "
        "folder shadows the installed package, leave it or install with "
        "`pip install --no-build-isolation -e .`, otherwise build again with `pip install .`"
    )
_torch, _cuda = _version.compiled_against(Path(_module.origin))
_version.require_matching_torch(_torch, torch.__version__)
_version.require_matching_cuda(_cuda, torch.version.cuda)

try:
    import fsc_ext._C as _C
except ImportError as error:
    raise ImportError(
        f"fsc_ext: the compiled module {_module.origin} cannot be loaded ({error}); build it again "
        "with `pip install --no-build-isolation --force-reinstall --no-deps .`"
    ) from error

from fsc_ext.cross_distill import (  # noqa: E402
    cross_distill_layer,
    distill_residual,
    soft_cross_mix,
)
from fsc_ext.elimination import elimination_order  # noqa: E402
from fsc_ext.fold import foreach_fuse_conv_bn, fuse_conv_bn  # noqa: E402
from fsc_ext.fold_absorb import absorb_conv1x1, foreach_absorb_conv1x1  # noqa: E402
from fsc_ext.gram import gram_accumulate_  # noqa: E402
from fsc_ext.line_search import line_search_relu_  # noqa: E402
from fsc_ext.prox import (  # noqa: E402
    keep_topk_,
    keep_topk_groups_,
    prox_group_l2,
    prox_group_l2_,
    prox_l1,
    prox_l1_,
)
from fsc_ext.prox_foreach import foreach_prox_group_l2_  # noqa: E402
from fsc_ext.quantize import prox_quantize, quantize_weight  # noqa: E402
from fsc_ext.solve import solve_quadratic_, solve_relu_  # noqa: E402
from fsc_ext.step import adam_prox_, sgd_prox_  # noqa: E402
from fsc_ext.step_foreach import foreach_adam_prox_, foreach_sgd_prox_  # noqa: E402

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        # Operators that are only compiled, and not installed, have no version but work.
        if name == "__version__":
            return importlib.metadata.version("fsc-ext")
        raise AttributeError(f"module 'fsc_ext' has no attribute {name!r}")


def build_info() -> dict[str, str | bool]:
    """How this build was made: the torch and compiler versions, and CUDA on or off and why."""
    return _C.build_info()


__all__ = [
    "absorb_conv1x1",
    "adam_prox_",
    "build_info",
    "cross_distill_layer",
    "distill_residual",
    "elimination_order",
    "foreach_absorb_conv1x1",
    "foreach_adam_prox_",
    "foreach_fuse_conv_bn",
    "foreach_prox_group_l2_",
    "foreach_sgd_prox_",
    "fuse_conv_bn",
    "gram_accumulate_",
    "keep_topk_",
    "keep_topk_groups_",
    "line_search_relu_",
    "prox_group_l2",
    "prox_group_l2_",
    "prox_l1",
    "prox_l1_",
    "prox_quantize",
    "quantize_weight",
    "sgd_prox_",
    "soft_cross_mix",
    "solve_quadratic_",
    "solve_relu_",
]
