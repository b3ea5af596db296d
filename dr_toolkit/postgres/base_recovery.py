"""What a restored cluster does when a person starts it: open (the default), follow a primary, or recover further from an archive."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from math import inf
from pathlib import Path
from typing import Literal

from dr_toolkit import clock, process
from dr_toolkit.errors import UsageError
from dr_toolkit.postgres import base_manifest
from dr_toolkit.postgres.base_manifest import format_lsn
from dr_toolkit.postgres.base_start import Target
from dr_toolkit.postgres.connection import ConnectionSettings
from dr_toolkit.postgres.tools import Tools

STANDBY: Literal["standby.signal"] = "standby.signal"
RECOVERY: Literal["recovery.signal"] = "recovery.signal"
_SETTINGS_FILE = "postgresql.auto.conf"
_TARGETS = (
    "recovery_target",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
)
_CONNINFO = frozenset({"host", "port", "user", "sslmode", "sslrootcert", "sslcert", "sslkey"})
_FOLLOWING = ("primary_conninfo", "primary_slot_name", "recovery_min_apply_delay")
_OTHERS = (
    "restore_command",
    "archive_cleanup_command",
    "recovery_end_command",
    "recovery_target_inclusive",
    "recovery_target_timeline",
    "recovery_target_action",
)
_PASSWORD = re.compile(r"\bpassword\s*=", re.IGNORECASE)
_LIMITS = {
    "max_connections": 500,
    "max_worker_processes": 64,
    "max_wal_senders": 64,
    "max_prepared_transactions": 500,
    "max_locks_per_transaction": 256,
}
"""What a server that follows must have as much of as its primary; the values are for where nobody can be asked."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """How a cluster goes on.

    Attributes:
        signal: the file that makes it so.
        settings: pairs of name and value, for the file of settings that the server reads last.
    """

    signal: Literal["standby.signal", "recovery.signal"]
    settings: tuple[tuple[str, str], ...]


def asked(*, standby: bool, given: Sequence[str], source: ConnectionSettings) -> Recovery | None:
    """Understand what was asked for. Pure.

    Args:
        standby: follow a primary.
        given: settings, ``NAME=VALUE`` each.
        source: where the backup was taken: what a standby follows if nothing else was said.

    Raises:
        UsageError: a setting is unknown, does not fit, or lacks.
    """
    if not standby and not given:
        return None
    settings = dict(_pair(text, standby=standby) for text in given)
    if standby and not {"primary_conninfo", "restore_command"} & set(settings):
        settings["primary_conninfo"] = conninfo(source)
    if not standby and not settings.get("restore_command"):
        raise _wrong(
            "a recovery needs to know where older WAL comes from",
            '--recovery "restore_command=cp /archive/%f %p"',
        )
    if len(chosen := [name for name in _TARGETS if settings.get(name)]) > 1:
        raise _wrong(f"only one target can be aimed at, and there are {', '.join(chosen)}", "leave one")
    return Recovery(STANDBY if standby else RECOVERY, tuple(settings.items()))


def check(recovery: Recovery, target: Target) -> None:
    """Refuse to aim below what recovery of the snapshot must reach: PostgreSQL would find out at the end of it, or on a wrong timeline never. Pure.

    Raises:
        UsageError: a target lies before the snapshot's end.
    """
    settings = dict(recovery.settings)
    least = {"lsn": format_lsn(target.end), "timeline": str(target.timeline)}
    if target.time:
        least["time"] = clock.rfc3339(target.time)
    for what, below in (
        ("lsn", _lsn(settings.get("recovery_target_lsn", "")) < target.end),
        ("time", target.time is not None and _latest(settings.get("recovery_target_time", "")) < target.time),
        ("timeline", _number(settings.get("recovery_target_timeline", "")) < target.timeline),
    ):
        if below:
            raise _wrong(
                f"recovery_target_{what} lies before what a recovery of this snapshot must reach, {least[what]}",
                "aim at that or later, or choose an earlier snapshot: drctl snapshots",
            )


def _lsn(text: str) -> float:
    """A place in WAL; beyond all of them where it is none, which PostgreSQL says better."""
    return base_manifest.parse_lsn(text) if re.fullmatch(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}", text) else inf


def _number(text: str) -> float:
    return int(text) if re.fullmatch(r"[0-9]{1,10}", text) else inf


def _latest(text: str) -> datetime:
    """The latest moment that a time can mean, where it is in ISO 8601: without an offset it is in the server's zone, which nobody knows here."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone(timedelta(hours=-12)))


def conninfo(source: ConnectionSettings) -> str:
    """The way to a server in one line, without its password."""
    values = {name: value for name, value in source.conninfo().items() if name in _CONNINFO}
    return " ".join(f"{name}={_quoted(value)}" for name, value in sorted(values.items()))


def write(directory: Path, recovery: Recovery) -> None:
    """Put signal and settings into a restored cluster. Targets that an earlier recovery of the source left there do not count any more."""
    wanted = dict(recovery.settings)
    # The empty ones come first: PostgreSQL takes even them for a second target when one is there.
    wanted = {name: "" for name in _TARGETS if name not in wanted} | wanted
    lines = [f"{name} = {_literal(value)}\n" for name, value in wanted.items()]
    path = directory / _SETTINGS_FILE
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n# written by drctl restore\n" + "".join(lines))
        file.flush()
        os.fsync(file.fileno())
    signal(directory, recovery.signal)


def signal(directory: Path, name: str) -> None:
    """Leave exactly this signal in the directory."""
    for other in (STANDBY, RECOVERY):
        if other != name:
            (directory / other).unlink(missing_ok=True)
    descriptor = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    os.fsync(descriptor)
    os.close(descriptor)


def alone(tools: Tools, directory: Path) -> dict[str, str]:
    """Settings with which a cluster recovers to consistency, opens for reading, and stays where it is: nothing to follow, no archive."""
    return {
        **dict.fromkeys(("primary_conninfo", "primary_slot_name", "restore_command", *_TARGETS), ""),
        "recovery_min_apply_delay": "0",
        "hot_standby": "on",
        **{name: str(value) for name, value in _limits(tools, directory).items()},
    }


def _limits(tools: Tools, directory: Path) -> dict[str, int]:
    if not tools.has(("pg_controldata",)):
        return _LIMITS
    told = process.run([tools.program("pg_controldata"), str(directory)], env={"LC_ALL": "C", **tools.env})
    text = told.stdout.decode("utf-8", "replace")
    # One name is shortened there: max_prepared_xacts.
    names = {
        "max_prepared_transactions": "max_prepared_xacts",
        "max_locks_per_transaction": "max_locks_per_xact",
    }
    found = {
        name: re.search(rf"^{names.get(name, name)} setting:\s+(\d+)", text, re.MULTILINE) for name in _LIMITS
    }
    return {name: int(match[1]) if match else _LIMITS[name] for name, match in found.items()}


def _pair(text: str, *, standby: bool) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    name, value = name.strip(), value.strip()
    if not equals or name not in (*_TARGETS, *_OTHERS, *_FOLLOWING):
        raise _wrong(
            f'"{name}" is no setting of a recovery', f"one of {', '.join((*_OTHERS, *_TARGETS, *_FOLLOWING))}"
        )
    if name in _FOLLOWING and not standby:
        raise _wrong(f"{name} is for a server that follows another", "add --standby")
    if name == "primary_conninfo" and _PASSWORD.search(value):
        raise _wrong(
            "a password does not belong on the command line, where everybody on the machine reads it",
            "put it into the .pgpass file of the user who runs the server",
        )
    if any(character in value for character in "\n\r\0"):
        raise _wrong(f"the value of {name} holds a line break", "write it in one line")
    return name, value


def _wrong(message: str, hint: str) -> UsageError:
    return UsageError(message, hint=hint, unaffected="nothing was started")


def _quoted(value: str) -> str:
    """A value of a connection string."""
    return value if re.fullmatch(r"[\w./,:-]+", value) else "'" + re.sub(r"(['\\])", r"\\\1", value) + "'"


def _literal(value: str) -> str:
    """A value of a settings file: a backslash would be an escape there."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
