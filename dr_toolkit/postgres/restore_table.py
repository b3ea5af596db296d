"""Restore one table: its definition, its rows, its indexes and keys, and what the definition needs and the target lacks.

Left out, because they tie the table to others or to roles: foreign keys, triggers, policies, privileges and owners. The table
must not exist yet; a restored copy never overwrites anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dr_toolkit.errors import SourceError, TargetError, UsageError
from dr_toolkit.log import NoProgress, Progress
from dr_toolkit.postgres import restore_plan, restore_target, server
from dr_toolkit.postgres.archive_toc import Toc, TocEntry
from dr_toolkit.postgres.connection import ConnectionSettings, credentials
from dr_toolkit.postgres.restore import list_file, stream
from dr_toolkit.postgres.restore_plan import DATA_PREFIX
from dr_toolkit.postgres.restore_program import Runner, Target
from dr_toolkit.postgres.tools import Tools
from dr_toolkit.repository.entries import EntrySource

_TABLES = frozenset({"TABLE", "FOREIGN TABLE"})
_OWN = frozenset(
    {
        *("DEFAULT", "SEQUENCE", "SEQUENCE OWNED BY", "SEQUENCE SET", "TABLE DATA", "TABLE ATTACH"),
        *("CONSTRAINT", "CHECK CONSTRAINT", "INDEX", "INDEX ATTACH", "STATISTICS", "COMMENT"),
    }
)
"""Entries that are restored because they depend on the table."""
_NEAREST = 3


@dataclass(frozen=True, slots=True)
class TableReport:
    """What restoring a table did.

    Attributes:
        name: ``schema.table``.
        rows: rows that were loaded, its partitions' included; None if the snapshot does not tell.
        bytes: size of their data.
        also: what else was created because the table needs it.
        skipped: what belongs to the table and was left out.
    """

    name: str
    rows: int | None
    bytes: int
    also: tuple[str, ...]
    skipped: tuple[str, ...]


def restore_table(
    source: EntrySource,
    settings: ConnectionSettings,
    tools: Tools,
    table: str,
    *,
    progress: Progress | None = None,
) -> TableReport:
    """Restore one table into a database in which it does not exist yet.

    Args:
        source: the snapshot's entries; only this table's data is read.
        settings: the database, which may hold other things.
        tools: PostgreSQL's programs to use.
        table: ``schema.table``, or ``table`` when only one schema has it.
        progress: told of the bytes loaded.

    Raises:
        UsageError: the snapshot has no such table, or several.
        TargetError: the table exists, or the target refused.
        Damaged: the table's content is.
    """
    toc = restore_plan.toc_of(source)
    entry = find_table(toc, table)
    own = belonging(toc, entry)
    with restore_target.session(settings) as connection:
        _check_absent(connection, entry, settings)
        needed = [item for item in _needs(toc, own) if not _exists(connection, item)]
        version = connection.info.server_version
    blocks = {info.meta.get("dump_id"): info for info in source.entries(DATA_PREFIX)}
    chosen = sorted({item.dump_id for item in (*own, *needed)})
    wanted = [item.dump_id for item in toc.entries if item.dump_id in set(chosen)]
    infos = [info for dump_id, info in blocks.items() if dump_id in set(wanted)]
    watcher = progress or NoProgress()
    watcher.start(sum(info.size for info in infos), f"restoring {restore_plan.name_of(entry)}")
    options = ("--no-owner", "--no-privileges", "--no-tablespaces")
    with credentials(settings) as env, list_file(wanted) as path:
        target = Target(settings, tools, env, version // 10_000, options)
        Runner(target).feed(
            f'table "{restore_plan.name_of(entry)}"',
            [f"--use-list={path}", *(() if target.tolerant else ("--single-transaction",))],
            stream(source, toc.raw, [info.path for info in infos], watcher),
        )
    counts = [info.meta.get("rows") for info in infos]
    return TableReport(
        name=restore_plan.name_of(entry),
        rows=None if None in counts else sum(int(count or 0) for count in counts),
        bytes=sum(info.size for info in infos),
        also=tuple(_label(item) for item in needed),
        skipped=tuple(sorted({_label(item) for item in _left_out(toc, own)})),
    )


def check_tables(source: EntrySource, settings: ConnectionSettings, tables: Sequence[str]) -> None:
    """Make sure that the snapshot has all of these tables and the target none of them, before the first is restored.

    Raises:
        UsageError: the snapshot has no such table, or several.
        TargetError: the target is not there, or has one of them.
    """
    toc = restore_plan.toc_of(source)
    entries = [find_table(toc, table) for table in tables]
    try:
        with restore_target.session(settings) as connection:
            for entry in entries:
                _check_absent(connection, entry, settings)
    except TargetError as error:
        error.hint = error.hint or "single tables go into a database that is there already: create it first"
        error.unaffected = error.unaffected or "nothing was started"
        raise


def find_table(toc: Toc, table: str) -> TocEntry:
    """The entry of a table by ``schema.table`` or by a name that only one schema has.

    Raises:
        UsageError: there is none, or there are several.
    """
    tables = [entry for entry in toc.entries if entry.desc in _TABLES]
    found = [entry for entry in tables if table in (restore_plan.name_of(entry), entry.tag)]
    exact = [entry for entry in found if restore_plan.name_of(entry) == table]
    if len(exact) == 1 or len(found) == 1:
        return (exact or found)[0]
    names = sorted(restore_plan.name_of(entry) for entry in (found or tables))
    if found:
        raise UsageError(f'several schemas have a table "{table}"', hint=f"say which: {', '.join(names)}")
    near = [name for name in names if table.rpartition(".")[2] in name] or names
    raise UsageError(
        f'the snapshot has no table "{table}"',
        hint=f"tables in it: {', '.join(near[:_NEAREST])}{', …' if len(near) > _NEAREST else ''}",
    )


def belonging(toc: Toc, table: TocEntry) -> tuple[TocEntry, ...]:
    """The table, its partitions, and what is a part of them: defaults, sequences they own, data, keys, indexes."""
    by_id = {entry.dump_id: entry for entry in toc.entries}
    chosen = {table.dump_id}
    while True:
        more = {
            item
            for entry in toc.entries
            if entry.desc in _OWN and (entry.dump_id in chosen or chosen & set(entry.dependencies))
            for item in (entry.dump_id, *_drawn_in(entry, by_id, chosen))
        }
        if more <= chosen:
            return tuple(entry for entry in toc.entries if entry.dump_id in chosen)
        chosen |= more


def _drawn_in(entry: TocEntry, by_id: dict[int, TocEntry], chosen: set[int]) -> Iterable[int]:
    """What comes with an entry: the partition that is attached, the sequence that is owned."""
    if entry.desc not in {"TABLE ATTACH", "SEQUENCE OWNED BY"}:
        return ()
    return [
        other
        for other in entry.dependencies
        if other in by_id and other not in chosen and by_id[other].desc in {"TABLE", "SEQUENCE"}
    ]


def _needs(toc: Toc, own: Sequence[TocEntry]) -> list[TocEntry]:
    """Schemas, types, functions and the like that the entries depend on, in the table of contents' order."""
    by_id = {entry.dump_id: entry for entry in toc.entries}
    inside = {entry.dump_id for entry in own}
    pending = [other for entry in own for other in entry.dependencies]
    schemas = {entry.namespace for entry in own}
    pending += [entry.dump_id for entry in toc.entries if entry.desc == "SCHEMA" and entry.tag in schemas]
    found: set[int] = set()
    while pending:
        dump_id = pending.pop()
        entry = by_id.get(dump_id)
        if entry is not None and dump_id not in inside | found and entry.section == "pre-data":
            found.add(dump_id)
            pending += entry.dependencies
    return [entry for entry in toc.entries if entry.dump_id in found]


def _left_out(toc: Toc, own: Sequence[TocEntry]) -> list[TocEntry]:
    inside = {entry.dump_id for entry in own}
    return [
        entry
        for entry in toc.entries
        if entry.dump_id not in inside
        and entry.desc in {"FK CONSTRAINT", "TRIGGER", "POLICY", "ROW SECURITY", "RULE", "ACL"}
        and inside & set(entry.dependencies)
    ]


_PRESENT = {
    "SCHEMA": "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %(tag)s",
    "EXTENSION": "SELECT 1 FROM pg_catalog.pg_extension WHERE extname = %(tag)s",
    "FUNCTION": "SELECT 1 WHERE to_regprocedure(quote_ident(%(namespace)s) || '.' || %(tag)s) IS NOT NULL",
    "COLLATION": "SELECT 1 FROM pg_catalog.pg_collation c JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace "
    "WHERE n.nspname = %(namespace)s AND c.collname = %(tag)s",
}
_TYPE_PRESENT = (
    "SELECT 1 WHERE to_regtype(quote_ident(%(namespace)s) || '.' || quote_ident(%(tag)s)) IS NOT NULL"
)
_RELATION_PRESENT = (
    "SELECT 1 WHERE to_regclass(quote_ident(%(namespace)s) || '.' || quote_ident(%(tag)s)) IS NOT NULL"
)
_KINDS = {"TYPE": _TYPE_PRESENT, "SHELL TYPE": _TYPE_PRESENT, "DOMAIN": _TYPE_PRESENT}
_RELATIONS = frozenset({"TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "FOREIGN TABLE"})


def _exists(connection: server.Connection, entry: TocEntry) -> bool:
    statement = _PRESENT.get(entry.desc) or _KINDS.get(entry.desc)
    if statement is None:
        if entry.desc not in _RELATIONS:
            return False
        statement = _RELATION_PRESENT
    parameters = {"tag": entry.tag, "namespace": entry.namespace or ""}
    try:
        return bool(server.query(connection, statement, parameters))
    except SourceError:  # an argument's type does not exist, so the function does not either
        return False


def _check_absent(connection: server.Connection, entry: TocEntry, settings: ConnectionSettings) -> None:
    parameters = {"tag": entry.tag, "namespace": entry.namespace or ""}
    if server.query(connection, _RELATION_PRESENT, parameters):
        raise TargetError(
            f'"{restore_plan.name_of(entry)}" exists in the database "{settings.database}" already',
            on=settings.redacted(),
            hint="rename it, or restore the table into another database",
            unaffected="nothing was changed",
        )


def _label(entry: TocEntry) -> str:
    return f"{entry.desc.lower()} {restore_plan.name_of(entry)}"
