"""What restoring beside a live database will do, found out before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from dr_toolkit.errors import SourceError, TargetError
from dr_toolkit.postgres import restore_needs, server, server_disk, swap_names, swap_settings, swap_sql
from dr_toolkit.postgres.archive_toc import Toc
from dr_toolkit.postgres.connection import ConnectionSettings
from dr_toolkit.postgres.restore_target import refusals

_MAINTENANCE = ("postgres", "template1")
_WAL_MARGIN = 1.1
"""A restore also writes WAL, which the server removes as it goes."""


@dataclass(frozen=True, slots=True)
class Client:
    """A session that is open in the live database."""

    pid: int
    user: str
    application: str
    address: str
    kind: str


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore beside a live database will do.

    Attributes:
        snapshot: id of the snapshot.
        live: the name that the restored database will have.
        new: its name until then.
        old: the name under which the present database is kept; None when there is none.
        create: the statement that creates the new database.
        server_version: the server's ``server_version_num``.
        live_bytes: size of the present database.
        bytes_needed: space that the new one will take; None if unknown.
        bytes_free: free space on the server's disk; None if unknown.
        clients: sessions in the live database, which the swap ends.
        problems: what would make the swap fail.
        warnings: what a person should know.
    """

    snapshot: str
    live: str
    new: str
    old: str | None
    create: str
    server_version: int
    live_bytes: int | None
    bytes_needed: int | None
    bytes_free: int | None
    clients: tuple[Client, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def space(self) -> Literal["enough", "short", "unknown"]:
        """Whether the new database fits beside the present one."""
        if self.bytes_free is None or self.bytes_needed is None:
            return "unknown"
        return "enough" if self.bytes_free >= self.bytes_needed * _WAL_MARGIN else "short"


@contextmanager
def maintenance(settings: ConnectionSettings) -> Iterator[server.Connection]:
    """A session in a database of the same server that is not the one to be replaced.

    Raises:
        TargetError: neither ``postgres`` nor ``template1`` lets us in.
        SourceUnreachable: the server cannot be reached.
    """
    refused: SourceError | None = None
    for name in _MAINTENANCE:
        if name == settings.database:
            continue
        try:
            connection = server.connect(settings.for_database(name))
        except SourceError as error:
            refused = error
            continue
        with refusals(), closing(connection):
            _prepare(connection)
            yield connection
        return
    raise TargetError(
        f"no database to work from while names are swapped: {refused.message if refused else 'none is left'}",
        on=settings.redacted(),
        hint=f"let the role connect to one of {', '.join(_MAINTENANCE)}",
        unaffected="nothing was started",
    )


def plan(
    settings: ConnectionSettings,
    toc: Toc,
    *,
    snapshot: str,
    now: datetime,
    bytes_needed: int | None = None,
    no_owner: bool = False,
) -> RestorePlan:
    """Find out what restoring into the database that ``settings`` name would do. Changes nothing.

    Raises:
        TargetError: the server cannot take the snapshot: too old, or without its roles or extensions.
        SourceUnreachable: the server cannot be reached.
    """
    live = settings.database
    swap_names.check_name(live)
    with maintenance(settings) as connection:
        version = connection.info.server_version
        restore_needs.check_target(
            toc,
            server_version=version,
            roles=_column(connection, "SELECT rolname FROM pg_roles"),
            available_extensions=_column(connection, "SELECT name FROM pg_available_extensions"),
            no_owner=no_owner,
        )
        taken = _column(connection, "SELECT datname FROM pg_database")
        new = swap_names.new_name(live, now, taken)
        there = live in taken
        return RestorePlan(
            snapshot=snapshot,
            live=live,
            new=new,
            old=swap_names.old_name(live, now, taken) if there else None,
            create=_create(connection, toc, live, new, there=there),
            server_version=version,
            live_bytes=_size(connection, live) if there else None,
            bytes_needed=bytes_needed,
            bytes_free=free_bytes(connection, settings, live),
            clients=clients(connection, live),
            problems=tuple(_problems(connection, live)),
            warnings=tuple(_warnings(connection, live)),
        )


def clients(connection: server.Connection, live: str) -> tuple[Client, ...]:
    """Who is connected to a database, the longest first."""
    return tuple(Client(*row) for row in server.query(connection, swap_sql.SESSIONS, (live,)))


def _prepare(connection: server.Connection) -> None:
    """Make the session independent of the role's and the database's settings."""
    for name, value in (
        ("search_path", "pg_catalog"),
        ("standard_conforming_strings", "on"),
        ("statement_timeout", "0"),
        ("lock_timeout", "5s"),
        ("idle_session_timeout", "0"),
        ("transaction_timeout", "0"),
        ("client_connection_check_interval", "0"),
        ("default_transaction_read_only", "off"),
        ("default_transaction_isolation", "read committed"),
    ):
        server.query(
            connection,
            "SELECT set_config(name, %s, false) FROM pg_catalog.pg_settings WHERE name = %s",
            (value, name),
        )


def _column(connection: server.Connection, statement: str) -> frozenset[str]:
    return frozenset(row[0] for row in server.query(connection, statement))


def _create(connection: server.Connection, toc: Toc, live: str, new: str, *, there: bool) -> str:
    if there:
        return swap_settings.create_like(connection, live, new)
    return swap_settings.create_from(connection, toc, new)


def _size(connection: server.Connection, live: str) -> int | None:
    try:
        return int(server.query(connection, "SELECT pg_database_size(%s::name)", (live,))[0][0])
    except SourceError:  # neither CONNECT on it nor pg_read_all_stats
        return None


def _problems(connection: server.Connection, live: str) -> Iterator[str]:
    prepared = server.query(
        connection, "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = %s", (live,)
    )
    for (gid,) in prepared:
        yield (
            f'the prepared transaction "{gid}" is open in "{live}"; the swap fails until it is committed or rolled back'
        )


def _warnings(connection: server.Connection, live: str) -> Iterator[str]:
    rows = server.query(connection, "SELECT datallowconn FROM pg_database WHERE datname = %s", (live,))
    if rows and not rows[0][0]:
        yield f'"{live}" takes no connections at present, and the restored database will not either'
    slots = server.query(
        connection, "SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE database = %s", (live,)
    )
    for (name,) in slots:
        yield f'the logical replication slot "{name}" stays with the old database'
    subscriptions = server.query(
        connection,
        "SELECT s.subname FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid "
        "WHERE d.datname = %s",
        (live,),
    )
    for (name,) in subscriptions:
        yield f'the subscription "{name}" stays with the old database; the restored one is not connected'


def free_bytes(connection: server.Connection, settings: ConnectionSettings, live: str) -> int | None:
    """Free space where the new database will lie; None unless the server's own disk can be seen from here."""
    directory = server_disk.data_directory(connection, settings)
    if directory is None:
        return None
    tablespace = server.query(
        connection,
        "SELECT pg_tablespace_location(dattablespace) FROM pg_database WHERE datname = %s",
        (live,),
    )
    return server_disk.free_bytes(Path(tablespace[0][0]) if tablespace and tablespace[0][0] else directory)
