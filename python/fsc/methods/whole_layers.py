"""Schemes under which blocks or layers are other ones in the student: which methods can do it."""

from __future__ import annotations

from fsc.schemes import AnyScheme, Decoupling, DropBlocks

# What a method says of itself that takes such a scheme -> (what others need, who takes it).
_CAPABILITIES: dict[type, tuple[str, str, str]] = {
    DropBlocks: (
        "takes_blocks",
        "keep all blocks for {method}, got {scheme!r}, which drops some",
        "SolveThenTrain, where it trains, MiR and L1Norm take it",
    ),
    Decoupling: (
        "takes_decoupling",
        "leave every layer whole for {method}, got {scheme!r}, which decouples some",
        "SolveThenTrain, FSKD, MiR, KD, FitNet, BackProp and L1Norm take it",
    ),
}


def takes(method: object, kind: type) -> bool:
    """Whether a method takes a kind of scheme under which layers are others in the student."""
    return bool(getattr(method, _CAPABILITIES[kind][0], False))


def refusal(scheme: AnyScheme, method: str) -> str:
    """Why a method cannot take such a scheme, and who can."""
    _, rule, takers = _CAPABILITIES[type(scheme)]
    return f"scheme must {rule.format(method=method, scheme=scheme.name)}; {takers}"


def check_takes(method: object, scheme: object, called: str | None = None) -> None:
    """Make sure that a method takes a scheme, before any work is done.

    Args:
        method: any.
        scheme: of any kind, or what is asked for in the place of one.
        called: what the sentence calls the method; None: its class.

    Raises:
        ValueError: it solves or aligns layer by layer, and needs all of them as they are.
    """
    if isinstance(scheme, DropBlocks | Decoupling) and not takes(method, type(scheme)):
        raise ValueError(refusal(scheme, called or type(method).__name__))
