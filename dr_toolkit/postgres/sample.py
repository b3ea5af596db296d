"""A part of a dump, for databases too large to restore in whole every time: what is loaded, what is not, and what that proves. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from dr_toolkit.postgres.archive_toc import Toc, TocEntry
from dr_toolkit.postgres.compare import DumpFacts, ObjectName, Part, TableName
from dr_toolkit.postgres.restore_plan import in_section
from dr_toolkit.words import counted

_FOREIGN_KEY = "FK CONSTRAINT"
_ROWS = frozenset({"TABLE DATA"})
_NAMED = 200
"""So many tables are named in evidence, of each sort; the numbers are always there."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What part is asked for.

    Attributes:
        tables: patterns of ``schema.table`` (or of a table's name alone) whose rows are loaded; empty for every table.
        schema_only: no rows at all, only definitions.
        seconds: no table is begun later than this after the start; None without a limit.
    """

    tables: tuple[str, ...] = ()
    schema_only: bool = False
    seconds: float | None = None

    def wants(self, schema: str, table: str) -> bool:
        """Whether a table's rows are to be loaded."""
        if self.schema_only:
            return False
        names = (f"{schema}.{table}", table)
        return not self.tables or any(fnmatchcase(name, p) for p in self.tables for name in names)

    def matched(self, expected: DumpFacts) -> list[TableName]:
        """The snapshot's tables that are wanted."""
        return [name for name in sorted(expected.tables) if self.wants(*name)]


def post_data_ids(toc: Toc, sample: Sample) -> tuple[int, ...]:
    """What of the last section is restored: without foreign keys, which rows that were left out would break."""
    left = {entry.dump_id for entry in _left_of_post_data(toc, sample)}
    return tuple(entry.dump_id for entry in in_section(toc, "post-data") if entry.dump_id not in left)


def part_of(toc: Toc, sample: Sample, loaded: Collection[TableName]) -> Part:
    """What a comparison may expect of a restore of this part."""
    left = [
        *_left_of_post_data(toc, sample),
        *(entry for entry in in_section(toc, "data") if entry.desc not in _ROWS),
    ]
    names: frozenset[ObjectName] = frozenset((e.desc, e.namespace or "", e.tag) for e in left)
    return Part(frozenset(loaded), names)


def statement(
    toc: Toc, sample: Sample, expected: DumpFacts, loaded: Collection[TableName]
) -> tuple[dict[str, Any], str]:
    """Exactly what a restore of this part proved and what it did not: for evidence, and as a sentence."""
    kept = sorted(name for name in expected.tables if name in loaded)
    left = sorted(name for name in expected.tables if name not in loaded)
    keys = sum(entry.desc == _FOREIGN_KEY for entry in _left_of_post_data(toc, sample))
    counts = expected.counts()
    facts = {
        "sample": {
            "tables": list(sample.tables),
            "schema_only": sample.schema_only,
            "budget_seconds": sample.seconds,
        },
        "proven": {"definitions": counts["definitions"] - keys, **_tables(expected, kept)},
        "not_proven": {
            **_tables(expected, left),
            "sequences": counts["sequences"],
            "large_objects": counts["large_objects"],
            "foreign_keys": keys,
        },
    }
    named = ", ".join(".".join(name) for name in left[:5]) + (", …" if len(left) > 5 else "")  # noqa: PLR2004
    parts = [f"the rows of {len(left)} of {len(expected.tables)} tables" + (f" ({named})" if left else "")]
    parts += [
        f"{number} {what}"
        for number, what in (
            (counts["sequences"], "positions of sequences"),
            (counts["large_objects"], "large objects"),
            (keys, "foreign keys"),
        )
        if number
    ]
    sentence = f"proved: the definitions, and the rows of {counted(len(kept), 'table')}; NOT proved: {', '.join(parts)}"
    return facts, sentence


def _tables(expected: DumpFacts, names: Collection[TableName]) -> Mapping[str, Any]:
    rows = sum(expected.tables[name].rows or 0 for name in names)
    return {"tables": len(names), "rows": rows, "names": [".".join(name) for name in names][:_NAMED]}


def _left_of_post_data(toc: Toc, sample: Sample) -> list[TocEntry]:
    if sample.schema_only:  # empty tables break no foreign key
        return []
    section = in_section(toc, "post-data")
    keys = {entry.dump_id for entry in section if entry.desc == _FOREIGN_KEY}
    return [entry for entry in section if entry.dump_id in keys or keys.intersection(entry.dependencies)]
