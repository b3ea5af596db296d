"""What every command gets: where the configuration is, how to answer, how to show progress."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dr_toolkit import clock, log

if TYPE_CHECKING:
    from dr_toolkit.config import Config


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
        """Print the answer on standard output, once: one JSON document, or text. Secrets are masked in both."""
        self.close()
        if self.as_json:
            plain = json.loads(json.dumps(document, default=_plain))
            answer = json.dumps(log.masked_document(plain), ensure_ascii=False, indent=2)
        else:
            answer = log.masked(text)
        sys.stdout.write(answer.rstrip("\n") + "\n")
        sys.stdout.flush()
        self.answered = True

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
