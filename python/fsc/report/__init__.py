"""What people look at: figures, analyses, and a page of what was done."""

from typing import TYPE_CHECKING

from fsc import lazy

if TYPE_CHECKING:
    from fsc.report.web_page import page as page
else:
    __getattr__, __dir__ = lazy.exports(__name__, {"page": "fsc.report.web_page"})
