"""Proofs of several snapshots beside each other: each in a scratch place of its own, none of them left when the gate ends."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait

from dr_toolkit import clock, errors, log, process
from dr_toolkit.config import Config
from dr_toolkit.jobs import inspect, kinds, verify
from dr_toolkit.jobs.verify import Result
from dr_toolkit.log import Progress
from dr_toolkit.repository import layout
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot

_log = log.get("jobs.proofs")

MOST = 4
"""Of a machine with many cores: each proof is a server of its own, with its memory, and has two programs that load."""
_AGAIN_S = 0.2


def run(
    config: Config, repository: Repository, wanted: Sequence[Snapshot], progress: Progress
) -> Iterator[tuple[str, Result | errors.DrctlError]]:
    """Prove snapshots by restore, several at a time where that is safe; each result comes when it is there, its evidence stored.

    Args:
        config: the configuration.
        repository: opened with the ``read`` role.
        wanted: at most one snapshot of each component.
        progress: told of all of them in one line.

    Yields:
        The component, and its result or why it could not be tried.

    Raises:
        Interrupted: a signal or a deadline came. Every proof was ended and has cleaned up.
    """
    if not wanted:
        return
    lost = known_losses(repository, [s.header.component for s in wanted])
    width = side_by_side([need(config, s) for s in wanted], _free(), limit(config))
    _log.info("proving", components=[s.header.component for s in wanted], side_by_side=width)
    halt, shared = clock.Halt(), Shared(progress)

    def prove(found: Snapshot) -> Result:
        name = found.header.component
        request = verify.Request((name,), "restore", snapshot=found.id)
        with clock.under(halt):
            halt.look()
            return verify.one(config, repository, request, found, Part(shared, name, halt), lost[name])

    with ThreadPoolExecutor(width, thread_name_prefix="drctl-prove") as pool:
        # The largest first: what takes longest must not begin last.
        order = sorted(wanted, key=lambda s: -need(config, s))
        tasks = {pool.submit(prove, found): found.header.component for found in order}
        try:
            for task in as_completed(tasks):
                yield tasks[task], _outcome(repository, task)
        except BaseException as error:
            _end(list(tasks), halt, getattr(error, "exit_code", 130) - 128)
            raise


def _outcome(repository: Repository, task: Future[Result]) -> Result | errors.DrctlError:
    try:
        result = task.result()
    except errors.DrctlError as error:
        return error
    verify.sign(repository, [result])
    return result


def _end(tasks: Sequence[Future[Result]], halt: clock.Halt, number: int) -> None:
    """No signal reaches the threads: they are told, and what they wait for is ended, until the last has cleaned up."""
    halt.ask(max(1, number))
    for task in tasks:
        task.cancel()
    while wait(tasks, _AGAIN_S).not_done:  # one may have started a program in this very moment
        process.end_all()


def known_losses(repository: Repository, names: Sequence[str]) -> dict[str, list[str]]:
    """What is damaged or missing of each component, in words."""
    snapshots, damaged = repository.snapshots()
    findings = repository.missing(snapshots, damaged)
    return {
        name: [f.text for f in findings if f.component == name]
        + [
            f'{e.message} ("{e.on}")'
            for e in damaged
            if (e.on or "").startswith(f"{layout.SNAPSHOTS}{name}/")
        ]
        + inspect.found_damaged([s for s in snapshots if s.header.component == name])
        for name in names
    }


def side_by_side(needs: Sequence[int], free: int, most: int) -> int:
    """How many can be restored at a time. The largest of them must fit together; one alone is always tried. Pure.

    Args:
        needs: bytes that each takes up in this machine's scratch place.
        free: bytes that are free there.
        most: never more than these.
    """
    largest = sorted(needs, reverse=True)
    width = 1
    while width < min(most, len(largest)) and sum(largest[: width + 1]) <= free:
        width += 1
    return width


def limit(config: Config) -> int:
    """How many are wanted at a time: the configuration's word, else the cores'."""
    if config.verify.scratch == "sidecar":  # there is one server for all of them
        return 1
    return config.verify.parallel or min(MOST, os.cpu_count() or 1)


def need(config: Config, found: Snapshot) -> int:
    """Bytes that its restore takes up on this machine."""
    if kinds.in_namespace(found.header.kind, config.verify.scratch):
        return 0
    stated = found.header.source.get("database_bytes")
    return max(stated if isinstance(stated, int) else 0, found.header.bytes_source)


def _free() -> int:
    try:
        return shutil.disk_usage(tempfile.gettempdir()).free
    except OSError:
        return 0


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
