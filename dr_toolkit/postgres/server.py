"""Sessions of our own on a PostgreSQL server, and what a server says about itself.

The only file that imports psycopg: its errors are translated here.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors, pq, sql
from psycopg.adapt import Loader

from dr_toolkit.errors import DrctlError, SourceError, SourceUnreachable
from dr_toolkit.postgres.connection import ConnectionSettings

if TYPE_CHECKING:
    from typing_extensions import Buffer

Connection = psycopg.Connection[tuple[Any, ...]]
Composable = sql.Composable

LARGE_OBJECTS = (
    "up to PostgreSQL 18 pg_read_all_data does not reach large objects: as a superuser, "
    "ALTER ROLE … SET lo_compat_privileges = on for the backup's role, or GRANT SELECT ON LARGE OBJECT … to it"
)
"""What to do when large objects of others cannot be read."""
_UNKNOWN_ENCODING = "SQL_ASCII"
_TEXT_TYPES = ("text", "name", "varchar", "bpchar")
_TIMEOUTS = """
    SELECT set_config(name, CASE name WHEN 'lock_timeout' THEN %s ELSE '0' END, false) FROM pg_catalog.pg_settings
    WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout',
                   'idle_session_timeout')
"""


def connect(settings: ConnectionSettings, *, autocommit: bool = True) -> Connection:
    """Open a session to where the settings say, and nowhere else: libpq's own variables are not read.

    Raises:
        SourceUnreachable: refused, timed out, starting up, or no connection is free.
        SourceError: the server is there and says no: password, role, database, TLS.
    """
    with translated(settings.redacted()):
        with _without_variables():
            connection = psycopg.connect(**settings.conninfo(), autocommit=autocommit)  # type: ignore[arg-type]
        if connection.info.parameter_status("client_encoding") == _UNKNOWN_ENCODING:
            for name in _TEXT_TYPES:
                connection.adapters.register_loader(name, _Text)
        return connection


def set_timeouts(connection: Connection, *, lock_s: float = 0) -> None:
    """Make a session independent of the timeouts that a role or a database may have.

    Args:
        connection: the session.
        lock_s: how long a statement waits for a lock; 0 for as long as it takes.
    """
    query(connection, _TIMEOUTS, (f"{int(lock_s * 1000)}ms",))


class _Text(Loader):
    """Text of a database that does not know its encoding. psycopg would give bytes; what is not UTF-8 is written as escapes."""

    def load(self, data: Buffer) -> str:
        return bytes(data).decode("utf-8", "backslashreplace")


_environment_lock = threading.Lock()


@contextmanager
def _without_variables() -> Iterator[None]:
    """Take libpq's variables out of the environment, as PostgreSQL's programs never see them either.

    Most would be overruled, but ``PGHOSTADDR`` or ``PGSERVICE`` could lead a session of ours to another server than the programs.
    They are put back: a reference of the configuration (``env:PGPASSWORD``) may name one.
    """
    with _environment_lock:
        names = {option.envvar.decode() for option in pq.Conninfo.get_defaults() if option.envvar}
        names |= {"PGSERVICE", "PGSERVICEFILE", "PGSYSCONFDIR", "PGDATESTYLE", "PGTZ", "PGGEQO"}
        taken = {name: os.environ.pop(name) for name in names if name in os.environ}
        try:
            yield
        finally:
            os.environ.update(taken)


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


def joined(between: str, parts: Sequence[Composable]) -> Composable:
    """Statements with a constant text between them."""
    return sql.SQL(between).join(parts)


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
    # libpq's own "connection to server at …" says it once more.
    return " ".join((primary or str(error)).split()).removeprefix("connection failed: ")


def _hint(text: str) -> str | None:
    if "password authentication failed" in text or "no password supplied" in text:
        return "check connection.user and what connection.password refers to"
    if "permission denied for large object" in text:
        return LARGE_OBJECTS
    if "permission denied" in text:
        return (
            "the backup's role needs pg_read_all_data (PostgreSQL 14 and newer), or SELECT on what is named"
        )
    if "certificate" in text or "SSL" in text:
        return "check connection.sslmode, sslrootcert, sslcert and sslkey"
    return None
