"""Channels: which go together, and cutting them."""

from typing import TYPE_CHECKING

from fsc import lazy

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(__name__, {})
