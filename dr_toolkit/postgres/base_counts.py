"""Row counts of a whole cluster that hold at the backup's end, although nobody can ask the server what it held at that moment.

A row whose transaction is older than every one that ran at a moment A can only be deleted later, never appear. So of such rows, the
moments A (before the backup's end E) and B (after it) give bounds for E: as many as at A at most, and at least as many as at B. Where
nothing of a table was deleted or changed between A and B the bounds are equal, and the count is exact. See ADR 0016.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import msgspec

from dr_toolkit import log
from dr_toolkit.errors import Damaged, DrctlError
from dr_toolkit.postgres import server
from dr_toolkit.postgres.connection import ConnectionSettings

ENTRY = "row_counts"
"""The entry of a snapshot that holds them."""
_log = log.get("postgres.base")
_TOGETHER = 50
_LOCK_S = 1.0
_SHOWN = 5
_DATABASES = """
    SELECT datname::text FROM pg_database WHERE datallowconn AND has_database_privilege(oid, 'CONNECT') ORDER BY 1
"""
_TABLES = """
    SELECT c.oid::bigint, n.nspname::text, c.relname::text,
           CASE WHEN c.oid NOT IN (SELECT relation FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation IS NOT NULL)
                THEN pg_relation_size(c.oid) END,
           has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AND NOT row_security_active(c.oid)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    ORDER BY 1
"""
_MOMENT = """
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text, pg_is_in_recovery(),
           (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END)::text
"""
_COUNT = """
    SELECT {oid}::bigint, count(*) FROM ONLY {table} AS t
    WHERE t.xmin::text::bigint < 3 OR ({xmin} - t.xmin::text::bigint) & 4294967295 BETWEEN 1 AND 2147483648
"""
"""Rows of transactions older than the moment's oldest: system columns have the low 32 bits, and 1 and 2 are older than all."""


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table's bounds.

    Attributes:
        oid: of the table.
        name: with its schema.
        most: rows there were before the backup's end.
        least: rows of these that there were after it; None when it was gone by then, or when nobody can say.
    """

    oid: int
    name: str
    most: int
    least: int | None = None


class Database(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One database's tables.

    Attributes:
        name: of the database.
        xmin: the oldest transaction that ran when the rows were first counted.
        lsn: where WAL was then; must not be after the backup's end.
        tables: that were counted.
        left_out: how many were not.
    """

    name: str
    xmin: int
    lsn: str
    tables: list[Table]
    left_out: int


@dataclass(slots=True)
class Compared:
    """What came of a comparison.

    Attributes:
        tables: that were compared.
        exact: those of which the count is known exactly.
        rows: that were counted.
        left_out: tables that were not counted at the backup.
        failures: in words.
    """

    tables: int = 0
    exact: int = 0
    rows: int = 0
    left_out: int = 0
    failures: list[str] = field(default_factory=list)

    def document(self) -> dict[str, int]:
        """For the evidence."""
        return {"tables": self.tables, "exact": self.exact, "rows": self.rows, "not_counted": self.left_out}


def before(settings: ConnectionSettings, limit: int) -> list[Database]:
    """Count before the backup's end. What cannot be counted is left out: a backup does not fail for it.

    Args:
        settings: the source.
        limit: bytes of the largest table that is counted.
    """
    try:
        with closing(server.connect(settings)) as session:
            names = [str(name) for (name,) in server.query(session, _DATABASES)]
    except DrctlError as error:
        _log.warning("rows are not counted", reason=error.message)
        return []
    found = []
    for name in names:
        try:
            found.append(_first(settings.for_database(name), name, limit))
        except DrctlError as error:
            _log.warning("rows are not counted", database=name, reason=error.message)
            found.append(Database(name, 0, "0/0", [], 1))
    return found


def _first(settings: ConnectionSettings, name: str, limit: int) -> Database:
    with _moment(settings) as (session, (xmin, _standby, lsn)):
        rows = server.query(session, _TABLES)
        wanted = [
            (oid, schema, table) for oid, schema, table, size, may in rows if may and _fits(size, limit)
        ]
        counts = _count(session, wanted, int(xmin))
    tables = [Table(oid, f"{schema}.{table}", counts[oid]) for oid, schema, table in wanted if oid in counts]
    return Database(name, int(xmin), lsn, tables, len(rows) - len(tables))


def _fits(size: int | None, limit: int) -> bool:
    return size is not None and size <= limit


def after(settings: ConnectionSettings, databases: Sequence[Database]) -> list[Database]:
    """Count the same rows again after the backup's end.

    A standby's backup may hold WAL that the standby itself had not replayed by then, so its second count is no bound.
    """
    return [_again(settings, one) for one in databases]


def _again(settings: ConnectionSettings, one: Database) -> Database:
    try:
        with _moment(settings.for_database(one.name)) as (session, (_xmin, standby, _lsn)):
            if standby:
                return one
            now = {
                oid: (schema, table)
                for oid, schema, table, _size, may in server.query(session, _TABLES)
                if may
            }
            wanted = [(table.oid, *now[table.oid]) for table in one.tables if table.oid in now]
            counts = _count(session, wanted, one.xmin)
    except DrctlError:
        return one
    tables = [msgspec.structs.replace(table, least=counts.get(table.oid)) for table in one.tables]
    return msgspec.structs.replace(one, tables=tables)


def compare(settings: ConnectionSettings, databases: Sequence[Database]) -> Compared:
    """Hold a restored cluster against what was counted.

    Raises:
        DrctlError: the restored server went away.
    """
    done = Compared(left_out=sum(one.left_out for one in databases))
    with closing(server.connect(settings)) as session:
        there = {str(name) for (name,) in server.query(session, _DATABASES)}
    for one in databases:
        if one.name not in there:
            if any(table.least is not None for table in one.tables):
                _fail(done, f'the database "{one.name}" is missing')
            continue
        with _moment(settings.for_database(one.name)) as (session, _facts):
            now = {oid: (schema, table) for oid, schema, table, *_more in server.query(session, _TABLES)}
            wanted = [(table.oid, *now[table.oid]) for table in one.tables if table.oid in now]
            counts = _count(session, wanted, one.xmin)
        for table in one.tables:
            _judge(done, one.name, table, counts.get(table.oid))
    return done


def _judge(done: Compared, database: str, table: Table, count: int | None) -> None:
    where = f'{table.name} in "{database}"'
    if count is None:
        if table.least is not None:
            _fail(done, f"the table {where} is missing, or cannot be counted")
        return
    done.tables += 1
    done.rows += count
    done.exact += table.least == table.most
    if count > table.most:
        _fail(done, f"{where} has {count} rows of before the backup, and the source had {table.most}")
    elif table.least is not None and count < table.least:
        _fail(
            done,
            f"{where} has {count} rows of before the backup, and the source had {table.least} of them after it",
        )


def encoded(databases: Sequence[Database]) -> bytes:
    """For the snapshot."""
    return msgspec.json.encode(databases)


def decoded(data: bytes) -> list[Database]:
    """From a snapshot.

    Raises:
        Damaged: it is none of ours.
    """
    try:
        return msgspec.json.decode(data, type=list[Database])
    except msgspec.DecodeError as error:
        raise Damaged("the row counts cannot be understood", fault="structure", on=ENTRY) from error


@contextmanager
def _moment(settings: ConnectionSettings) -> Iterator[tuple[server.Connection, tuple[str, bool, str]]]:
    """A session that sees one moment, and the moment's facts."""
    with closing(server.connect(settings)) as session:
        server.set_timeouts(session, lock_s=_LOCK_S)
        server.query(session, "SELECT set_config('search_path', 'pg_catalog', false)")
        server.query(session, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        [(xmin, standby, lsn)] = server.query(session, _MOMENT)
        yield session, (str(xmin), bool(standby), str(lsn))


def _count(session: server.Connection, tables: Sequence[tuple[int, str, str]], xmin: int) -> dict[int, int]:
    """Counts by oid; a table that cannot be counted (locked, dropped meanwhile, of another storage) has none."""
    found: dict[int, int] = {}
    for start in range(0, len(tables), _TOGETHER):
        group = tables[start : start + _TOGETHER]
        counted = _try(session, group, xmin)
        if counted is None:
            parts = [_try(session, [table], xmin) or {} for table in group]
            counted = {oid: count for part in parts for oid, count in part.items()}
        found |= counted
    return found


def _try(
    session: server.Connection, tables: Sequence[tuple[int, str, str]], xmin: int
) -> dict[int, int] | None:
    parts = [
        server.statement(_COUNT, oid=oid, table=server.identifier(schema, table), xmin=xmin % (1 << 32))
        for oid, schema, table in tables
    ]
    server.query(session, "SAVEPOINT one")
    try:
        rows = server.query(session, server.joined(" UNION ALL ", parts))
    except DrctlError:
        server.query(session, "ROLLBACK TO one")
        return None
    return {int(oid): int(count) for oid, count in rows}


def _fail(done: Compared, text: str) -> None:
    if len(done.failures) < _SHOWN:
        done.failures.append(text)
