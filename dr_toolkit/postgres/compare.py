"""Say how two dumps differ: what a snapshot expects, and what a database that was restored from it gives. Pure functions.

A difference is a failure unless it is on the short list of things that a faithful restore changes by itself; those are kept
as notes, with the reason.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dr_toolkit.errors import Damaged
from dr_toolkit.postgres.archive_toc import Toc, TocEntry
from dr_toolkit.postgres.digests import NO_LARGE_OBJECTS, LargeObjectsSummary, TableSummary
from dr_toolkit.postgres.restore_needs import major_of

Severity = Literal["failure", "note"]
TableName = tuple[str, str]
ObjectName = tuple[str, str, str]
"""What it is, its schema (empty for none), its tag."""

_DATA = frozenset({"TABLE DATA", "BLOBS", "BLOB", "BLOB METADATA", "SEQUENCE SET", "STATISTICS DATA"})
"""Compared by content, or (statistics) not content at all."""
_DATABASE = frozenset({"DATABASE", "DATABASE PROPERTIES"})
_PRIVILEGES = frozenset({"ACL", "DEFAULT ACL"})


@dataclass(frozen=True, slots=True)
class Object:
    """One definition in a dump.

    Attributes:
        definition: the statements that make it.
        owner: its owner.
    """

    definition: str
    owner: str


@dataclass(frozen=True, slots=True)
class DumpFacts:
    """What a dump holds, without its data.

    Attributes:
        server_major: major version of the dumped server.
        client_major: major version of the ``pg_dump`` that was used.
        tables: content of each table, by schema and name.
        sequences: the statement that sets each sequence's position.
        large_objects: all of them together.
        objects: definitions; several may share a name (operators).
    """

    server_major: int
    client_major: int
    tables: Mapping[TableName, TableSummary]
    sequences: Mapping[TableName, str]
    large_objects: LargeObjectsSummary
    objects: Mapping[ObjectName, tuple[Object, ...]]

    def counts(self) -> dict[str, int]:
        """How much a comparison with these facts looks at; for evidence and reports."""
        return {
            "tables": len(self.tables),
            "rows": sum(summary.rows or 0 for summary in self.tables.values()),
            "sequences": len(self.sequences),
            "large_objects": self.large_objects.count,
            "definitions": sum(len(found) for found in self.objects.values()),
        }


@dataclass(frozen=True, slots=True)
class Part:
    """What was restored on purpose, where not everything was.

    Attributes:
        loaded: tables whose rows were; of the others nothing is compared.
        left_out: definitions that were not.
    """

    loaded: frozenset[TableName]
    left_out: frozenset[ObjectName] = frozenset()


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference.

    Attributes:
        severity: ``failure``, or ``note`` for what a faithful restore may change.
        kind: ``rows``, ``content``, ``order``, ``sequence``, ``large-objects``, ``missing``, ``extra``, ``definition`` or ``owner``.
        name: of what differs.
        text: a sentence for a person.
    """

    severity: Severity
    kind: str
    name: str
    text: str


def facts_of(
    toc: Toc, tables: Mapping[TableName, TableSummary], large_objects: LargeObjectsSummary
) -> DumpFacts:
    """Facts from a table of contents and the summaries of its data."""
    objects: dict[ObjectName, list[Object]] = defaultdict(list)
    for entry in toc.entries:
        if _counts(entry):
            name = (entry.desc, entry.namespace or "", entry.tag)
            objects[name].append(Object(_canonical(entry), entry.owner))
    return DumpFacts(
        server_major=major_of(toc.server_version),
        client_major=major_of(toc.dump_version),
        tables=dict(tables),
        sequences={
            (entry.namespace or "", entry.tag): entry.definition
            for entry in toc.entries
            if entry.desc == "SEQUENCE SET"
        },
        large_objects=large_objects,
        objects={name: tuple(sorted(found, key=_sort_key)) for name, found in objects.items()},
    )


def dump_facts(toc: Toc, metas: Iterable[Mapping[str, Any]]) -> DumpFacts:
    """Facts from a snapshot: its table of contents, and the metadata of the entries below ``archive/data/``.

    Raises:
        Damaged: metadata without a digest.
    """
    by_id = {entry.dump_id: entry for entry in toc.entries}
    tables: dict[TableName, TableSummary] = {}
    large_objects = NO_LARGE_OBJECTS
    for meta in metas:
        try:
            entry, digest = by_id[int(meta["dump_id"])], str(meta["digest"])
        except (KeyError, ValueError) as error:
            raise Damaged("an entry of the archive's data has no digest or no known dump id") from error
        size = int(meta.get("data_bytes", 0))
        if entry.desc == "TABLE DATA":
            tables[entry.namespace or "", entry.tag] = TableSummary(meta.get("rows"), digest, size)
        else:
            large_objects += LargeObjectsSummary(int(meta.get("count", 0)), digest, size)
    return facts_of(toc, tables, large_objects)


def compare(
    expected: DumpFacts,
    actual: DumpFacts,
    *,
    multisets: Mapping[TableName, tuple[str, str]] | None = None,
    owners: bool = True,
    part: Part | None = None,
) -> list[Difference]:
    """Everything that differs, failures first.

    Args:
        expected: the snapshot.
        actual: the restored database, dumped again.
        multisets: for tables of equal row count and unequal digest: order-independent digests, the expected and the actual one.
        owners: whether owners and privileges were restored and count.
        part: what was restored, where something was left out on purpose; None for everything.
    """
    found = [
        *_tables(expected, actual, multisets or {}, part),
        *([] if part else _sequences(expected, actual)),
        *([] if part else _large_objects(expected, actual)),
        *_objects(expected, actual, owners=owners, left_out=part.left_out if part else frozenset()),
    ]
    return sorted(found, key=lambda difference: difference.severity != "failure")


def out_of_order(expected: DumpFacts, actual: DumpFacts) -> list[TableName]:
    """Tables that may hold the same rows in another order: equal counts, unequal digests."""
    return sorted(
        name
        for name, summary in expected.tables.items()
        if name in actual.tables
        and actual.tables[name].rows == summary.rows
        and actual.tables[name].digest != summary.digest
    )


_ASIDE_LIMIT = 50


def second_half(expected: DumpFacts, *, at_least: int) -> tuple[TableName, ...]:
    """Tables for a second dump, so that two side by side have about the same to read; none where there is little to read.

    Args:
        expected: the snapshot.
        at_least: the bytes of data from which on two are worth it.
    """
    sizes = {name: summary.size for name, summary in expected.tables.items()}
    if len(sizes) < 2 or sum(sizes.values()) + expected.large_objects.size < at_least:  # noqa: PLR2004
        return ()
    first, second, chosen = expected.large_objects.size, 0, list[TableName]()
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        if second <= first and len(chosen) < _ASIDE_LIMIT:  # their names stand in an argument list
            chosen.append(name)
            second += sizes[name]
        else:
            first += sizes[name]
    return tuple(chosen)


def failures(differences: Iterable[Difference]) -> list[Difference]:
    """Those that are failures."""
    return [difference for difference in differences if difference.severity == "failure"]


def _counts(entry: TocEntry) -> bool:
    """Whether an entry is compared as a definition; the database's own settings are carried over by the swap instead."""
    about_database = entry.namespace is None and entry.tag.startswith("DATABASE ") and entry.section == "none"
    return entry.desc not in _DATA | _DATABASE and not about_database


def _canonical(entry: TocEntry) -> str:
    """Privileges are a set: the order in which they were granted is lost by a restore and means nothing."""
    if entry.desc not in _PRIVILEGES:
        return entry.definition
    return "\n".join(sorted(line for line in entry.definition.split("\n") if line))


def _sort_key(item: Object) -> tuple[str, str]:
    return item.definition, item.owner


def _tables(
    expected: DumpFacts,
    actual: DumpFacts,
    multisets: Mapping[TableName, tuple[str, str]],
    part: Part | None,
) -> Iterator[Difference]:
    for name, summary in sorted(expected.tables.items()):
        if part is not None and name not in part.loaded:
            continue
        other = actual.tables.get(name)
        label = ".".join(name)
        if other is None:
            yield Difference("failure", "missing", label, f'the data of table "{label}" is missing')
        elif _content(other) != _content(summary):
            yield _table(label, summary, other, multisets.get(name))
    for name in sorted(set(actual.tables) - set(expected.tables)):
        label = ".".join(name)
        yield Difference("failure", "extra", label, f'table "{label}" has data and is not in the snapshot')


def _table(
    label: str, expected: TableSummary, actual: TableSummary, multiset: tuple[str, str] | None
) -> Difference:
    if expected.rows != actual.rows:
        return Difference(
            "failure",
            "rows",
            label,
            f'table "{label}" has {_number(actual.rows)} rows, and the snapshot has {_number(expected.rows)}',
        )
    if multiset is not None and multiset[0] == multiset[1]:
        return Difference(
            "note",
            "order",
            label,
            f'table "{label}" holds the same rows in another order, which has no meaning in SQL',
        )
    return Difference(
        "failure",
        "content",
        label,
        f'the rows of table "{label}" are not the snapshot\'s, though their number is',
    )


def _content(summary: TableSummary | LargeObjectsSummary) -> tuple[int | None, str]:
    """What counts of a summary: the digest covers every length already."""
    if isinstance(summary, TableSummary):
        return summary.rows, summary.digest
    return summary.count, summary.digest


def _number(rows: int | None) -> str:
    return "an unknown number of" if rows is None else str(rows)


def _sequences(expected: DumpFacts, actual: DumpFacts) -> Iterator[Difference]:
    for name in sorted(set(expected.sequences) | set(actual.sequences)):
        wanted, given = expected.sequences.get(name), actual.sequences.get(name)
        if wanted != given:
            label = ".".join(name)
            text = (
                f'sequence "{label}" stands at {_position(given)}, and the snapshot has {_position(wanted)}'
            )
            yield Difference("failure", "sequence", label, text)


_SETVAL = re.compile(r", (-?\d+), (true|false)\);\s*$")


def _position(statement: str | None) -> str:
    if statement is None:
        return "no position"
    match = _SETVAL.search(statement)
    if match is None:
        return statement.strip()
    return match[1] if match[2] == "true" else f"{match[1]} (not used yet)"


def _large_objects(expected: DumpFacts, actual: DumpFacts) -> Iterator[Difference]:
    wanted, given = expected.large_objects, actual.large_objects
    if _content(wanted) == _content(given):
        return
    if wanted.count != given.count:
        text = f"there are {given.count} large objects, and the snapshot has {wanted.count}"
    else:
        text = f"the content of the {wanted.count} large objects is not the snapshot's"
    yield Difference("failure", "large-objects", "large objects", text)


def _objects(
    expected: DumpFacts, actual: DumpFacts, *, owners: bool, left_out: frozenset[ObjectName]
) -> Iterator[Difference]:
    same_writer = (expected.server_major, expected.client_major) == (actual.server_major, actual.client_major)
    for name in sorted(set(expected.objects) | set(actual.objects)):
        if (name[0] in _PRIVILEGES and not owners) or name in left_out:
            continue
        for difference in _object(
            name, expected.objects.get(name, ()), actual.objects.get(name, ()), owners=owners
        ):
            if same_writer or difference.severity == "note":
                yield difference
            else:
                reason = "another version of PostgreSQL or of pg_dump wrote the definitions"
                yield Difference("note", difference.kind, difference.name, f"{difference.text} ({reason})")


def _object(
    name: ObjectName, wanted: tuple[Object, ...], given: tuple[Object, ...], *, owners: bool
) -> Iterator[Difference]:
    label = " ".join(part for part in name if part)
    if len(given) < len(wanted):
        yield Difference("failure", "missing", label, f"{label} is missing")
    elif len(given) > len(wanted):
        yield Difference("failure", "extra", label, f"{label} is not in the snapshot")
    else:
        yield from _changed(name[0], label, wanted, given)
        if owners and Counter(item.owner for item in wanted) != Counter(item.owner for item in given):
            theirs, ours = (", ".join(sorted({item.owner for item in items})) for items in (given, wanted))
            yield Difference(
                "failure", "owner", label, f"{label} belongs to {theirs}, and in the snapshot to {ours}"
            )


_REWRITTEN = frozenset(
    {
        *("TABLE", "VIEW", "MATERIALIZED VIEW", "RULE", "INDEX", "DEFAULT", "DOMAIN", "POLICY", "TRIGGER"),
        *("CONSTRAINT", "CHECK CONSTRAINT", "STATISTICS"),
    }
)
"""Definitions that PostgreSQL keeps as parsed expressions and writes anew each time; all others are kept as text."""


def _changed(
    desc: str, label: str, wanted: tuple[Object, ...], given: tuple[Object, ...]
) -> Iterator[Difference]:
    if [item.definition for item in wanted] == [item.definition for item in given]:
        return
    plain = [sorted(_plain(item.definition) for item in items) for items in (wanted, given)]
    if desc in _REWRITTEN and plain[0] == plain[1]:
        reason = "PostgreSQL moves casts and parentheses when it reads its own text again"
        yield Difference("note", "definition", label, f"{label} is written in another way: {reason}")
    else:
        yield Difference("failure", "definition", label, f"the definition of {label} is not the snapshot's")


_LITERAL = re.compile(r"('(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")")
_MOVED = re.compile(r"::(?:character varying|text|bpchar|character)(?![a-z_])(?:\(\d+\))?(?:\[\])?|[\s()]+")


def _plain(definition: str) -> str:
    """A definition without what PostgreSQL itself moves about: text casts, parentheses and white space.

    ``(ARRAY['a'::character varying])::text[]`` comes back as ``ARRAY[('a'::character varying)::text]``. Literals and quoted
    names stay as they are.
    """
    parts = _LITERAL.split(definition)
    return "".join(part if place % 2 else _MOVED.sub("", part) for place, part in enumerate(parts))
