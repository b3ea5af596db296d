"""Running ``pg_restore``, one or several side by side, fed on standard input or from a small file.

A program that dies while it is being fed is reported with what it said, never as a broken pipe; the first failure ends all
others at once.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dr_toolkit import log, process
from dr_toolkit.errors import ProgramError, TargetError
from dr_toolkit.postgres.connection import ConnectionSettings
from dr_toolkit.postgres.tools import Tools

_log = log.get("postgres.restore")

_TRANSACTION_TIMEOUT_SINCE = 17
_TAIL_BYTES = 16 * 1024
_ERROR = re.compile(r"^pg_(?:restore|dump): error: (.*)$", re.MULTILINE)
_UNKNOWN_SETTING = re.compile(
    r"^pg_restore: error: could not execute query: .*\nCommand was: SET transaction_timeout = 0;$",
    re.MULTILINE,
)
_ENTRY = re.compile(r"^pg_restore: from TOC entry \d+; \d+ \d+ (.+)$", re.MULTILINE)
_DETAIL = re.compile(r"^(?:DETAIL|HINT|CONTEXT):\s+(.*)$", re.MULTILINE)
_LONGEST = 500


class Stopped(Exception):
    """This program was ended because another one failed. Never leaves this package."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where ``pg_restore`` writes, and how it is started.

    Attributes:
        settings: the database.
        tools: whose ``pg_restore``.
        env: environment with the credentials.
        server_major: the target server's major version.
        options: further options for every start.
    """

    settings: ConnectionSettings
    tools: Tools
    env: Mapping[str, str]
    server_major: int
    options: tuple[str, ...] = ()

    @property
    def tolerant(self) -> bool:
        """Whether the server does not know ``transaction_timeout``, which this client sets first of all.

        Then ``--exit-on-error`` cannot be used, and the errors are judged afterwards: exactly that one is let pass.
        """
        return self.tools.major >= _TRANSACTION_TIMEOUT_SINCE > self.server_major

    def arguments(self, options: Sequence[str]) -> list[str]:
        """The argument list for one start."""
        quoted = self.settings.database.replace("\\", "\\\\").replace("'", "\\'")
        return [
            self.tools.program("pg_restore"),
            "--no-password",
            *(() if self.tolerant else ("--exit-on-error",)),
            f"--dbname=dbname='{quoted}'",
            *self.options,
            *options,
        ]


class Runner:
    """Starts ``pg_restore`` for one restore, and can end all that run."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._running: set[process.Pipe] = set()
        self._stopping = False

    def feed(self, what: str, options: Sequence[str], pieces: Iterable[bytes]) -> None:
        """Run one ``pg_restore`` that reads ``pieces``, and wait until it ended well.

        Args:
            what: what it restores, for messages.
            options: which section, which entries.
            pieces: its standard input.

        Raises:
            TargetError: it failed; the message is what it said.
            Stopped: `stop` was called meanwhile.
        """
        pipe = self._started(options, stdin=True)
        try:
            self._write(pipe, pieces)
            self._finish(pipe, what)
        finally:
            with self._lock:
                self._running.discard(pipe)
            _stop(pipe)

    def run(self, what: str, options: Sequence[str]) -> None:
        """Run one ``pg_restore`` that reads nothing from us. Raises as `feed` does."""
        self.feed(what, options, ())

    def stop(self) -> None:
        """End every program and let none start any more."""
        with self._lock:
            self._stopping = True
            running = list(self._running)
        for pipe in running:
            _stop(pipe)

    def _started(self, options: Sequence[str], *, stdin: bool) -> process.Pipe:
        with self._lock:
            if self._stopping:
                raise Stopped
            pipe = process.Pipe(
                self._target.arguments(options),
                env=_writable({**self._target.env, **self._target.tools.env}),
                stdin=stdin,
                stdout=False,
            )
            self._running.add(pipe)
            return pipe

    def _write(self, pipe: process.Pipe, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            if self._stopping:
                raise Stopped
            try:
                if pipe.stdin is not None:
                    pipe.stdin.write(piece)
            except (BrokenPipeError, ValueError):  # ValueError: `stop` closed the stream between two writes
                # Its own message says why it went away; whether it may is decided by its exit status.
                _log.debug("pg_restore stopped reading", pid=pipe.pid)
                return

    def _finish(self, pipe: process.Pipe, what: str) -> None:
        try:
            pipe.finish()
        except (ProgramError, ValueError, OSError) as error:
            if self._stopping:
                raise Stopped from error
            said = pipe.stderr_tail()
            if not (self._target.tolerant and only_unknown_setting(said)):
                raise failure(
                    "pg_restore", f"restoring {what}", said, error, on=self._target.settings.redacted()
                ) from error
        if self._stopping:
            raise Stopped


def _writable(env: dict[str, str]) -> dict[str, str]:
    """In an incident a role or a server is often made read-only by its settings; ``pg_restore`` does not overrule them itself."""
    options = f"{env.get('PGOPTIONS', '')} -c default_transaction_read_only=off".strip()
    return {**env, "PGOPTIONS": options}


def _stop(pipe: process.Pipe) -> None:
    """End a program that another thread may be ending, or writing to, at this moment."""
    with suppress(ValueError):  # that thread closed a stream while this one did
        pipe.stop()


def only_unknown_setting(stderr: str) -> bool:
    """Whether the one error in there, however often, is a server that does not know ``transaction_timeout``."""
    if len(stderr.encode()) >= _TAIL_BYTES:
        return False  # something was cut off, and it may have been a real error
    errors = len(_ERROR.findall(stderr))
    return errors > 0 and errors == len(_UNKNOWN_SETTING.findall(stderr))


def failure(program: str, doing: str, stderr: str, cause: BaseException, *, on: str) -> TargetError:
    """Say what a program said: its first real error, the entry it met it at, and the details."""
    text = _UNKNOWN_SETTING.sub("", stderr)
    error = _ERROR.search(text)
    entry = _ENTRY.search(text)
    detail = _DETAIL.search(text)
    reason = error[1] if error else (text.strip().splitlines() or [str(cause)])[-1]
    if detail:
        reason += f" ({detail[1]})"
    place = f"{doing}, at {entry[1]}" if entry else doing
    return TargetError(
        f"{program} failed while {place}: {reason[:_LONGEST]}",
        on=on,
        unaffected="no other database was touched",
    )
