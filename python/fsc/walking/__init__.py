"""Teacher and student side by side, each layer of each network run once."""

from typing import TYPE_CHECKING

from fsc import lazy

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(__name__, {})
