"""Sessions of our own on a PostgreSQL server, and what a server says about itself.

The only file that imports psycopg: its errors are translated here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors, sql

from dr_toolkit.errors import DrctlError, SourceError, SourceUnreachable
from dr_toolkit.postgres.connection import ConnectionSettings

Connection = psycopg.Connection[tuple[Any, ...]]
Composable = sql.Composable


def connect(settings: ConnectionSettings, *, autocommit: bool = True) -> Connection:
    """Open a session.

    Raises:
        SourceUnreachable: refused, timed out, starting up, or no connection is free.
        SourceError: the server is there and says no: password, role, database, TLS.
    """
    with translated(settings.redacted()):
        return psycopg.connect(**settings.conninfo(), autocommit=autocommit)  # type: ignore[arg-type]


@contextmanager
def translated(on: str) -> Iterator[None]:
    """Turn psycopg's errors raised in the block into ours."""
    try:
        yield
    except psycopg.Error as error:
        raise _translate(error, on) from error


def query(
    connection: Connection,
    statement: str | bytes | Composable,
    parameters: Sequence[Any] | Mapping[str, Any] = (),
) -> list[tuple[Any, ...]]:
    """Run one statement and give its rows (none for a statement without a result)."""
    with translated(_place(connection)):
        cursor = connection.execute(statement, parameters or None)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def identifier(*parts: str) -> Composable:
    """A quoted name for use in a statement."""
    return sql.Identifier(*parts)


def statement(template: str, **parts: Any) -> Composable:
    """A statement from a constant template with ``{name}`` places for identifiers, and literals for all other values."""
    values = {
        name: part if isinstance(part, sql.Composable) else sql.Literal(part) for name, part in parts.items()
    }
    return sql.SQL(template).format(**values)


def _place(connection: Connection) -> str:
    info = connection.info
    return f"postgresql://{info.user}@{info.host}:{info.port}/{info.dbname}"


_BUSY = (
    errors.CannotConnectNow,
    errors.TooManyConnections,
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.ConnectionException,
    errors.ConnectionFailure,
)
_UNREACHABLE = re.compile(
    r"refused|failed to resolve|timeout|timed out|could not translate|no route|unreachable|reset by peer|closed the connection|starting up|"
    r"shutting down|recovery mode|too many|remaining connection slots|name resolution|No such file or directory",
    re.IGNORECASE,
)


def _translate(error: psycopg.Error, on: str) -> DrctlError:
    text = _text(error)
    if isinstance(error, _BUSY) or (error.sqlstate is None and _UNREACHABLE.search(text)):
        return SourceUnreachable(
            f"the server is not there for now: {text}", on=on, hint="check the host and port, then try again"
        )
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        return SourceError(f"the server refused the connection: {text}", on=on, hint=_hint(text))
    return SourceError(f"the server refused a statement: {text}", on=on, hint=_hint(text))


def _text(error: psycopg.Error) -> str:
    primary = error.diag.message_primary
    return " ".join((primary or str(error)).split())


def _hint(text: str) -> str | None:
    if "password authentication failed" in text or "no password supplied" in text:
        return "check connection.user and what connection.password refers to"
    if "permission denied" in text:
        return "the backup's role needs pg_read_all_data (PostgreSQL 14 and newer), and SELECT on each large object"
    if "certificate" in text or "SSL" in text:
        return "check connection.sslmode, sslrootcert, sslcert and sslkey"
    return None
