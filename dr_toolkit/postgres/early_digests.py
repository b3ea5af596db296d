"""Digests of restored tables, taken while other tables are still loaded and indexes are built (docs/adr/0015-early-digests.md).

A digest that is taken early says what was there then. Before it is used, `EarlyDigests.settled` shows that the very same rows
are there still: a restored table's rows were all written by one transaction, its COPY, and PostgreSQL never changes a row in
place. So if the table holds as many rows now as were digested, and each was written by that transaction, they are the rows
that were digested. Tables of which this cannot be shown are left to the comparison at the end.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress

from dr_toolkit import log, process
from dr_toolkit.errors import DrctlError
from dr_toolkit.postgres import restore_target, second_dump, server
from dr_toolkit.postgres.archive import TableSummary
from dr_toolkit.postgres.compare import DumpFacts, TableName
from dr_toolkit.postgres.connection import ConnectionSettings
from dr_toolkit.postgres.tools import Tools

_log = log.get("postgres.verify")

FROM_BYTES = 64 << 20
"""From so much data on digests are taken early; below, the programs' start costs more than is gained."""
_WORTH = 1 << 20
"""The least that a table has to hold for it."""
_TABLES = 50
"""So many tables at the most: their names stand in an argument list."""


def worth_it(expected: DumpFacts, *, at_least: int = FROM_BYTES) -> frozenset[TableName]:
    """The tables whose digests are to be taken early: the largest, if there is much to read at all.

    Args:
        expected: the snapshot.
        at_least: the bytes of all tables from which on it is.
    """
    sizes = {name: summary.size for name, summary in expected.tables.items()}
    if sum(sizes.values()) < at_least:
        return frozenset()
    largest = sorted(sizes, key=lambda name: (-sizes[name], name))[:_TABLES]
    return frozenset(name for name in largest if sizes[name] >= min(_WORTH, at_least))


class EarlyDigests:
    """Takes digests of tables as they come. Safe to use from several threads.

    Args:
        settings: the database that is being restored.
        tools: client programs.
        wanted: tables whose digests are taken; others are passed over.
    """

    def __init__(self, settings: ConnectionSettings, tools: Tools, wanted: Collection[TableName]) -> None:
        self._settings = settings
        self._tools = tools
        self._wanted = frozenset(wanted)
        self._lock = threading.Lock()
        self._waiting: list[TableName] = []
        self._running: set[process.Pipe] = set()
        self._stopped = False
        self._taken: dict[TableName, tuple[TableSummary, str | None]] = {}

    @property
    def taken(self) -> frozenset[TableName]:
        """The tables whose digest was taken."""
        return frozenset(self._taken)

    def loaded(self, names: Iterable[TableName]) -> bool:
        """Note tables whose rows are all there; whether there is something to do now."""
        with self._lock:
            self._waiting += [name for name in names if name in self._wanted]
            return bool(self._waiting)

    def work(self) -> None:
        """Take the digests of all tables that wait. What fails here is left to the comparison at the end, and said there."""
        with self._lock:
            names, self._waiting = self._waiting, []
        if not names or self._stopped:
            return
        pipes: list[process.Pipe] = []
        try:
            writers = self._writers(names)
            found = second_dump.rows(self._settings, self._tools, names, started=self._started(pipes))
        except (DrctlError, OSError, ValueError) as error:  # the last two: `stop` closed the stream
            _log.info("digests not taken early", tables=len(names), reason=str(error))
            return
        finally:
            with self._lock:
                self._running.difference_update(pipes)
        with self._lock:
            self._taken |= {name: (found[name], writers[name]) for name in names if name in found}

    def stop(self) -> None:
        """End what runs, and begin nothing any more."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for pipe in running:
            with suppress(ValueError):  # its reader is closing the stream, too
                pipe.stop()

    def settled(self) -> Mapping[TableName, TableSummary]:
        """The tables that hold exactly the rows that were digested, now; each with what it holds."""
        if not self._taken:
            return {}
        settled = {}
        try:
            with restore_target.session(self._settings) as session:
                _independent(session)
                for name, (summary, writer) in self._taken.items():
                    if _unchanged(session, name, summary, writer):
                        settled[name] = summary
        except DrctlError as error:
            _log.info("tables not shown to be unchanged", reason=error.message)
        left = sorted(".".join(name) for name in self._taken.keys() - settled.keys())
        _log.info("digests taken early", tables=len(settled), again=left)
        return settled

    def _writers(self, names: Iterable[TableName]) -> dict[TableName, str | None]:
        """The transaction that wrote each table's rows; None for a table without any."""
        writers: dict[TableName, str | None] = {}
        with restore_target.session(self._settings) as session:
            _independent(session)
            for name in names:
                one = server.statement("SELECT xmin::text FROM ONLY {table} LIMIT 1", table=_table(name))
                writers[name] = next((row[0] for row in server.query(session, one)), None)
        return writers

    def _started(self, pipes: list[process.Pipe]) -> second_dump.Started:
        def note(pipe: process.Pipe) -> None:
            pipes.append(pipe)
            with self._lock:
                self._running.add(pipe)
                stopped = self._stopped
            if stopped:
                pipe.stop()

        return note


def _unchanged(
    session: server.Connection, name: TableName, summary: TableSummary, writer: str | None
) -> bool:
    counted = server.statement(
        "SELECT count(*), count(*) FILTER (WHERE xmin = {writer}::xid) FROM ONLY {table}",
        table=_table(name),
        writer=writer,
    )
    [(rows, by_writer)] = server.query(session, counted)
    return bool(rows == by_writer == summary.rows)


def _independent(session: server.Connection) -> None:
    """Of settings that a role or the database may have; and a policy must hide no row from a count."""
    server.set_timeouts(session)
    server.query(session, "SET search_path = pg_catalog")
    server.query(session, "SET row_security = off")


def _table(name: TableName) -> server.Composable:
    return server.identifier(*name)
