"""An end in time for work that has none of its own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from dr_toolkit import errors


class Expired(errors.Interrupted):
    """The time is over. It takes the way of an interruption, so that everything is cleaned up and no retry swallows it."""


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise ``Expired`` in the block once it has taken so many seconds. Only in the main thread, and not nested.

    Args:
        seconds: above 0.
    """

    def stop(number: int, _frame: object) -> None:
        raise Expired(number)

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(0.001, seconds))
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
