"""Progress on stderr: a bar on a terminal, a line now and then elsewhere, with --quiet nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich import progress
from rich.console import Console

from fsc.cli import quietness

# Where nobody watches a bar, a line this often shows that the work goes on.
SECONDS_BETWEEN_LINES = 8.0


class Reporter:
    """Tells what is going on; use it as a context, so that the bar is gone at the end."""

    def __init__(self) -> None:
        """Decides between bar, lines and nothing by what stderr is, and by --quiet."""
        self._console, self._is_quiet = Console(stderr=True), quietness.is_quiet()
        self._bar: progress.Progress | None = None
        if self._console.is_terminal and not self._is_quiet:
            self._bar = progress.Progress(
                progress.SpinnerColumn(),
                progress.TextColumn("{task.description}", markup=False),
                progress.BarColumn(bar_width=24),
                progress.TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
        self._last_line = time.monotonic()

    def __enter__(self) -> Reporter:
        """Starts the bar."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Removes the bar, whatever happened."""
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        """Write one line that stays; nothing with --quiet."""
        if self._is_quiet:
            return
        self._console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
        self._last_line = time.monotonic()

    def stage(self, title: str) -> Callable[[str, int, int], None]:
        """Begin a piece of work; what it returns is called with (what, done, total)."""
        if self._bar is None:
            return lambda what, done, total: self._line(f"  {title}: {what} {done} of {total}")
        bar = self._bar
        for finished in bar.task_ids:
            bar.remove_task(finished)
        task = bar.add_task(title, total=None)
        return lambda what, done, total: bar.update(
            task, description=f"{title}: {what} {done} of {total}", completed=done, total=total
        )

    def _line(self, text: str) -> None:
        if time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self.say(text)
