"""What on a server speaks against an upgrade now: long transactions, standbys behind, migrations that failed or run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dr_toolkit.postgres import server, server_facts

_SEES_ALL = "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"
_LONG = """
    SELECT pid, coalesce(usename, ''), coalesce(application_name, ''), extract(epoch FROM now() - xact_start)::float8
    FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
          AND xact_start < now() - make_interval(secs => %s)
    ORDER BY xact_start LIMIT 5
"""
_PREPARED = """
    SELECT 0, owner, gid, extract(epoch FROM now() - prepared)::float8 FROM pg_prepared_xacts
    WHERE database = current_database() AND prepared < now() - make_interval(secs => %s) ORDER BY prepared LIMIT 5
"""
_STANDBYS = """
    SELECT coalesce(application_name, ''), coalesce(state, ''),
           pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint
    FROM pg_stat_replication WHERE coalesce(application_name, '') !~ '^(pg_basebackup|drctl)' ORDER BY 1
"""
_OWN_DELAY = """
    SELECT CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
                ELSE extract(epoch FROM now() - pg_last_xact_replay_timestamp()) END::float8
"""
_MIGRATING = """
    SELECT DISTINCT l.pid FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
    WHERE c.relname = {table} AND l.granted AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ORDER BY 1 LIMIT 5
"""


@dataclass(frozen=True, slots=True)
class UpgradeFacts:
    """What was found.

    Attributes:
        sees_all: whether the role sees other roles' sessions; if not, the two lists after it say nothing.
        long: transactions open for longer than asked, in words.
        behind: standbys behind, or this standby's own delay, in words.
        failed: migrations that failed, in words.
        migrating: process ids of sessions that write to a migration history.
        hidden: migration histories that the role may not read.
        newest: the newest migration of each history, in words.
        database_bytes: size.
    """

    sees_all: bool
    long: tuple[str, ...]
    behind: tuple[str, ...]
    failed: tuple[str, ...]
    migrating: tuple[int, ...]
    hidden: tuple[str, ...]
    newest: tuple[str, ...]
    database_bytes: int


def look(connection: server.Connection, *, long_s: float, lag_bytes: int, delay_s: float) -> UpgradeFacts:
    """Ask; changes nothing.

    Args:
        connection: to the database.
        long_s: seconds after which an open transaction is long.
        lag_bytes: WAL that a standby may be behind.
        delay_s: seconds that this server, being a standby, may be behind.
    """
    facts = server_facts.facts(connection)
    [(sees_all,)] = server.query(connection, _SEES_ALL)
    long = [*server.query(connection, _LONG, (long_s,)), *server.query(connection, _PREPARED, (long_s,))]
    migrations: list[dict[str, Any]] = facts["flyway"]
    statement = server.statement(_MIGRATING, table=server_facts.FLYWAY_TABLE)
    return UpgradeFacts(
        sees_all=bool(sees_all),
        long=tuple(_transaction(*row) for row in long),
        behind=_behind(connection, facts["standby"], lag_bytes, delay_s),
        failed=tuple(_migration(m) for m in migrations if not m["success"]),
        migrating=tuple(pid for (pid,) in server.query(connection, statement)),
        hidden=tuple(facts.get("not_readable", ())),
        newest=tuple(_migration(m) for m in migrations),
        database_bytes=facts["database_bytes"],
    )


def _behind(
    connection: server.Connection, standby: object, lag_bytes: int, delay_s: float
) -> tuple[str, ...]:
    if standby:
        [(delay,)] = server.query(connection, _OWN_DELAY)
        return (f"this standby is {delay:.0f} s behind",) if delay is not None and delay > delay_s else ()
    return tuple(
        f'standby "{name}" is {state or "in an unknown state"}, {"unknown" if lag is None else lag} bytes of WAL behind'
        for name, state, lag in server.query(connection, _STANDBYS)
        if state != "streaming" or lag is None or lag > lag_bytes
    )


def _transaction(pid: int, user: str, name: str, seconds: float) -> str:
    who = f"prepared transaction {name}" if pid == 0 else f"{name or 'a session'}, pid {pid}"
    return f"{who} ({user}), open for {seconds:.0f} s"


def _migration(item: dict[str, Any]) -> str:
    return f"{item['schema']}: version {item['version']} ({item['description']})"
