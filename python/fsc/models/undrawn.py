"""Networks whose weights nobody draws, where shapes are all that counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

# Some functions of torch.nn.init come by the mode themselves, and what they call does not.
_DRAWS = (
    init.kaiming_normal_, init.kaiming_uniform_, init.normal_, init.uniform_,
    Tensor.normal_, Tensor.uniform_,
)  # fmt: skip


class Undrawn(TorchFunctionMode):
    """Leaves out the random numbers of new weights.

    They take longer than all the rest, and the first one on the meta device loads torch's compiler.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Hand back unchanged what would be filled."""
        kwargs = kwargs or {}
        if func in _DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
