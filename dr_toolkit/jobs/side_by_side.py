"""Pieces of work beside each other in threads: one line of progress for all of them, and an end that every one of them hears of."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from typing import TypeVar

from dr_toolkit import clock, process
from dr_toolkit.log import Progress

_Made = TypeVar("_Made")

MOST = 4
"""Of a machine with many cores: each piece has programs or a server of its own, with their memory."""
_AGAIN_S = 0.2


def width() -> int:
    """How many pieces suit this machine."""
    return min(MOST, os.cpu_count() or 1)


def run(
    names: Sequence[str], most: int, work: Callable[[str, Progress], _Made], progress: Progress
) -> Iterator[tuple[str, Future[_Made]]]:
    """Work on several things at a time.

    Args:
        names: of the things, in the order in which they begin.
        most: at a time.
        work: for one of them; in a thread of its own.
        progress: told of all of them in one line.

    Yields:
        A name, and its future, which is done.

    Raises:
        Interrupted: a signal or a deadline came. Every piece was ended and has cleaned up.
    """
    halt, shared = clock.Halt(), Shared(progress)

    def one(name: str) -> _Made:
        with clock.under(halt):
            halt.look()
            return work(name, Part(shared, name, halt))

    with ThreadPoolExecutor(most, thread_name_prefix="drctl-beside") as pool:
        tasks = {pool.submit(one, name): name for name in names}
        try:
            for task in as_completed(tasks):
                yield tasks[task], task
        except BaseException as error:
            _end(list(tasks), halt, getattr(error, "exit_code", 130) - 128)
            raise


def _end(tasks: Sequence[Future[_Made]], halt: clock.Halt, number: int) -> None:
    """No signal reaches the threads: they are told, and what they wait for is ended, until the last has cleaned up."""
    halt.ask(max(1, number))
    for task in tasks:
        task.cancel()
    while wait(tasks, _AGAIN_S).not_done:  # one may have started a program in this very moment
        process.end_all()


class Shared:
    """One line of progress for several pieces of work.

    Args:
        progress: where it is shown.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._stages: dict[str, str] = {}
        self._lock = threading.Lock()

    def stage(self, name: str, what: str | None) -> None:
        """A piece of work is at this stage; None when it ended."""
        with self._lock:
            before = dict(self._stages)
            self._stages.pop(name, None)
            if what is not None:
                self._stages[name] = what
            if self._stages and self._stages != before:
                self._progress.start(None, sentence(self._stages))
            elif before and not self._stages:
                self._progress.close()

    def advance(self, count: int, objects: int) -> None:
        """So much more was done by one of them."""
        self._progress.advance(count, objects)

    def note(self, text: str) -> None:
        """Something worth a line."""
        self._progress.note(text)


def sentence(stages: Mapping[str, str]) -> str:
    """The stages in one line, each with its component's name once. Pure."""
    return ", ".join(
        what if what.startswith(f"{name}:") else f"{name}: {what}" for name, what in stages.items()
    )


class Part:
    """The progress of one piece of work, and the place at which it is told to end.

    Args:
        shared: the line of all of them.
        name: of its component.
        halt: looked at with every step.
    """

    def __init__(self, shared: Shared, name: str, halt: clock.Halt) -> None:
        self._shared, self._name, self._halt = shared, name, halt

    def start(self, total_bytes: int | None, what: str) -> None:  # noqa: ARG002  # the line is that of several
        """See ``log.Progress``."""
        self._halt.look()
        self._shared.stage(self._name, what)

    def advance(self, bytes: int, objects: int = 0) -> None:  # noqa: A002  # the unit is the name
        """See ``log.Progress``."""
        self._halt.look()
        self._shared.advance(bytes, objects)

    def note(self, text: str) -> None:
        """See ``log.Progress``."""
        self._shared.note(text)

    def close(self) -> None:
        """See ``log.Progress``."""
        self._shared.stage(self._name, None)
