"""Dumps of a restored database that are read for their digests alone and kept nowhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import cast

from dr_toolkit import process
from dr_toolkit.errors import ProgramError, SourceError, TargetError
from dr_toolkit.log import NoProgress, Progress
from dr_toolkit.postgres import compare
from dr_toolkit.postgres.archive import Contents, TableSummary, contents
from dr_toolkit.postgres.archive_stream import Readable
from dr_toolkit.postgres.archive_toc import Toc
from dr_toolkit.postgres.compare import DumpFacts, TableName
from dr_toolkit.postgres.connection import ConnectionSettings, credentials
from dr_toolkit.postgres.dump_environment import comparable
from dr_toolkit.postgres.restore_program import failure
from dr_toolkit.postgres.tools import Tools

Started = Callable[[process.Pipe], None]


def facts(
    settings: ConnectionSettings,
    tools: Tools,
    *,
    aside: Sequence[TableName] = (),
    without: Sequence[TableName] = (),
    progress: Progress | None = None,
) -> DumpFacts:
    """What a database holds. Nobody else may change it meanwhile.

    Args:
        settings: the database.
        tools: client programs.
        aside: tables that a second dump reads at the same time.
        without: tables whose rows are not read; in what is given back they are missing.
        progress: told of the bytes read.

    Raises:
        TargetError: ``pg_dump`` failed.
    """
    notes = progress or NoProgress()
    left_out = [f"--exclude-table-data={_pattern(name)}" for name in (*aside, *without)]
    if not aside:
        with opened(settings, tools, *left_out) as stream:
            found = contents(stream, on_bytes=notes.advance)
        return compare.facts_of(found.toc, found.tables, found.large_objects)
    first: Contents | None = None
    tables: dict[TableName, TableSummary] = {}
    try:
        # In this order: whatever ends the block ends the second dump too, before its reader is waited for.
        with (
            ThreadPoolExecutor(1, thread_name_prefix="drctl-compare") as pool,
            opened(settings, tools, *only(aside)) as other,
        ):
            second = pool.submit(contents, other, on_bytes=notes.advance)
            with opened(settings, tools, *left_out) as stream:
                first = contents(stream, on_bytes=notes.advance)
            tables = second.result().tables
    except TargetError:
        # pg_dump refuses to dump none of the tables that it was asked for. That they are missing is for the comparison to say.
        if first is None or any(_has_table(first.toc, name) for name in aside):
            raise
    return compare.facts_of(first.toc, {**first.tables, **tables}, first.large_objects)


def rows(
    settings: ConnectionSettings, tools: Tools, names: Sequence[TableName], *, started: Started | None = None
) -> dict[TableName, TableSummary]:
    """What these tables hold.

    Args:
        settings: the database.
        tools: client programs.
        names: the tables; at least one must be there.
        started: told of the program once it runs.

    Raises:
        TargetError: ``pg_dump`` failed.
    """
    with opened(settings, tools, *only(names), started=started) as stream:
        return contents(stream).tables


def only(names: Sequence[TableName]) -> list[str]:
    """Options for the rows of these tables and nothing else."""
    return ["--data-only", *(f"--table={_pattern(name)}" for name in names)]


@contextmanager
def opened(
    settings: ConnectionSettings, tools: Tools, *options: str, started: Started | None = None
) -> Iterator[Readable]:
    """A dump as a stream. Its exit status is checked when the block ends without an error and the stream was read to its end.

    Args:
        settings: the database.
        tools: whose ``pg_dump``.
        options: what to dump.
        started: told of the program once it runs.
    """
    argv = [
        tools.program("pg_dump"),
        *("--format=custom", "--compress=0", "--no-password"),
        *options,
    ]
    with (
        credentials(settings) as env,
        process.Pipe(argv, env=comparable(env) | dict(tools.env), bulk=True) as pipe,
    ):
        if started is not None:
            started(pipe)
        try:
            yield cast("Readable", pipe.stdout)
        except SourceError as error:
            # A dump that broke off: pg_dump says why, unless it is still there and we did not understand it.
            if pipe.stdout is not None and not pipe.stdout.read(1):
                _finish(pipe, settings)
            raise TargetError(
                f"the second dump cannot be read: {error.message}", on=settings.redacted()
            ) from error
        if pipe.stdout is not None and not pipe.stdout.read(1):  # else the rest was not wanted
            _finish(pipe, settings)


def _finish(pipe: process.Pipe, settings: ConnectionSettings) -> None:
    try:
        pipe.finish()
    except ProgramError as error:
        raise failure(
            "pg_dump", "reading the restored database", pipe.stderr_tail(), error, on=settings.redacted()
        ) from error


def _has_table(toc: Toc, name: TableName) -> bool:
    return any(entry.desc == "TABLE" and (entry.namespace or "", entry.tag) == name for entry in toc.entries)


def _pattern(name: TableName) -> str:
    # Within double quotes a pattern's characters stand for themselves.
    return ".".join('"' + part.replace('"', '""') + '"' for part in name)
