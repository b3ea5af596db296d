"""What a restore will do, decided from the table of contents alone: pure functions, no server and no clock.

The data is cut into units, each for one ``pg_restore``: a large table alone, small tables together, and one unit for all that
is not a table (sequences' positions, large objects), whose entries must keep their order.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from dr_toolkit.errors import Damaged, SourceError, UnknownFormat
from dr_toolkit.postgres.archive_stream import ByteReader
from dr_toolkit.postgres.archive_toc import Toc, TocEntry, read_toc
from dr_toolkit.repository.entries import EntryInfo, EntrySource

TOC_PATH = "archive/00-toc"
DATA_PREFIX = "archive/data/"

_UNITS_PER_JOB = 8
"""So many units for each job at the least: the last one to finish then keeps the others waiting for a short time only."""
_SMALL_UNIT = 32 * 1024 * 1024
"""A unit is not filled beyond this with small tables; below it, starting one more program costs more than it gains."""

TableFilter = Callable[[str, str], bool]
"""Called with schema and table; False leaves the table's data out."""


@dataclass(frozen=True, slots=True)
class DataUnit:
    """What one ``pg_restore --section=data`` loads.

    Attributes:
        dump_ids: entries of the table of contents, in its order.
        paths: the data blocks of these entries, in the archive's order.
        size: bytes of the blocks.
        names: what is in it, for messages.
        tables: how many tables' data it holds.
    """

    dump_ids: tuple[int, ...]
    paths: tuple[str, ...]
    size: int
    names: tuple[str, ...]
    tables: int


@dataclass(frozen=True, slots=True)
class _Block:
    entry: TocEntry
    info: EntryInfo


def toc_of(source: EntrySource) -> Toc:
    """The snapshot's table of contents.

    Raises:
        Damaged: what is stored there is not one.
    """
    raw = b"".join(source.read(TOC_PATH))
    reader = ByteReader(io.BytesIO(raw))
    try:
        toc = read_toc(reader)
    except (SourceError, UnknownFormat) as error:
        raise Damaged(f"the stored table of contents cannot be read: {error.message}", on=TOC_PATH) from error
    if not reader.at_end():
        raise Damaged("the stored table of contents has bytes after its end", on=TOC_PATH)
    return toc


def in_section(toc: Toc, section: str) -> tuple[TocEntry, ...]:
    """Entries that ``pg_restore --section`` counts in: comments and privileges go with the entry before them."""
    found = []
    current = "pre-data"
    for entry in toc.entries:
        if entry.section != "none":
            current = entry.section
        if current == section:
            found.append(entry)
    return tuple(found)


_BESIDE_READERS = frozenset({"INDEX", "MATERIALIZED VIEW DATA"})
"""What locks out writers of a table alone. Everything else of the last section (keys, triggers, rules) locks out readers too."""


def beside_readers(toc: Toc) -> dict[int, frozenset[int]]:
    """Entries of the last section that may run while their tables are read, each with the tables whose rows it needs.

    What depends on an entry that may not is not among them.
    """
    section = in_section(toc, "post-data")
    with_rows = {
        dependency: entry.dump_id
        for entry in toc.entries
        if entry.desc == "TABLE DATA"
        for dependency in entry.dependencies
    }
    ids = {entry.dump_id for entry in section}
    found: dict[int, frozenset[int]] = {}
    for entry in section:
        before = ids.intersection(entry.dependencies)
        if entry.desc in _BESIDE_READERS and entry.section == "post-data" and before <= found.keys():
            needed = {with_rows[one] for one in entry.dependencies if one in with_rows}
            found[entry.dump_id] = frozenset(needed.union(*(found[one] for one in before)))
    return found


def data_units(
    toc: Toc, infos: Iterable[EntryInfo], *, jobs: int, tables: TableFilter | None = None
) -> tuple[DataUnit, ...]:
    """Cut the archive's data into units, the largest first.

    Args:
        toc: the table of contents.
        infos: the entries below ``archive/data/``, in the archive's order.
        jobs: how many units will be loaded side by side.
        tables: which tables' data to load; with a filter, what is not a table is left out.

    Raises:
        Damaged: the table of contents announces a block that is not there.
    """
    by_id = _paths_by_id(infos)
    loaded, rest = [], []
    for entry in in_section(toc, "data"):
        if entry.has_data and entry.dump_id not in by_id:
            raise Damaged(
                f'the snapshot has no data for "{name_of(entry)}", which its table of contents announces'
            )
        if entry.desc == "TABLE DATA" and entry.has_data:
            if tables is None or tables(entry.namespace or "", entry.tag):
                loaded.append(_Block(entry, by_id[entry.dump_id]))
        elif tables is None:
            rest.append(entry)
    order = {info.path: place for place, info in enumerate(by_id.values())}
    units = [_unit(group, order) for group in _grouped(loaded, jobs)]
    if rest:
        units.append(_rest_unit(rest, by_id))
    return tuple(sorted(units, key=lambda unit: -unit.size))


def sizes(infos: Iterable[EntryInfo]) -> dict[int, int]:
    """Bytes of the entries below ``archive/data/``, by the dump id of what they hold."""
    return {dump_id: info.size for dump_id, info in _paths_by_id(infos).items()}


def _paths_by_id(infos: Iterable[EntryInfo]) -> dict[int, EntryInfo]:
    return {int(info.meta["dump_id"]): info for info in infos if "dump_id" in info.meta}


def _grouped(blocks: Sequence[_Block], jobs: int) -> Iterator[list[_Block]]:
    """Large blocks alone, small ones together up to a limit."""
    total = sum(block.info.size for block in blocks)
    limit = min(_SMALL_UNIT, total // (jobs * _UNITS_PER_JOB))
    group: list[_Block] = []
    filled = 0
    for block in sorted(blocks, key=lambda block: -block.info.size):
        if group and filled + block.info.size > limit:
            yield group
            group, filled = [], 0
        group.append(block)
        filled += block.info.size
    if group:
        yield group


def _unit(blocks: Sequence[_Block], order: dict[str, int]) -> DataUnit:
    # pg_restore reads its input once, from front to back, so list and blocks must come in the archive's order.
    ordered = sorted(blocks, key=lambda block: order[block.info.path])
    return DataUnit(
        dump_ids=tuple(block.entry.dump_id for block in ordered),
        paths=tuple(block.info.path for block in ordered),
        size=sum(block.info.size for block in ordered),
        names=tuple(name_of(block.entry) for block in ordered),
        tables=len(ordered),
    )


def _rest_unit(entries: Sequence[TocEntry], by_id: dict[int, EntryInfo]) -> DataUnit:
    blocks = [by_id[entry.dump_id] for entry in entries if entry.has_data]
    return DataUnit(
        dump_ids=tuple(entry.dump_id for entry in entries),
        paths=tuple(info.path for info in blocks),
        size=sum(info.size for info in blocks),
        names=("sequences and large objects",),
        tables=0,
    )


def name_of(entry: TocEntry) -> str:
    """An entry's name for messages: ``schema.table``, or the tag alone."""
    return f"{entry.namespace}.{entry.tag}" if entry.namespace else entry.tag
