"""Verification by restore finds every planted difference, and nothing in a faithful restore."""

from __future__ import annotations

import secrets

import pytest

from devstack import sql
from devstack.data import fill_console_like, unusual_database
from dr_toolkit.errors import TargetError
from dr_toolkit.postgres.compare import failures
from dr_toolkit.postgres.early_digests import EarlyDigests, worth_it
from dr_toolkit.postgres.restore import restore_into
from dr_toolkit.postgres.restore_plan import toc_of
from dr_toolkit.postgres.restore_verify import compare_restored, expected_facts, verify_restore
from dr_toolkit.postgres.scratch import ScratchServer
from dr_toolkit.postgres.second_dump import facts
from tests.restoring import (
    ChangedSource,
    RelabelledSource,
    settings_of,
    snapshot,
    table_is,
    tools_of,
    with_meta,
)


@pytest.fixture(scope="module")
def console(postgres):
    """A snapshot of a database like Console's, with sequences and large objects."""
    name = f"planted_{secrets.token_hex(4)}"
    postgres.create_database(name)
    fill_console_like(postgres.dsn(name), scale=0.02)
    sql.execute(
        postgres.dsn(name),
        "CREATE TABLE public.plain AS SELECT n, 'row ' || n AS text FROM generate_series(1, 100) AS n",
        "CREATE SEQUENCE public.numbers",
        "SELECT nextval('public.numbers') FROM generate_series(1, 5)",
        "SELECT lo_from_bytea(0, convert_to(repeat('large ', 1000), 'UTF8'))",
    )
    source = snapshot(postgres, name)
    postgres.drop_database(name)
    return source


@pytest.fixture
def early(postgres, console, database):
    """Takes the digests of all tables while they are restored."""
    wanted = worth_it(expected_facts(console, toc_of(console)), at_least=0)
    return EarlyDigests(settings_of(postgres, database), tools_of(postgres), wanted)


@pytest.fixture
def restored(postgres, console, database, early):
    """That snapshot, restored frozen, its digests taken before the indexes were built."""
    restore_into(console, settings_of(postgres, database), tools_of(postgres), early=early, frozen_from=0)
    assert early.taken == expected_facts(console, toc_of(console)).tables.keys()
    return database


def differences(postgres, console, database, early=None):
    """Found by one dump; and with digests that were taken early, or else by two dumps that share the tables, the same."""
    where = settings_of(postgres, database), tools_of(postgres)
    found = compare_restored(console, toc_of(console), *where)
    more = {"early": early} if early else {"two_from_bytes": 0}
    assert compare_restored(console, toc_of(console), *where, **more) == found
    return found


def test_a_faithful_restore_has_no_difference(postgres, console, restored, early):
    """What was restored is what was dumped; no row was changed since its table's digest was taken."""
    assert failures(differences(postgres, console, restored)) == []
    assert failures(differences(postgres, console, restored, early)) == []
    assert early.settled().keys() == early.taken


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ("UPDATE public.plain SET text = 'row x' WHERE n = 50", "content", '"public.plain"'),
        ("DELETE FROM public.plain WHERE n = 50", "rows", "has 99 rows, and the snapshot has 100"),
        ("INSERT INTO public.plain VALUES (101, 'x')", "rows", "has 101 rows, and the snapshot has 100"),
        ("TRUNCATE public.plain", "rows", "has 0 rows"),
        (
            "DELETE FROM public.plain WHERE n = 50; INSERT INTO public.plain VALUES (50, 'x')",
            "content",
            '"public.plain"',
        ),
        (
            "DELETE FROM public.plain; INSERT INTO public.plain SELECT n, 'x' FROM generate_series(1, 100) AS n",
            "content",
            '"public.plain"',
        ),
        ("SELECT nextval('public.numbers')", "sequence", "stands at 6, and the snapshot has 5"),
        (
            "SELECT lo_put(max(oid), 10, 'X') FROM pg_largeobject_metadata",
            "large-objects",
            "the content of the",
        ),
        (
            "SELECT lo_truncate(lo_open(max(oid), 393216), 100) FROM pg_largeobject_metadata",
            "large-objects",
            "the content of the",
        ),
        ("SELECT lo_unlink(max(oid)) FROM pg_largeobject_metadata", "large-objects", "the snapshot has"),
        ("DROP TABLE public.plain", "missing", '"public.plain" is missing'),
        ("CREATE TABLE public.more (a int)", "extra", '"public.more" has data'),
        ("ALTER TABLE public.plain ALTER n SET NOT NULL", "definition", "TABLE public plain"),
        ("CREATE INDEX extra ON public.plain (n)", "extra", "INDEX public extra"),
        ("GRANT SELECT ON public.plain TO PUBLIC", "extra", "ACL public TABLE plain"),
    ],
)
def test_a_planted_difference_is_found(postgres, console, restored, early, change, kind, said):
    """A row changed, dropped or added, a sequence moved, a large object cut, a definition that is another.

    All come after the digests were taken.
    """
    sql.execute(postgres.dsn(restored), change)
    found = failures(differences(postgres, console, restored, early))
    assert kind in {one.kind for one in found}
    assert any(said in one.text for one in found), [one.text for one in found]


def test_what_the_last_section_itself_changes_is_found(postgres, new_database):
    """A materialized view of the archive changes a row when it is filled, and the table's digest was taken long before."""
    source, target = new_database(), new_database()
    sql.execute(
        postgres.dsn(source),
        "CREATE TABLE public.t AS SELECT n FROM generate_series(1, 10) AS n",
        "CREATE FUNCTION public.meddle() RETURNS integer LANGUAGE sql AS "
        "'UPDATE public.t SET n = 11 WHERE n = 10; SELECT 1'",
        "CREATE MATERIALIZED VIEW public.v AS SELECT public.meddle()",
        "UPDATE public.t SET n = 10 WHERE n = 11",
    )
    taken = snapshot(postgres, source)
    where = settings_of(postgres, target), tools_of(postgres)
    early = EarlyDigests(*where, [("public", "t")])
    restore_into(taken, *where, early=early)
    assert early.taken
    assert not early.settled()
    found = failures(compare_restored(taken, toc_of(taken), *where, early=early))
    assert [(one.kind, one.name) for one in found] == [("content", "public.t")]


def test_digests_that_cannot_be_taken_early_are_taken_at_the_end(postgres, console, database):
    """A failure beside the restore does not fail it; nothing counts as compared because of it."""
    where = settings_of(postgres, database), tools_of(postgres)
    early = EarlyDigests(settings_of(postgres, "no_such_database"), where[1], [("public", "plain")])
    restore_into(console, *where, early=early)
    assert not early.taken
    assert not early.settled()
    assert failures(compare_restored(console, toc_of(console), *where, early=early)) == []


def test_the_same_rows_in_another_order_are_a_note(postgres, console, restored):
    """A table that was rewritten in another order holds the same rows; one more changed row is a difference again."""
    dsn = postgres.dsn(restored)
    sql.execute(
        dsn,
        "CREATE INDEX backwards ON public.plain (n DESC)",
        "CLUSTER public.plain USING backwards",
        "ALTER TABLE public.plain SET WITHOUT CLUSTER",
        "DROP INDEX public.backwards",
    )
    found = [one for one in differences(postgres, console, restored) if one.kind in {"order", "content"}]
    assert [(one.severity, one.kind, one.name) for one in found] == [("note", "order", "public.plain")]
    sql.execute(dsn, "UPDATE public.plain SET text = text || '!' WHERE n = 7")
    found = [one for one in differences(postgres, console, restored) if one.kind in {"order", "content"}]
    assert [(one.severity, one.kind) for one in found] == [("failure", "content")]


@pytest.mark.parametrize(
    "setting", ["timezone = 'Asia/Kolkata'", "bytea_output = 'escape'", "datestyle = 'German'"]
)
def test_settings_of_the_database_do_not_change_digests(postgres, console, restored, setting):
    """The restored database may have its own time zone and output formats."""
    sql.execute(postgres.dsn(), f"ALTER DATABASE {restored} SET {setting}")
    assert failures(differences(postgres, console, restored)) == []


def test_casts_that_postgresql_moves_are_notes(postgres, new_database):
    """A check on a varchar comes back from a restore in other words, which is no difference."""
    source, target = new_database(), new_database()
    sql.execute(
        postgres.dsn(source),
        "CREATE TABLE t (s varchar(9) CHECK (s IN ('a', 'b c')))",
        "CREATE VIEW v AS SELECT * FROM t WHERE s IN ('x', 'y')",
        "CREATE INDEX i ON t (s) WHERE s IN ('p', 'q')",
    )
    taken = snapshot(postgres, source)
    restore_into(taken, settings_of(postgres, target), tools_of(postgres))
    found = differences(postgres, taken, target)
    assert {one.name for one in found} == {"TABLE public t", "VIEW public v", "INDEX public i"}
    assert failures(found) == []


def test_a_dump_that_fails_is_not_equality(postgres, console):
    """A database that cannot be dumped is an error, with pg_dump's words."""
    with pytest.raises(TargetError, match="does not exist"):
        differences(postgres, console, "no_such_database")


# ---- in a scratch server


@pytest.mark.parametrize("version", ["postgres", "postgres17"])
def test_a_snapshot_is_proven_in_scratch(request, version):
    """Roles, schema and data are restored into a throw-away server and found equal, odd objects too."""
    running = request.getfixturevalue(version)
    name = f"proven_{secrets.token_hex(4)}"
    running.create_database(name)
    try:
        unusual_database(running.dsn(name))
        source = snapshot(running, name)
    finally:
        running.drop_database(name)
    with ScratchServer(running.version) as scratch:
        report = verify_restore(source, scratch, tools_of(running))
    assert [one.text for one in report.differences if one.severity == "failure"] == []
    assert report.proven
    assert set(report.seconds) == {"start", "restore", "compare"}


def test_a_second_dump_of_tables_that_are_gone_is_no_failure_of_its_own(postgres, restored):
    """pg_dump refuses to dump none of what it was asked for; that a table is missing is for the comparison to say."""
    where = settings_of(postgres, restored), tools_of(postgres)
    assert facts(*where, aside=[("public", "never there")]) == facts(*where)


def test_a_snapshot_that_lies_is_not_proven(postgres, console):
    """Where the recorded digest is another than the data's, the snapshot is not what it says."""

    def lying(info):
        return with_meta(info, digest="0" * 64) if table_is("public.plain")(info) else info

    with ScratchServer(18) as scratch:
        report = verify_restore(RelabelledSource(console, lying), scratch, tools_of(postgres))
    assert [one.kind for one in failures(report.differences)] == ["content"]


def test_data_that_was_exchanged_is_not_proven(postgres, console):
    """Bytes that a server takes happily and that are not the source's."""
    source = ChangedSource(
        console,
        table_is("public.plain"),
        lambda pieces: (piece.replace(b"row 50\n", b"row 5x\n") for piece in pieces),
    )
    with ScratchServer(18) as scratch:
        report = verify_restore(source, scratch, tools_of(postgres))
    # Snapshot and server agree on these rows now; only the digest that was taken at the backup knows better.
    assert [one.name for one in failures(report.differences)] == ["public.plain"]
