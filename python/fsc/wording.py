"""Values in sentences. What `fsc --help` imports needs them too, and does without torch."""

import sys
from typing import Any

_LONGEST = 200  # characters of a value in a sentence
_END = 60  # of them from its end, where a path has its name


def shown(value: Any) -> str:
    """A value in a few words: networks by their class, tensors and arrays by their shape.

    Example:
        >>> shown("a b"), shown([1, 2])
        ("'a b'", '[1, 2]')
    """
    # Where these are not imported no value is of them.
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and isinstance(value, torch.nn.Module):
        return type(value).__name__
    is_array = numpy is not None and isinstance(value, numpy.ndarray)
    is_array = is_array or (torch is not None and isinstance(value, torch.Tensor))
    if is_array and value.ndim:
        return f"{type(value).__name__} {list(value.shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - _END]}…{text[-_END:]}"
