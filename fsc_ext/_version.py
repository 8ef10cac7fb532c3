"""The check that the torch at hand is the one the extension was compiled against."""


def require_matching_torch(built: str, running: str) -> None:
    """Compares minor versions: PyTorch's C++ interface may change between them.

    Raises:
        ImportError: they differ; the sentence says how to build again.
    """
    if built.split(".")[:2] != running.split(".")[:2]:
        raise ImportError(
            f"fsc_ext was compiled against torch {built}, but torch {running} is running; build "
            "it again with `pip install --no-build-isolation --force-reinstall --no-deps .`"
        )
