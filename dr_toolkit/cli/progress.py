"""Progress for a person: bytes, rate and objects on standard error. Imported only on a terminal."""

from __future__ import annotations

import threading

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from dr_toolkit import clock
from dr_toolkit.reporting.text import size
from dr_toolkit.words import counted

_UPDATE_SECONDS = 0.1
"""Calls come for every chunk, thousands a second; eyes and terminals need ten."""


class _Rate(ProgressColumn):
    """Bytes a second, in the units of every answer; rich's own column counts in thousands."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{size(speed)}/s", style="progress.data.speed")


class TerminalProgress:
    """A line that moves. Follows ``log.Progress``; safe from any thread.

    Args:
        color: whether colours are wanted.
    """

    def __init__(self, *, color: bool) -> None:
        self._console = Console(stderr=True, no_color=not color, highlight=False)
        self._lock = threading.Lock()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._objects = 0
        self._bytes = 0
        self._next = 0.0

    def start(self, total_bytes: int | None, what: str) -> None:
        """See ``log.Progress``."""
        self.close()
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(24),
            DownloadColumn(binary_units=True),
            _Rate(),
        )
        more = (TextColumn("{task.fields[objects]}"), TimeElapsedColumn())
        with self._lock:
            self._objects = self._bytes = 0
            # Standard output is for the answer; rich would move it to standard error.
            self._bar = Progress(
                *columns, *more, console=self._console, transient=True, redirect_stdout=False
            )
            self._task = self._bar.add_task(what, total=total_bytes, objects="")
            self._bar.start()

    def advance(self, bytes: int, objects: int = 0) -> None:  # noqa: A002  # the unit is the name
        """See ``log.Progress``."""
        with self._lock:
            self._bytes += bytes
            self._objects += objects
            if clock.monotonic() >= self._next:
                self._show()

    def note(self, text: str) -> None:
        """See ``log.Progress``."""
        self._console.print(text, markup=False)

    def close(self) -> None:
        """See ``log.Progress``."""
        with self._lock:
            if self._bar is not None:
                self._show()
                self._bar.stop()
            self._bar = self._task = None

    def _show(self) -> None:
        if self._bar is not None and self._task is not None:
            shown = counted(self._objects, "object") if self._objects else ""
            self._bar.update(self._task, completed=self._bytes, objects=shown)
            self._next = clock.monotonic() + _UPDATE_SECONDS
