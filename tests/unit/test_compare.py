"""What counts as a difference between a snapshot and what was restored from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dr_toolkit.errors import Damaged
from dr_toolkit.postgres.archive_toc import Toc, TocEntry
from dr_toolkit.postgres.compare import (
    Difference,
    compare,
    dump_facts,
    facts_of,
    failures,
    out_of_order,
    second_half,
)
from dr_toolkit.postgres.digests import NO_LARGE_OBJECTS, LargeObjectsSummary, TableSummary


def entry(dump_id: int, desc: str, tag: str, **fields) -> TocEntry:
    values = {
        "dump_id": dump_id,
        "has_data": desc in {"TABLE DATA", "BLOBS"},
        "table_oid": 0,
        "oid": 0,
        "tag": tag,
        "desc": desc,
        "section": "data" if desc in {"TABLE DATA", "BLOBS", "SEQUENCE SET"} else "pre-data",
        "definition": "",
        "drop_statement": "",
        "copy_statement": "",
        "namespace": "public",
        "tablespace": None,
        "table_access_method": None,
        "relkind": None,
        "owner": "app",
        "dependencies": (),
    }
    return TocEntry(**{**values, **fields})


def toc(*entries: TocEntry, server="17.4", client="17.4") -> Toc:
    return Toc(b"", (1, 16), "console", server, client, "", "UTF8", entries)


ENTRIES = (
    entry(1, "DATABASE", "console", definition="CREATE DATABASE console;\n", namespace=None),
    entry(2, "TABLE", "t", definition="CREATE TABLE public.t (a integer);\n"),
    entry(3, "TABLE DATA", "t"),
    entry(4, "SEQUENCE SET", "s", definition="SELECT pg_catalog.setval('public.s', 7, true);\n"),
    entry(
        5,
        "ACL",
        "TABLE t",
        definition="GRANT SELECT ON TABLE public.t TO x;\nGRANT SELECT ON TABLE public.t TO y;\n",
    ),
    entry(6, "VIEW", "v", definition="CREATE VIEW public.v AS\n SELECT 1;\n"),
    entry(7, "OPERATOR", "+", definition="CREATE OPERATOR one;\n"),
    entry(8, "OPERATOR", "+", definition="CREATE OPERATOR two;\n"),
)
TABLE = TableSummary(3, "aa", 10)
OBJECTS = LargeObjectsSummary(2, "cc", 9)
FACTS = facts_of(toc(*ENTRIES), {("public", "t"): TABLE}, OBJECTS)


def changed(number: int, **fields) -> list[Difference]:
    """What compare says when one entry of the restored dump is another."""
    entries = [replace(item, **fields) if item.dump_id == number else item for item in ENTRIES]
    return compare(FACTS, facts_of(toc(*entries), FACTS.tables, OBJECTS))


def test_equal_facts_have_no_difference():
    """Nothing is found where nothing differs."""
    assert compare(FACTS, FACTS) == []


@pytest.mark.parametrize(
    ("tables", "kind", "said"),
    [
        ({("public", "t"): TableSummary(2, "bb", 9)}, "rows", "has 2 rows, and the snapshot has 3"),
        ({("public", "t"): TableSummary(3, "bb", 10)}, "content", "are not the snapshot's"),
        ({}, "missing", "is missing"),
        ({("public", "t"): TABLE, ("public", "u"): TABLE}, "extra", "not in the snapshot"),
    ],
)
def test_differences_of_rows_are_failures(tables, kind, said):
    """A table with other rows, none, or too many tables."""
    [found] = compare(FACTS, replace(FACTS, tables=tables))
    assert (found.severity, found.kind) == ("failure", kind)
    assert said in found.text


def test_the_same_rows_in_another_order_are_a_note():
    """Order has no meaning in SQL; it is told, and it is no failure."""
    actual = replace(FACTS, tables={("public", "t"): TableSummary(3, "bb", 10)})
    assert out_of_order(FACTS, actual) == [("public", "t")]
    [found] = compare(FACTS, actual, multisets={("public", "t"): ("m", "m")})
    assert (found.severity, found.kind) == ("note", "order")
    [found] = compare(FACTS, actual, multisets={("public", "t"): ("m", "n")})
    assert found.severity == "failure"


def test_tables_of_unequal_counts_need_no_second_look():
    """A multiset digest is only worth computing where the counts agree."""
    assert out_of_order(FACTS, replace(FACTS, tables={("public", "t"): TableSummary(2, "bb", 9)})) == []


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ("SELECT pg_catalog.setval('public.s', 8, true);\n", "stands at 8, and the snapshot has 7"),
        ("SELECT pg_catalog.setval('public.s', 7, false);\n", "stands at 7 (not used yet)"),
    ],
)
def test_a_moved_sequence_is_a_failure(definition, said):
    """A sequence behind its place gives numbers twice."""
    [found] = changed(4, definition=definition)
    assert (found.severity, found.kind) == ("failure", "sequence")
    assert said in found.text


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        (LargeObjectsSummary(1, "cc", 9), "there are 1 large objects, and the snapshot has 2"),
        (LargeObjectsSummary(2, "dd", 9), "the content of the 2 large objects"),
    ],
)
def test_other_large_objects_are_a_failure(objects, said):
    """A large object that is missing, or has other bytes."""
    [found] = compare(FACTS, replace(FACTS, large_objects=objects))
    assert (found.severity, found.kind) == ("failure", "large-objects")
    assert said in found.text


def test_a_missing_definition_is_a_failure():
    """An object of the snapshot that is not there; also one of two with the same name."""
    without = facts_of(toc(*ENTRIES[:-2]), FACTS.tables, OBJECTS)
    assert [found.kind for found in compare(FACTS, without)] == ["missing"]
    one_of_two = facts_of(toc(*ENTRIES[:-1]), FACTS.tables, OBJECTS)
    assert [found.text for found in compare(FACTS, one_of_two)] == ["OPERATOR public + is missing"]
    assert [found.kind for found in compare(without, FACTS)] == ["extra"]


def test_a_changed_definition_is_a_failure():
    """A column more, another literal, another function body."""
    [found] = changed(2, definition="CREATE TABLE public.t (a integer, b integer);\n")
    assert (found.severity, found.kind, found.name) == ("failure", "definition", "TABLE public t")


def test_another_owner_is_a_failure_unless_owners_were_left_out():
    """Owners and privileges count when they were restored."""
    [found] = changed(2, owner="other")
    assert (found.severity, found.kind) == ("failure", "owner")
    assert found.text == "TABLE public t belongs to other, and in the snapshot to app"
    entries = [replace(item, owner="me") for item in ENTRIES if item.desc != "ACL"]
    assert compare(FACTS, facts_of(toc(*entries), FACTS.tables, OBJECTS), owners=False) == []


def test_the_order_of_grants_does_not_matter():
    """A restore loses the order in which privileges were granted, which means nothing."""
    assert (
        changed(5, definition="GRANT SELECT ON TABLE public.t TO y;\nGRANT SELECT ON TABLE public.t TO x;\n")
        == []
    )
    [found] = changed(5, definition="GRANT SELECT ON TABLE public.t TO y;\n")
    assert found.severity == "failure"


def test_the_databases_own_settings_are_not_compared():
    """The swap carries them over; the scratch database has another name."""
    assert changed(1, definition="CREATE DATABASE scratch1;\n", tag="scratch1") == []


@pytest.mark.parametrize(
    ("before", "after", "severity"),
    [
        (
            "CHECK (((s)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
            "CHECK (((s)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])))",
            "note",
        ),
        ("CHECK ((s = 'a b'))", "CHECK ((s = 'ab'))", "failure"),
        ("CHECK ((s = '(a)'))", "CHECK ((s = 'a'))", "failure"),
        ("CHECK ((s = 'a'::text))", "CHECK ((s = 'a'::citext))", "failure"),
        ("CHECK ((a > 1))", "CHECK ((a > 2))", "failure"),
    ],
)
def test_only_what_postgresql_itself_moves_is_let_pass(before, after, severity):
    """Casts to text and parentheses move when PostgreSQL reads its own expression again; nothing else may."""
    with_check = [replace(item, definition=before) if item.dump_id == 2 else item for item in ENTRIES]
    restored = [replace(item, definition=after) if item.dump_id == 2 else item for item in ENTRIES]
    [found] = compare(
        facts_of(toc(*with_check), FACTS.tables, OBJECTS), facts_of(toc(*restored), FACTS.tables, OBJECTS)
    )
    assert found.severity == severity


def test_a_function_body_is_never_let_pass():
    """A function is kept as text, so that a moved parenthesis was moved by somebody."""
    ours = facts_of(toc(entry(1, "FUNCTION", "f()", definition="AS 'select (1)'")), {}, NO_LARGE_OBJECTS)
    theirs = facts_of(toc(entry(1, "FUNCTION", "f()", definition="AS (select 1)")), {}, NO_LARGE_OBJECTS)
    assert [found.severity for found in compare(ours, theirs)] == ["failure"]


def test_definitions_of_another_version_are_notes():
    """Another major version writes definitions in its own way: told, but the rows decide."""
    entries = [
        replace(item, definition="CREATE TABLE t2;\n") if item.dump_id == 2 else item for item in ENTRIES
    ]
    actual = facts_of(toc(*entries, server="18.1", client="18.1"), FACTS.tables, OBJECTS)
    assert [found.severity for found in compare(FACTS, actual)] == ["note"]
    worse = replace(actual, tables={("public", "t"): TableSummary(2, "bb", 1)})
    assert [found.severity for found in compare(FACTS, worse)] == ["failure", "note"]
    assert len(failures(compare(FACTS, worse))) == 1


def test_facts_from_a_snapshots_metadata():
    """What the entries say about themselves is all that is needed: no data is read."""
    metas = [
        {"dump_id": 3, "schema": "public", "table": "t", "rows": 3, "digest": "aa", "data_bytes": 10},
        {"dump_id": 9, "count": 1, "digest": "0" * 63 + "1", "bytes": 4},
        {"dump_id": 10, "count": 1, "digest": "0" * 63 + "2", "bytes": 5},
    ]
    entries = (*ENTRIES, entry(9, "BLOBS", "1..1"), entry(10, "BLOBS", "2..2"))
    found = dump_facts(toc(*entries), metas)
    assert found.tables == {("public", "t"): TABLE}
    assert (found.large_objects.count, found.large_objects.digest) == (2, "0" * 63 + "3")


@pytest.mark.parametrize("meta", [{}, {"dump_id": 3}, {"dump_id": 99, "digest": "aa"}])
def test_metadata_without_a_digest_is_damage(meta):
    """A snapshot that does not say what it holds cannot be proven."""
    with pytest.raises(Damaged):
        dump_facts(toc(*ENTRIES), [meta])


@pytest.mark.parametrize(
    ("sizes", "large_objects", "aside"),
    [
        ({"big": 90, "b": 5, "c": 5}, 0, ["big"]),
        ({"a": 40, "b": 35, "c": 30}, 0, ["a"]),
        ({"a": 40, "b": 40, "c": 40, "d": 40}, 0, ["a", "c"]),
        ({"a": 40, "b": 30, "c": 20}, 100, ["a", "b", "c"]),
        ({"alone": 1000}, 0, []),
        ({"a": 10, "b": 10}, 0, []),
    ],
)
def test_two_dumps_share_the_tables_evenly(sizes, large_objects, aside):
    """The first has what no dump of single tables holds, large objects among it; a little data is read by one dump."""
    tables = {("public", name): TableSummary(1, "00", size) for name, size in sizes.items()}
    facts = facts_of(toc(), tables, LargeObjectsSummary(1, "0" * 64, large_objects))
    assert [name for _schema, name in second_half(facts, at_least=90)] == aside
