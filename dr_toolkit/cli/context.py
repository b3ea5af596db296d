"""What every command gets: where the configuration is, how to answer, how to show progress."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dr_toolkit import log

if TYPE_CHECKING:
    from dr_toolkit.config import Config


@dataclass(slots=True)
class Context:
    """Carried as click's context object.

    Attributes:
        config_path: from ``-c`` or ``DRCTL_CONFIG``; None to look in the usual places.
        output: ``text`` or ``json``.
        log_format: ``text`` or ``json``.
        verbosity: how many ``-v``.
        color: whether colours are wanted.
    """

    config_path: Path | None = None
    output: str = "text"
    log_format: str = "text"
    verbosity: int = 0
    color: bool = True

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
        """Print the answer on standard output: one JSON document, or text. Secrets are masked in both."""
        if self.as_json:
            answer = json.dumps(log.masked_document(document), ensure_ascii=False, indent=2)
        else:
            answer = log.masked(text)
        sys.stdout.write(answer.rstrip("\n") + "\n")
        sys.stdout.flush()

    def configure_log(self) -> None:
        """Start logging to standard error, as the options say."""
        if self.verbosity or self.log_format == "json":
            log.configure("json" if self.log_format == "json" else "text", self.verbosity, sys.stderr)

    def progress(self) -> log.Progress:
        """Progress on standard error, if it is a terminal."""
        if not sys.stderr.isatty() or self.log_format == "json":
            return log.NoProgress()
        from dr_toolkit.cli.progress import TerminalProgress

        return TerminalProgress(color=self.color and "NO_COLOR" not in os.environ)
