"""The blocks that a scheme drops, chosen once for a compression and all its continuations."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from fsc import ranks
from fsc.methods.journal import Journal
from fsc.progress import Progress
from fsc.schemes import DropBlocks
from fsc.schemes.recoverability import chosen

# An entry of a journal: what is measured may come out otherwise when a compression goes on.
ENTRY = "blocks"


def named_blocks(
    scheme: DropBlocks,
    teacher: nn.Module,
    images: Tensor,
    batch_size: int,
    progress: Progress | None,
    journal: Journal | None,
) -> DropBlocks:
    """The scheme with the names of its blocks: those of the journal, or chosen and kept there.

    Args:
        scheme: what is asked for.
        teacher: the network, in plain modules.
        images: normalised images [N, C, H, W].
        batch_size: images that go through it at once.
        progress: told of the work.
        journal: of the compression; None: nothing is kept.

    Raises:
        ValueError: the scheme does not fit the network.
        OSError: the journal cannot be written.
    """
    entry = None
    if journal is not None:
        entry = journal.read(ENTRY, "the blocks are chosen again", {"blocks": list})
    if entry is not None:
        return replace(scheme, count=None, latency=None, blocks=entry[1]["blocks"])
    # What is measured differs from rank to rank.
    scheme = ranks.first(
        lambda: chosen(scheme, teacher, images, batch_size=batch_size, progress=progress)
    )
    if journal is not None:
        journal.write(ENTRY, {}, {"blocks": list(scheme.blocks or ())})
    return scheme
