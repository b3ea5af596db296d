"""What a server says about itself and one database: small, for the snapshot's header."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from dr_toolkit.errors import SourceError
from dr_toolkit.postgres import server

FLYWAY_TABLE = "flyway_schema_history"

_LISTED = 20
_MIGRATIONS = 4
_TEXT_LIMIT = 120
_NAMES_LIMIT = 700
"""Bytes of names in one list: a header is a few KiB."""

_READ_ALL_DATA_FROM = 140_000
_COLLATION_VERSIONS_FROM = 150_000

_LSN = "SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END)::text"
_ROLE = """
    SELECT rolname, rolsuper, rolbypassrls, rolreplication,
           (SELECT bool_or(pg_has_role(current_user, r.oid, 'USAGE')) FROM pg_roles r WHERE r.rolname = 'pg_read_all_data')
    FROM pg_roles WHERE rolname = current_user
"""
_ROW_SECURITY = """
    SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relrowsecurity AND row_security_active(c.oid) ORDER BY 1
"""
_FLYWAY = """
    SELECT n.nspname, has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relname = {table} AND c.relkind IN ('r', 'p') ORDER BY 1 LIMIT {most}
"""
_NEWEST_MIGRATION = """
    SELECT version, description, installed_on, success FROM {table} ORDER BY installed_rank DESC LIMIT 1
"""
_STALE_COLLATIONS = """
    SELECT n.nspname || '.' || collname FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
    WHERE collversion <> pg_collation_actual_version(c.oid) ORDER BY 1
"""
_DATA_SIZE = """
    SELECT coalesce(sum(pg_table_size(oid)), 0)::bigint FROM pg_class
    WHERE relkind IN ('r', 'm') AND (relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
                                     OR oid = 'pg_largeobject'::regclass) AND relpersistence <> 't'
"""

_DATA_SIZE_ESTIMATE = """
    SELECT coalesce(sum(greatest(c.relpages, 0) + greatest(t.relpages, 0)), 0)::bigint * current_setting('block_size')::bigint
    FROM pg_class c LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
          AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
"""
_LOCK_HOLDERS = """
    SELECT a.pid, coalesce(a.usename, ''), coalesce(a.application_name, ''),
           string_agg(DISTINCT l.relation::regclass::text, ', ')
    FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_class c ON c.oid = l.relation
    WHERE l.granted AND l.mode = 'AccessExclusiveLock' AND c.relkind IN ('r', 'p')
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    GROUP BY 1, 2, 3 ORDER BY 1 LIMIT 5
"""


def facts(connection: server.Connection) -> dict[str, Any]:
    """Facts that a restore, an upgrade or a person will want to know; JSON-able, under 3 KiB.

    What the role may not read is left out and named in ``not_readable``.
    """
    version = connection.info.server_version
    [(database, full_version, checksums, standby, size)] = server.query(
        connection,
        "SELECT current_database(), version(), current_setting('data_checksums') = 'on', pg_is_in_recovery(), "
        "pg_database_size(current_database())",
    )
    flyway, not_readable = _flyway(connection)
    found = {
        "server_version": version,
        "server": _cut(full_version),
        "database": database,
        "database_bytes": size,
        "data_checksums": checksums,
        "standby": standby,
        "lsn": _lsn(connection),
        **_locale(connection, version),
        "extensions": _extensions(connection),
        "role": _role(connection, version),
        "row_security_tables": _listed([name for (name,) in server.query(connection, _ROW_SECURITY)]),
        "flyway": flyway,
    }
    if not_readable:
        found["not_readable"] = not_readable
    return found


def _lsn(connection: server.Connection) -> str | None:
    """Where the server's log stood: what was committed before it is in a dump that begins now. None where that right was taken away."""
    try:
        return _cut(server.query(connection, _LSN)[0][0])
    except SourceError:
        return None


def data_size(connection: server.Connection) -> int:
    """Bytes of tables and large objects without indexes: what a dump will roughly read.

    Where a table is locked for longer than the session waits, the last ANALYZE's word is taken.
    """
    try:
        return int(server.query(connection, _DATA_SIZE)[0][0])
    except SourceError:
        return int(server.query(connection, _DATA_SIZE_ESTIMATE)[0][0])


def lock_holders(connection: server.Connection) -> list[str]:
    """Who holds locks that keep a dump waiting, and on which tables, in plain words."""
    return [
        f"{application or 'a session'} ({user}, pid {pid}) on {tables}"
        for pid, user, application, tables in server.query(connection, _LOCK_HOLDERS)
    ]


def _locale(connection: server.Connection, version: int) -> dict[str, Any]:
    # As JSON, because the columns differ from version to version.
    [(row,)] = server.query(
        connection, "SELECT to_jsonb(d) FROM pg_database d WHERE datname = current_database()"
    )
    [(encoding,)] = server.query(connection, "SELECT current_setting('server_encoding')")
    found = {
        "encoding": encoding,
        "collation": row.get("datcollate"),
        "ctype": row.get("datctype"),
        "locale_provider": {"c": "libc", "i": "icu", "b": "builtin"}.get(row.get("datlocprovider", "c")),
        "locale": row.get("datlocale") or row.get("daticulocale"),
        "collation_version": row.get("datcollversion"),
    }
    if version >= _COLLATION_VERSIONS_FROM:
        [(actual,)] = server.query(
            connection,
            "SELECT pg_database_collation_actual_version(oid) FROM pg_database WHERE datname = current_database()",
        )
        found["collation_version_actual"] = actual
    found["stale_collations"] = _listed([name for (name,) in server.query(connection, _STALE_COLLATIONS)])
    return found


def _extensions(connection: server.Connection) -> dict[str, Any]:
    rows = server.query(connection, "SELECT extname, extversion FROM pg_extension ORDER BY 1")
    return _listed([f"{name} {version}" for name, version in rows])


def _role(connection: server.Connection, version: int) -> dict[str, Any]:
    [(name, superuser, bypass, replication, read_all)] = server.query(connection, _ROLE)
    return {
        "name": name,
        "superuser": superuser,
        "bypassrls": superuser or bypass,
        "replication": superuser or replication,
        "read_all_data": bool(superuser or read_all) if version >= _READ_ALL_DATA_FROM else None,
    }


def _flyway(connection: server.Connection) -> tuple[list[dict[str, Any]], list[str]]:
    """The newest migration of each Flyway history: the version of the application to come back to."""
    found, not_readable = [], []
    statement = server.statement(_FLYWAY, table=FLYWAY_TABLE, most=_MIGRATIONS)
    for schema, readable in server.query(connection, statement):
        if not readable:
            not_readable.append(f"{schema}.{FLYWAY_TABLE}")
            continue
        try:
            rows = server.query(
                connection,
                server.statement(_NEWEST_MIGRATION, table=server.identifier(schema, FLYWAY_TABLE)),
            )
        except SourceError:  # a table of that name with other columns
            not_readable.append(f"{schema}.{FLYWAY_TABLE}")
            continue
        found += [_migration(schema, *row) for row in rows]
    return found, not_readable


def _migration(
    schema: str, version: object, description: object, installed_on: object, success: object
) -> dict[str, Any]:
    return {
        "schema": schema,
        "version": _cut(version),
        "description": _cut(description),
        "installed_on": installed_on.isoformat(timespec="seconds")
        if isinstance(installed_on, datetime)
        else None,
        "success": bool(success),
    }


def _listed(names: Sequence[str]) -> dict[str, Any]:
    """As many names as fit, and how many there are."""
    shown: list[str] = []
    for name in names[:_LISTED]:
        if len(json.dumps([*shown, name])) > _NAMES_LIMIT:
            break
        shown.append(name)
    return {"count": len(names), "names": shown}


def _cut(text: object) -> str | None:
    return None if text is None else str(text)[:_TEXT_LIMIT]
