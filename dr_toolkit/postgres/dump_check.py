"""Compare a dump's row counts with what SQL counts in the very snapshot that was dumped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dr_toolkit.errors import SourceError
from dr_toolkit.postgres import server
from dr_toolkit.postgres.connection import ConnectionSettings

if TYPE_CHECKING:
    from dr_toolkit.postgres.dump_entries import DumpedTable

_NAMED = 5


class SourceSnapshot:
    """A transaction that holds one exported snapshot of the source."""

    def __init__(self, connection: server.Connection, name: str) -> None:
        self._connection = connection
        self.name = name

    def compare(self, tables: Sequence[DumpedTable]) -> None:
        """Count every dumped table's rows and compare.

        Tables of extensions are left out: extensions say which of their rows are dumped.

        Raises:
            SourceError: a number differs; the message names the tables.
        """
        of_extensions = {
            oid
            for (oid,) in server.query(
                self._connection,
                "SELECT objid::bigint FROM pg_depend WHERE classid = 'pg_class'::regclass AND deptype = 'e'",
            )
        }
        differences = [
            f'"{table.schema}.{table.name}" has {counted} rows by SQL and {table.summary.rows} in the dump'
            for table in tables
            if table.oid not in of_extensions
            and table.summary.rows is not None
            and (counted := self._count(table)) != table.summary.rows
        ]
        if differences:
            more = f" and {len(differences) - _NAMED} more" if len(differences) > _NAMED else ""
            raise SourceError(
                f"the dump does not hold what the source has: {'; '.join(differences[:_NAMED])}{more}",
                hint="look for corruption in the source: an index scan may see other rows than a full scan",
                unaffected="no snapshot was made",
            )

    def _count(self, table: DumpedTable) -> int:
        # COPY reads the one table, without those that inherit from it.
        statement = server.statement(
            "SELECT count(*) FROM ONLY {table}", table=server.identifier(table.schema, table.name)
        )
        return int(server.query(self._connection, statement)[0][0])


@contextmanager
def source_snapshot(settings: ConnectionSettings) -> Iterator[SourceSnapshot]:
    """Hold a snapshot of the source for `pg_dump --snapshot` until the block ends."""
    connection = server.connect(settings)
    try:
        server.set_timeouts(connection)
        server.query(connection, "SET row_security = off")
        server.query(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield SourceSnapshot(connection, str(server.query(connection, "SELECT pg_export_snapshot()")[0][0]))
    finally:
        connection.close()
