"""The one place that reads the clock, so that every other module can be given a time.

The store's clock, not this one, decides about commits and deletions; this clock names things and measures durations.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from dr_toolkit.errors import Interrupted

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


def now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds that never go back, for durations and deadlines of this process only."""
    return time.monotonic()


class Halt:
    """Asks the work of other threads to end. Signals reach the main thread alone; this is how it passes them on."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._number = 0

    def ask(self, signal_number: int) -> None:
        """Let every thread that works under it be interrupted at its next wait or look."""
        self._number = signal_number
        self._asked.set()

    def look(self) -> None:
        """Go on, or not.

        Raises:
            Interrupted: the work is to end.
        """
        if self._asked.is_set():
            raise Interrupted(self._number)

    def wait(self, seconds: float) -> None:
        """Wait, or not to the end.

        Raises:
            Interrupted: the work is to end.
        """
        self._asked.wait(seconds)
        self.look()


_local = threading.local()


@contextmanager
def under(halt: Halt) -> Iterator[None]:
    """In this thread, `sleep` obeys the halt, once: what cleans up afterwards may wait."""
    _local.halt = halt
    try:
        yield
    finally:
        _local.halt = None


def sleep(seconds: float) -> None:
    """Wait. A signal handler that raises, or a halt, ends the wait; nothing or less than nothing returns at once."""
    if seconds <= 0:
        return
    halt: Halt | None = getattr(_local, "halt", None)
    if halt is None:
        time.sleep(seconds)
        return
    try:
        halt.wait(seconds)
    except Interrupted:
        _local.halt = None
        raise


def rfc3339(moment: datetime) -> str:
    """Write a moment as ``2026-11-23T08:45:49Z``: UTC, whole seconds, fractions cut off.

    Raises:
        ValueError: the moment has no time zone, so nobody can know when it was.
    """
    if moment.tzinfo is None:
        raise ValueError(f"a moment without a time zone: {moment.isoformat()}")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_rfc3339(text: str) -> datetime:
    """Read an RFC 3339 moment, with any offset and fraction, as an aware UTC datetime.

    Raises:
        ValueError: the text is not an RFC 3339 date and time with an offset.
    """
    if not _RFC3339.fullmatch(text):
        raise ValueError(f'"{text}" is not a time like 2026-11-23T08:45:49Z')
    return datetime.fromisoformat(text.upper()).astimezone(UTC)
