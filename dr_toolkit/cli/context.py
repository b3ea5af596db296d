"""What every command gets: where the configuration is, how to answer, how to show progress."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dr_toolkit import clock, log
from dr_toolkit.errors import OutputError

if TYPE_CHECKING:
    from dr_toolkit.config import Config

_HARMFUL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What moves a cursor, changes colours or turns a line around. Values come from elsewhere; a terminal must not obey them. JSON says the same so."""


@dataclass(slots=True)
class Context:
    """Carried as click's context object.

    Attributes:
        config_path: from ``-c``; ``None`` to look in the usual places.
        output: form of the answer.
        log_format: form of the log.
        verbosity: how many ``-v``.
        color: whether colours are wanted.
        answered: whether the answer was printed.
    """

    config_path: Path | None = None
    output: Literal["text", "json"] = "text"
    log_format: Literal["text", "json"] = "text"
    verbosity: int = 0
    color: bool = field(default_factory=lambda: not os.environ.get("NO_COLOR"))
    answered: bool = False
    _progress: log.Progress | None = None

    def load_config(self) -> Config:
        """Read and check the configuration.

        Raises:
            ConfigError: with every problem.
        """
        from dr_toolkit import config

        return config.load(self.config_path)

    @property
    def as_json(self) -> bool:
        """Whether the answer is a JSON document."""
        return self.output == "json"

    def emit(self, document: Mapping[str, Any], text: str) -> None:
        """Print the answer on standard output, once: one JSON document, or text. Secrets are masked in both.

        Raises:
            OutputError: standard output takes nothing (a full disk); what the command did is done all the same.
        """
        self.close()
        if self.as_json:
            plain = json.loads(json.dumps(document, default=_plain))
            answer = json.dumps(log.masked_document(plain), ensure_ascii=False, indent=2)
        else:
            answer = log.masked(text)
        answer = _HARMFUL.sub(_escaped, answer)
        self.answered = True  # or on its way: there is no second answer
        write(answer)

    def configure_log(self) -> None:
        """Start logging to standard error, as the options say."""
        log.configure(self.log_format, self.verbosity, _StandardError())

    def progress(self) -> log.Progress:
        """Progress on standard error, if it is a terminal. Closed before the answer or an error is printed."""
        if not sys.stderr.isatty() or self.log_format == "json":
            return log.NoProgress()
        from dr_toolkit.cli.progress import TerminalProgress

        self.close()
        self._progress = TerminalProgress(color=self.color)
        return self._progress

    def close(self) -> None:
        """End what still moves on the terminal."""
        if self._progress is not None:
            self._progress.close()
            self._progress = None


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def say(text: str) -> None:
    """Say something beside the answer, on standard error: masked, and harmless to a terminal."""
    sys.stderr.write(_HARMFUL.sub(_escaped, log.masked(text)))


def write(answer: str) -> None:
    """Write an answer to standard output, with one newline at its end.

    Raises:
        OutputError: it takes nothing (a full disk).
        BrokenPipeError: its reader is gone.
    """
    try:
        sys.stdout.write(_encodable(answer.rstrip("\n") + "\n"))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"the answer cannot be written to standard output: {error.strerror}",
            hint="make room for it; what is stored is listed by: drctl snapshots",
            unaffected="what the command did is done; only its answer is lost",
        ) from error


def _encodable(answer: str) -> str:
    r"""The answer with ``\uXXXX`` for what standard output's encoding lacks; in JSON that means the same."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        answer.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_encodable_character(character, encoding) for character in answer)
    return answer


def _encodable_character(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        units = character.encode("utf-16-be", "surrogatepass").hex()
        return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
    return character


class _StandardError:
    """Standard error as it is at the moment: a progress bar replaces it while it moves, so that lines go above the bar."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _plain(value: Any) -> str:
    """Times and paths, the only things in a document that JSON does not know."""
    if isinstance(value, datetime):
        return clock.rfc3339(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"not a value of a JSON document: {type(value).__name__}")
