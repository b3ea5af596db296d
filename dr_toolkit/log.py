"""What a run says about itself: log events, masked secrets, and progress.

Nothing is written until `configure` is called, so a library caller and a test hear nothing. structlog is imported by the
first event that is written and not before, because most runs of ``drctl`` have nothing to log and must start fast.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TextIO, cast
from urllib.parse import quote


class Stream(Protocol):
    """Where events are written to."""

    def write(self, text: str, /) -> int:
        """Write a line."""

    def flush(self) -> None:
        """Write it now."""


LogFormat = Literal["text", "json"]

MASK = "***"
_SHORTEST_SECRET = 4
"""A secret of three characters or fewer would mask half of every sentence and protects nothing."""
_LONG_SECRET = 12
"""From this length on a secret is masked inside longer words as well; below, only where it stands alone, so that a
password such as ``postgres`` does not turn ``postgres-dump`` into something unreadable."""

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_STEP = 10

_lock = threading.Lock()
_patterns: dict[str, re.Pattern[str]] = {}


@dataclass(slots=True)
class _Settings:
    """How to write events; the writer itself is made by the first one."""

    format: LogFormat
    level: int
    stream: Stream
    writer: Any = None


_settings: _Settings | None = None


class Logger:
    """Writes events of one part of the program. Cheap to make and to call when nothing is configured."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def debug(self, event: str, **fields: Any) -> None:
        """For who searches for a fault: shown with ``-vv``."""
        self._write("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """A step that was done: shown with ``-v``, and always in JSON."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something a person should look at, which did not stop the run."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Something failed."""
        self._write("error", event, fields)

    def answered(self, event: str, **fields: Any) -> None:
        """Something failed, and the command's answer says so: a person reads it once, unless ``-v`` is given; JSON always has it."""
        settings = _settings
        if settings is not None and (settings.format == "json" or settings.level <= _LEVELS["info"]):
            self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        settings = _settings
        if settings is None or _LEVELS[level] < settings.level:
            return
        with _lock:
            if settings.writer is None:
                settings.writer = _writer(settings)
        getattr(settings.writer, level)(event, logger=self._name, **fields)


def get(name: str) -> Logger:
    """A logger for one part of the program (``postgres.dump``). May be called at import time."""
    return Logger(name)


def configure(format: LogFormat, verbosity: int, stream: Stream) -> None:  # noqa: A002 - the option's own name
    """Start writing events.

    Args:
        format: ``text`` for a person, ``json`` for one JSON object a line.
        verbosity: 0 writes warnings and errors, 1 also information, 2 also debug. JSON is a record rather than a
            conversation, so there information is always written and 1 already means debug.
        stream: where to, usually standard error.
    """
    steps = verbosity + (1 if format == "json" else 0)
    level = max(_LEVELS["debug"], _LEVELS["warning"] - _STEP * steps)
    global _settings  # noqa: PLW0603 - one process, one log
    _settings = _Settings(format, level, stream)


def _writer(settings: _Settings) -> Any:
    import structlog  # noqa: PLC0415 - see the module's docstring

    renderer: Any
    if settings.format == "json":
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, timestamp_key="time")
    return structlog.wrap_logger(
        structlog.PrintLogger(cast("TextIO", settings.stream)),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%Y-%m-%dT%H:%M:%S.%fZ", utc=True, key="time"),
            _mask_event,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(settings.level),
        cache_logger_on_first_use=True,
    )


def silence() -> None:
    """Stop writing events, as if `configure` had never been called."""
    global _settings  # noqa: PLW0603 - one process, one log
    _settings = None


def mask(secret: str) -> None:
    """Never let this value out again: `masked` and the log replace it, also where it is quoted for a URL or JSON."""
    value = secret.strip()
    if len(value) < _SHORTEST_SECRET:
        return
    forms = {
        value,
        quote(value, safe=""),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
    }
    with _lock:
        for form in forms:
            body = re.escape(form)
            alone = len(value) < _LONG_SECRET
            _patterns[form] = re.compile(rf"(?<![\w-]){body}(?![\w-])" if alone else body)


def masked(text: str) -> str:
    """The text with every known secret replaced by ``***``, the longest secrets first."""
    if not _patterns:
        return text
    with _lock:
        known = sorted(_patterns.items(), key=lambda item: -len(item[0]))
    for _, pattern in known:
        text = pattern.sub(MASK, text)
    return text


def masked_document(value: Any) -> Any:
    """The same for a JSON document: its strings are masked, its keys and its shape are not touched."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {key: masked_document(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked_document(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return masked(str(value))


def _mask_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {key: item if key in {"time", "level"} else masked_document(item) for key, item in event.items()}


class Progress(Protocol):
    """Told by a use case how far it is. Calls may come from any thread and must be quick."""

    def start(self, total_bytes: int | None, what: str) -> None:
        """A stage begins; ``what`` names it ("console-db: reading"). ``None``: nobody knows how much will come."""

    def advance(self, bytes: int, objects: int = 0) -> None:  # noqa: A002 - the unit is the name
        """So much more was done since the last call."""

    def note(self, text: str) -> None:
        """Something worth a line between two updates."""

    def close(self) -> None:
        """The work ended, well or not. May be called twice."""


class NoProgress:
    """Progress that nobody watches."""

    def start(self, total_bytes: int | None, what: str) -> None:
        """Nobody is told."""

    def advance(self, bytes: int, objects: int = 0) -> None:  # noqa: A002 - the unit is the name
        """Nobody is told."""

    def note(self, text: str) -> None:
        """Nobody is told."""

    def close(self) -> None:
        """Nothing to close."""
