"""One layer as a problem: moments, objectives, and what is solved for."""

from typing import TYPE_CHECKING

from fsc import lazy

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(__name__, {})
