"""The restored copy on which a new version is tried: its name and role as at the source, and what its migration histories say."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dr_toolkit import log
from dr_toolkit.errors import SourceError, TargetError
from dr_toolkit.postgres import server, server_facts, swap_settings
from dr_toolkit.postgres.archive_toc import Toc
from dr_toolkit.postgres.connection import ConnectionSettings
from dr_toolkit.postgres.restore_target import session

_log = log.get("postgres.rehearsal")

_RESTORED = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
_HISTORIES = """
    SELECT n.nspname, pg_get_userbyid(c.relowner) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relname = {table} AND c.relkind IN ('r', 'p') ORDER BY 1 LIMIT 8
"""
_OWNERS = """
    SELECT pg_get_userbyid(c.relowner) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1
"""
_STATE = """
    SELECT count(*), count(*) FILTER (WHERE NOT success),
           (SELECT coalesce(version, '') || ' ' || coalesce(description, '') FROM {table} ORDER BY installed_rank DESC LIMIT 1),
           (SELECT coalesce(version, '') || ' ' || coalesce(description, '') FROM {table} WHERE NOT success
            ORDER BY installed_rank DESC LIMIT 1)
    FROM {table}
"""
_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Copy:
    """What the new version is led to.

    Attributes:
        database: its name, the source's where that could be.
        role: that migrates: the owner of the migration history, else of most tables.
    """

    database: str
    role: str


@dataclass(frozen=True, slots=True)
class History:
    """One migration history.

    Attributes:
        schema: that it is in.
        count: migrations in it.
        failed: of these.
        newest: the newest one's version and description.
        failing: the same of the newest that failed; empty for none.
    """

    schema: str
    count: int
    failed: int
    newest: str
    failing: str

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def prepare(settings: ConnectionSettings, toc: Toc, password: str) -> Copy:
    """Make the restored database what the new version meets in the live one, but for the password.

    Args:
        settings: of the scratch server's maintenance database, as superuser.
        toc: of the snapshot: the database's name, owner, privileges and settings are in it.
        password: a throw-away one, for the role.

    Raises:
        TargetError: nothing was restored there, or it has no table.
    """
    with session(settings) as connection:
        rows = server.query(connection, _RESTORED)
        if len(rows) != 1:
            raise TargetError(f"{len(rows)} databases were restored, and one is rehearsed with")
        database = str(rows[0][0])
        if toc.database and toc.database not in {database, settings.database}:
            change = "ALTER DATABASE {old} RENAME TO {new}"
            old, new = server.identifier(database), server.identifier(toc.database)
            server.query(connection, server.statement(change, old=old, new=new))
            database = toc.database
    with session(settings.for_database(database)) as connection:
        role = _role(connection)
        _as_recorded(connection, toc, database, role)
        change = "ALTER ROLE {role} LOGIN PASSWORD {password} VALID UNTIL 'infinity' CONNECTION LIMIT -1"
        server.query(connection, server.statement(change, role=server.identifier(role), password=password))
    return Copy(database, role)


def _as_recorded(connection: server.Connection, toc: Toc, database: str, role: str) -> None:
    """The database's own owner, privileges and settings; where the archive has none, what Conduktor's documents ask for."""
    roles = frozenset(str(name) for (name,) in server.query(connection, "SELECT rolname FROM pg_roles"))
    statements = swap_settings.recorded(connection, toc, database, roles)
    for change in statements:
        try:
            server.query(connection, change)
        except SourceError as error:
            _log.info("not as in the source", statement=change[:200], reason=error.message)
    if not statements:
        names = {"role": server.identifier(role), "database": server.identifier(database)}
        change = "GRANT ALL PRIVILEGES ON DATABASE {database} TO {role}"
        server.query(connection, server.statement(change, **names))


def histories(settings: ConnectionSettings) -> list[History]:
    """Every Flyway history of the database; one that is locked or is none is left out.

    Args:
        settings: of the restored database, as superuser.
    """
    found = []
    with session(settings) as connection:
        server.set_timeouts(connection, lock_s=_WAIT_S)
        for schema, _owner in server.query(connection, _find()):
            table = server.identifier(schema, server_facts.FLYWAY_TABLE)
            try:
                rows = server.query(connection, server.statement(_STATE, table=table))
            except SourceError:
                continue
            found += [
                History(schema, count, failed, str(newest or "").strip(), str(failing or "").strip())
                for count, failed, newest, failing in rows
            ]
    return found


def _role(connection: server.Connection) -> str:
    owners = [owner for _schema, owner in server.query(connection, _find())]
    owners = owners or [owner for (owner,) in server.query(connection, _OWNERS)]
    if not owners:
        raise TargetError("the restored database has no table, so there is nothing to rehearse with")
    return str(owners[0])


def _find() -> Any:
    return server.statement(_HISTORIES, table=server_facts.FLYWAY_TABLE)
