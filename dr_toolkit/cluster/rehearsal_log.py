"""Errors in Console's log. Pure.

A rehearsal is closed: Kafka, single sign-on, metrics and every name are out of reach, and Console says so at the level ERROR. What a closed
network explains is counted apart; everything else is a reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

_LEVEL = re.compile(r"^.{0,120}?\b(TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL|SEVERE|CRITICAL)\b")
"""The first word of a line that is a level."""
_JSON_LEVELS = ("level", "severity", "log.level", "loglevel")
_BAD = frozenset({"error", "fatal", "severe", "critical"})
_CLOSED = re.compile(
    r"UnknownHost|Name or service not known|Temporary failure in name resolution|NoRouteToHost|Network is unreachable|No route to host"
    r"|kafka.{0,200}(disconnect|timed? ?out|timeout|could not be established|unavailable|unreachable|not available)"
    r"|(bootstrap (urls?|servers?|brokers?)|broker).{0,120}(resolv|unreachable|not available|timed? ?out|disconnect|connect)"
    r"|(schema registry|connect cluster|ksqldb|cortex|prometheus|alertmanager|ldap|oidc|oauth2?|identity provider)"
    r".{0,160}(unreachable|refused|timed? ?out|timeout|unavailable|resolv|connect)",
    re.IGNORECASE,
)
_MIGRATION = re.compile(
    r"flyway\S*exception|migrat\w*.{0,120}\b(fail|error|exception)|\b(fail|error)\w*.{0,60}\bmigrat|flyway.{0,120}\b(fail|error)|schema .{0,80}needs? repair",
    re.IGNORECASE,
)
_TIMES = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.,]+(Z|[+-]\d\d:?\d\d)?|\b\d\d:\d\d:\d\d[.,]?\d*")
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Errors:
    """What a log says.

    Attributes:
        lines: with the level ERROR or worse, each sort once, without their times.
        count: of all these.
        expected: lines that the closed network or the configuration explains.
        migration: the first line that says that a migration failed; empty for none.
    """

    lines: tuple[str, ...]
    count: int
    expected: int
    migration: str


def read(lines: Sequence[str], expected: Sequence[str] = ()) -> Errors:
    """Look through a log.

    Args:
        lines: of it.
        expected: regular expressions of what is no reason.
    """
    known = [re.compile(pattern) for pattern in expected]
    found: dict[str, int] = {}
    explained = 0
    migration = ""
    for line in lines:
        bad, text = _bad(line)
        if not bad:
            continue
        if any(pattern.search(line) for pattern in known):
            explained += 1
            continue
        if _MIGRATION.search(text):
            migration = migration or shown(text)
        elif _CLOSED.search(text):
            explained += 1
            continue
        sort = shown(text)
        found[sort] = found.get(sort, 0) + 1
    return Errors(tuple(found), sum(found.values()), explained, migration)


def shown(text: str) -> str:
    """A line without its time, on one line, at most 300 signs."""
    plain = " ".join(_TIMES.sub("", text).split()).strip(" -|")
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}…"


def _bad(line: str) -> tuple[bool, str]:
    """Whether a line is an error, and its text; a line of JSON has its level in a field."""
    if line.startswith("{"):
        try:
            event = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            event = None
        if isinstance(event, dict):
            level = next((str(event[key]) for key in _JSON_LEVELS if key in event), "")
            text = " ".join(
                str(event[key]) for key in ("message", "msg", "error", "exception") if event.get(key)
            )
            return level.lower() in _BAD, text or line
    first = _LEVEL.search(line)
    return first is not None and first[1].lower() in _BAD, line
