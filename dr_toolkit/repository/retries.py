"""Trying again, within a bound, and open to signals all the time."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from dr_toolkit import clock, log

if TYPE_CHECKING:
    from collections.abc import Callable

    from dr_toolkit.errors import DrctlError

Result = TypeVar("Result")

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 10.0
_TOLD_PAUSE = 1.0


class Passing(Exception):
    """Raised by an attempt that failed in a way that may pass.

    Args:
        failure: what to raise when time is up.
        after: seconds that the other side asked to wait at least.
    """

    def __init__(self, failure: DrctlError, after: float = 0.0) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.after = after


@dataclass(frozen=True, slots=True)
class Retries:
    """Exponential pauses with jitter.

    Attributes:
        seconds: no attempt begins later than this after the first one.
    """

    seconds: float

    def run(self, attempt: Callable[[], Result]) -> Result:
        """Call ``attempt`` until it gives a result or fails for good.

        Raises:
            DrctlError: what the last attempt failed with.
        """
        deadline = clock.monotonic() + self.seconds
        pause = _FIRST_PAUSE
        while True:
            try:
                return interruptible(attempt)
            except Passing as passing:
                failure, cause, asked = passing.failure, passing.__cause__, passing.after
            wait = asked + pause * random.uniform(0.5, 1.5)  # noqa: S311 -- spreads load, hides nothing
            if clock.monotonic() + wait > deadline:
                raise failure from cause
            events = log.get("repository")
            # A person who waits for more than a moment is told why.
            tell = events.warning if pause >= _TOLD_PAUSE else events.info
            tell("trying again", on=failure.on, reason=failure.message, seconds=round(wait, 2))
            clock.sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE)


def interruptible(call: Callable[[], Result]) -> Result:
    """Call something that may wait outside of Python, where no signal would end the wait.

    Signals reach the main thread only. So there the call is made in another thread and waited for: after a signal that
    raises, what it does is left behind. In every other thread it is an ordinary call.
    """
    if threading.current_thread() is not threading.main_thread():
        return call()
    results: list[Result] = []
    failures: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 -- handed to the thread that waits
            failures.append(error)
        finally:
            done.set()

    threading.Thread(target=work, name="store", daemon=True).start()
    done.wait()
    if failures:
        raise failures[0]
    return results[0]
