"""What the demo prints: steps, sentences, commands with their output, and the closing summary."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from typing import TextIO

WIDTH = 80
INDENT = "  "
BAR = "  |"

_STYLES = {"step": "1;36", "command": "1", "output": "2", "ok": "32", "bad": "1;31", "title": "1"}


class Screen:
    """Prints for a person, with colours only on a terminal that has them.

    Args:
        stream: where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._color = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def title(self, text: str) -> None:
        """Print a line that stands out."""
        self._line(self._styled("title", text))

    def step(self, number: int, total: int, text: str) -> None:
        """Begin a step."""
        head = f"== {number}/{total} {text} "
        self._line("")
        self._line(self._styled("step", head + "=" * max(2, WIDTH - len(head))))

    def say(self, text: str) -> None:
        """Print a paragraph."""
        self._line(textwrap.fill(textwrap.dedent(text).strip(), WIDTH))

    def facts(self, rows: Sequence[tuple[str, str]]) -> None:
        """Print names and what they stand for, in two columns."""
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            self._line(f"{INDENT}{name.ljust(width)}  {value}")

    def file(self, name: str, content: str) -> None:
        """Show a file."""
        self._line(f"{INDENT}{self._styled('command', name)}")
        for line in content.splitlines():
            self.output(line)

    def command(self, line: str) -> None:
        """Show a command line, as somebody would type it."""
        self._line("")
        self._line(f"{INDENT}{self._styled('command', '$ ' + line)}")

    def output(self, line: str) -> None:
        """Show a line that a command printed, as it is."""
        self._line(f"{self._styled('output', BAR)} {line}".rstrip())

    def ok(self, text: str) -> None:
        """Say that something was checked and is as promised."""
        wrapped = textwrap.wrap(text, WIDTH - len("  ok  "))
        self._line(f"{INDENT}{self._styled('ok', 'ok')}  {wrapped[0]}")
        for line in wrapped[1:]:
            self._line(" " * len("  ok  ") + line)

    def bad(self, text: str) -> None:
        """Say that something is not as promised."""
        self._line(self._styled("bad", text))

    def blank(self) -> None:
        """Print an empty line."""
        self._line("")

    def _styled(self, style: str, text: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._color else text

    def _line(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()
