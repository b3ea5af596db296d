"""Runs real command lines for the demo: shown as typed, output shown as it comes, and kept in a log."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devstack.demo_screen import Screen

PATIENCE_S = 20.0
"""How long an interrupted command may take to clean up."""


class Broken(Exception):
    """Something is not as the demo promises."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended.

    Attributes:
        code: its exit code.
        output: standard output and standard error, as they came.
        seconds: how long it took.
    """

    code: int
    output: str
    seconds: float


class Shell:
    """Runs programs in one directory.

    Args:
        screen: where to show them.
        directory: where they run.
        logs: where their output is kept.
    """

    def __init__(self, screen: Screen, directory: Path, logs: Path) -> None:
        self._screen = screen
        self._directory = directory
        self._logs = logs
        self._count = 0

    def run(self, argv: Sequence[str], shown: str, environment: Mapping[str, str], *, expect: int = 0) -> Ran:
        """Show a command, run it, show what it prints.

        Args:
            argv: the program's full path and its arguments.
            shown: how a person would type it.
            environment: its whole environment.
            expect: the exit code that it must end with.

        Returns:
            What came of it.

        Raises:
            Broken: it ended with another exit code.
        """
        self._screen.command(shown)
        ran = self.quietly(argv, environment, shown=True)
        if ran.code != expect:
            raise Broken(f'"{shown}" ended with exit code {ran.code} instead of {expect}')
        return ran

    def quietly(self, argv: Sequence[str], environment: Mapping[str, str], *, shown: bool = False) -> Ran:
        """Run a program without showing its command line; ``shown`` shows its output."""
        self._count += 1
        log = self._logs / f"{self._count:02d}-{'-'.join(Path(word).stem for word in argv[:2])}.log"
        started = time.monotonic()
        # In a session of its own: Ctrl-C reaches it through us, once, and not twice.
        process = subprocess.Popen(
            list(argv),
            cwd=self._directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            output = self._follow(process, log, shown=shown)
        except BaseException:
            _end(process)
            raise
        return Ran(process.wait(), output, time.monotonic() - started)

    def _follow(self, process: subprocess.Popen[str], log: Path, *, shown: bool) -> str:
        assert process.stdout is not None  # noqa: S101  # for the type checker: it is a pipe
        lines = []
        with log.open("w") as kept, process.stdout as stream:
            for line in stream:
                lines.append(line)
                kept.write(line)
                if shown:
                    self._screen.output(line.rstrip("\n"))
        return "".join(lines)


def _end(process: subprocess.Popen[str]) -> None:
    """Let a command clean up; then end it."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_S)
    process.kill()
    process.wait()
