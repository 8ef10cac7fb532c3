"""What is no error and must not pass in silence."""


class CompressionWarning(UserWarning):
    """A compression that works and may still not be what was meant; the sentence says why.

    Example:
        >>> import warnings
        >>> warnings.filterwarnings("error", category=CompressionWarning)  # stop instead
    """
