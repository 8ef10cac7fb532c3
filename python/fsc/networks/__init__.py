"""Reading, rewriting, measuring and saving networks."""

from typing import TYPE_CHECKING

from fsc import lazy

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(__name__, {})
