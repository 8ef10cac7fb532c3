"""Values in sentences; without torch, which modules that help lists do not import."""

import sys

_LONGEST = 200  # characters of a value in a sentence
_END = 60  # of them from its end, where a path has its name


def shown(value: object) -> str:
    """A value in a few words: networks by their class, tensors and arrays by their shape.

    Example:
        >>> shown("a b"), shown([1, 2])
        ("'a b'", '[1, 2]')
    """
    torch, numpy = (sys.modules.get(name) for name in ("torch", "numpy"))
    if torch is not None and isinstance(value, torch.nn.Module):
        return type(value).__name__
    arrays = tuple(
        kind for kind in (getattr(torch, "Tensor", None), getattr(numpy, "ndarray", None)) if kind
    )
    if isinstance(value, arrays) and value.ndim:
        return f"{type(value).__name__} {list(value.shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - _END]}…{text[-_END:]}"
