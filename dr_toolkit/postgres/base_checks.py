"""What a base backup asks of the server before it starts: facts by SQL, then reasons to refuse as a pure function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dr_toolkit.errors import SourceError
from dr_toolkit.postgres import server

SENDERS_NEEDED = 1
_FACTS = """
    SELECT current_setting('wal_level'), current_setting('max_wal_senders')::int,
           (SELECT count(*) FROM pg_stat_replication)::int, current_setting('max_replication_slots')::int,
           (SELECT count(*) FROM pg_replication_slots)::int,
           (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user),
           (SELECT coalesce(array_agg(spcname::text ORDER BY spcname), '{}') FROM pg_tablespace
            WHERE spcname NOT IN ('pg_default', 'pg_global')),
           current_setting('data_checksums') = 'on',
           (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'),
           (SELECT rolname::text FROM pg_roles WHERE oid = 10), current_setting('max_prepared_transactions')::int
"""
_SIZE = "SELECT sum(pg_database_size(oid))::bigint FROM pg_database"


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """What the server says about itself, as far as a base backup depends on it."""

    wal_level: str
    max_wal_senders: int
    wal_senders: int
    max_slots: int
    slots: int
    replication: bool
    tablespaces: tuple[str, ...]
    checksums: bool
    segment_size: int
    superuser: str
    max_prepared_transactions: int


def base_facts(connection: server.Connection) -> BaseFacts:
    """Ask the server."""
    [row] = server.query(connection, _FACTS)
    values: list[Any] = list(row)
    values[6] = tuple(values[6])
    return BaseFacts(*values)


def cluster_size(connection: server.Connection) -> int | None:
    """Bytes of all databases; None where the role may not know."""
    try:
        return int(server.query(connection, _SIZE)[0][0])
    except SourceError:
        return None


def problems(facts: BaseFacts) -> list[str]:
    """Why a base backup cannot be made, in plain words; empty if it can."""
    found = []
    if not facts.replication:
        found.append("the role may not replicate (ALTER ROLE … REPLICATION)")
    if facts.wal_level == "minimal":
        found.append('wal_level is "minimal"; it must be "replica" or more')
    if facts.max_wal_senders - facts.wal_senders < SENDERS_NEEDED:
        found.append(f"all {facts.max_wal_senders} WAL senders are in use (max_wal_senders)")
    if facts.slots >= facts.max_slots:
        found.append(f"all {facts.max_slots} replication slots are in use (max_replication_slots)")
    if facts.tablespaces:
        found.append(f"tablespaces are not supported yet: {', '.join(facts.tablespaces)}")
    return found


def warnings(facts: BaseFacts) -> tuple[str, ...]:
    """What a person should know although the backup can be made."""
    if facts.checksums:
        return ()
    return ("data checksums are off: damage on the server's disk would be backed up unseen",)
