"""Trying again, within a bound."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from dr_toolkit import clock, log

if TYPE_CHECKING:
    from collections.abc import Callable

    from dr_toolkit.errors import DrctlError

Result = TypeVar("Result")

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 10.0


class Passing(Exception):
    """Raised by an attempt that failed in a way that may pass.

    Args:
        failure: what to raise when time is up.
    """

    def __init__(self, failure: DrctlError) -> None:
        super().__init__(failure.message)
        self.failure = failure


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
                return attempt()
            except Passing as passing:
                failure, cause = passing.failure, passing.__cause__
            wait = pause * random.uniform(0.5, 1.5)  # noqa: S311 -- spreads load, hides nothing
            if clock.monotonic() + wait > deadline:
                raise failure from cause
            log.get("repository").info(
                "trying again", on=failure.on, reason=failure.message, seconds=round(wait, 2)
            )
            clock.sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE)
