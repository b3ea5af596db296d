"""How a restore is cut into pieces, and what it needs from its target."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dr_toolkit.errors import Damaged, TargetError, UsageError
from dr_toolkit.postgres.archive_toc import Toc, TocEntry
from dr_toolkit.postgres.restore_needs import (
    check_programs,
    check_target,
    client_major,
    extensions,
    grantees,
    named_roles,
    owners,
)
from dr_toolkit.postgres.restore_plan import beside_readers, data_units, in_section, toc_of
from dr_toolkit.postgres.restore_program import failure, only_unknown_setting
from dr_toolkit.postgres.restore_table import belonging, find_table
from dr_toolkit.postgres.scratch_roles import statements
from dr_toolkit.repository.entries import EntryInfo
from tests.fakes import MemorySink, MemorySource

MIB = 1 << 20


def entry(dump_id: int, desc: str, tag: str, section: str = "pre-data", **fields) -> TocEntry:
    values = {
        "dump_id": dump_id,
        "has_data": desc in {"TABLE DATA", "BLOBS"},
        "table_oid": 0,
        "oid": 0,
        "tag": tag,
        "desc": desc,
        "section": section,
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


def toc(*entries: TocEntry, server="17.4", client="17.4", version=(1, 16)) -> Toc:
    return Toc(b"", version, "console", server, client, "", "UTF8", entries)


def info(dump_id: int, size: int) -> EntryInfo:
    return EntryInfo(f"archive/data/00/public/{dump_id:05d}", "table-data", size, {"dump_id": dump_id})


def of_sizes(*sizes: int) -> tuple[Toc, list[EntryInfo]]:
    entries = [entry(number, "TABLE DATA", f"t{number}", "data") for number in range(1, len(sizes) + 1)]
    return toc(*entries), [info(number, size) for number, size in enumerate(sizes, 1)]


def test_every_block_is_in_exactly_one_unit():
    """Nothing is loaded twice or left out, however the sizes lie."""
    contents, infos = of_sizes(*[(number * 7919) % (3 * MIB) for number in range(200)])
    units = data_units(contents, infos, jobs=3)
    assert sorted(path for unit in units for path in unit.paths) == [one.path for one in infos]
    assert sorted(number for unit in units for number in unit.dump_ids) == list(range(1, 201))
    assert sum(unit.tables for unit in units) == 200


def test_units_come_largest_first_and_in_the_archives_order_within():
    """The longest work starts first; pg_restore reads its input once, from front to back."""
    contents, infos = of_sizes(5, 40 * MIB, 3, 9 * MIB, 8)
    units = data_units(contents, infos, jobs=2)
    assert [unit.size for unit in units] == sorted((unit.size for unit in units), reverse=True)
    assert units[0].names == ("public.t2",)
    for unit in units:
        assert list(unit.paths) == sorted(unit.paths)
        assert list(unit.dump_ids) == sorted(unit.dump_ids)


def test_what_runs_beside_readers_waits_for_the_rows_that_it_needs():
    """Keys lock readers out; so does what belongs to one, and a comment goes with the entry before it."""
    contents = toc(
        entry(1, "TABLE", "t"),
        entry(2, "TABLE DATA", "t", "data", dependencies=(1,)),
        entry(3, "CONSTRAINT", "t_pkey", "post-data", dependencies=(1,)),
        entry(4, "INDEX", "t_at", "post-data", dependencies=(1,)),
        entry(5, "COMMENT", "INDEX t_at", "none", dependencies=(4,)),
        entry(6, "INDEX", "of_a_key", "post-data", dependencies=(1, 3)),
        entry(7, "INDEX ATTACH", "t_at", "post-data", dependencies=(4,)),
        entry(8, "TRIGGER", "t_trigger", "post-data", dependencies=(1,)),
        entry(9, "MATERIALIZED VIEW", "v"),
        entry(10, "INDEX", "v_key", "post-data", dependencies=(9,)),
        entry(11, "MATERIALIZED VIEW DATA", "v", "post-data", dependencies=(9, 4)),
    )
    assert beside_readers(contents) == {4: {2}, 10: set(), 11: {2}}


def test_small_tables_share_a_program():
    """A thousand empty tables do not start a thousand programs."""
    contents, infos = of_sizes(*[15] * 1000, 100 * MIB)
    assert len(data_units(contents, infos, jobs=2)) < 10


def test_what_is_not_a_table_is_one_unit_in_its_order():
    """Large objects are made before they are written, by one program."""
    contents = toc(
        entry(1, "TABLE DATA", "t", "data"),
        entry(2, "SEQUENCE SET", "s", "data"),
        entry(4, "BLOB METADATA", "1..2", "data", namespace=None),
        entry(5, "ACL", "LARGE OBJECT 1", "none", namespace=None),
        entry(3, "BLOBS", "1..2", "data", namespace=None),
        entry(6, "INDEX", "i", "post-data"),
        entry(7, "COMMENT", "INDEX i", "none"),
    )
    units = data_units(contents, [info(1, 10), info(3, 99)], jobs=2)
    assert [unit.dump_ids for unit in units] == [(2, 4, 5, 3), (1,)]
    assert [item.dump_id for item in in_section(contents, "post-data")] == [6, 7]


def test_a_filter_chooses_tables_and_leaves_the_rest_out():
    """With chosen tables, sequences and large objects stay as they are."""
    contents = toc(
        entry(1, "TABLE DATA", "t", "data"),
        entry(2, "TABLE DATA", "u", "data"),
        entry(3, "SEQUENCE SET", "s", "data"),
    )
    units = data_units(
        contents, [info(1, 10), info(2, 10)], jobs=2, tables=lambda schema, table: table == "u"
    )
    assert [unit.dump_ids for unit in units] == [(2,)]


def test_announced_data_that_is_missing_is_damage():
    """A table whose data the snapshot does not have is never restored as an empty one."""
    contents, infos = of_sizes(1, 2)
    with pytest.raises(Damaged, match=r"public\.t2"):
        data_units(contents, infos[:1], jobs=2)


@pytest.mark.parametrize("raw", [b"", b"PGDMP", b"not an archive at all"])
def test_a_table_of_contents_that_cannot_be_read_is_damage(raw):
    """What is stored there came from our own backup, so anything else is damage."""
    sink = MemorySink()
    sink.begin("archive/00-toc", "toc")
    sink.write(raw)
    sink.end({})
    with pytest.raises(Damaged):
        toc_of(MemorySource(sink))


# ---- roles


def test_roles_are_found_wherever_the_archive_names_them():
    """Owners, grantees, grantors, default privileges, policies, user mappings; quoted names too."""
    contents = toc(
        entry(1, "TABLE", "t", owner="Odd owner"),
        entry(
            2,
            "ACL",
            "TABLE t",
            "none",
            owner="app",
            definition="GRANT SELECT ON TABLE public.t TO reader;\nREVOKE ALL ON TABLE public.t FROM PUBLIC;\n"
            'SET SESSION AUTHORIZATION granter;\nGRANT UPDATE ON TABLE public.t TO "Odd ""one""" WITH GRANT OPTION;\n'
            "RESET SESSION AUTHORIZATION;\nGRANT ALL(a) ON TABLE public.t TO columns;\n",
        ),
        entry(
            3,
            "DEFAULT ACL",
            "DEFAULT PRIVILEGES FOR TABLES",
            "post-data",
            owner="app",
            definition="ALTER DEFAULT PRIVILEGES FOR ROLE maker IN SCHEMA public GRANT SELECT ON TABLES TO heir;\n",
        ),
        entry(
            4,
            "POLICY",
            "t p",
            "post-data",
            definition='CREATE POLICY p ON public.t FOR SELECT TO one, "Two" USING ((a > 1));\n',
        ),
        entry(
            5,
            "USER MAPPING",
            "USER MAPPING mapped SERVER s",
            definition="CREATE USER MAPPING FOR mapped SERVER s;",
        ),
    )
    assert owners(contents) == {"app", "Odd owner"}
    assert grantees(contents) == {"reader", "granter", 'Odd "one"', "columns", "maker", "heir"}
    assert named_roles(contents) == {"one", "Two", "mapped"}


def test_privileges_of_the_database_itself_need_no_roles():
    """A restore does not execute them, so that their roles may be gone."""
    contents = toc(
        entry(1, "DATABASE", "console", owner="gone", namespace=None),
        entry(
            2,
            "ACL",
            "DATABASE console",
            "none",
            owner="gone",
            namespace=None,
            definition="GRANT CONNECT ON DATABASE console TO lost;\n",
        ),
    )
    assert owners(contents) | grantees(contents) == set()


# ---- what a target must have

FITTING = {"server_version": 170004, "roles": ["app"], "available_extensions": ["pg_trgm"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"server_version": 160001},
            "from PostgreSQL 17 and cannot be restored into the older PostgreSQL 16",
        ),
        ({"roles": []}, '"app"'),
        ({"available_extensions": []}, 'does not have the extensions "pg_trgm"'),
    ],
)
def test_a_target_that_does_not_fit_is_refused(change, said):
    """Before anything starts, and with what is missing."""
    contents = toc(entry(1, "TABLE", "t"), entry(2, "EXTENSION", "pg_trgm", namespace=None, owner=""))
    assert extensions(contents) == {"pg_trgm"}
    check_target(contents, **FITTING)
    with pytest.raises(TargetError, match=said) as caught:
        check_target(contents, **{**FITTING, **change})
    assert caught.value.unaffected == "nothing was started"


def test_a_newer_target_fits():
    """Moving to a newer server is what a dump is for."""
    check_target(toc(entry(1, "TABLE", "t")), **{**FITTING, "server_version": 180002})


def test_roles_of_policies_are_needed_even_without_owners():
    """No option of pg_restore leaves them out."""
    contents = toc(entry(1, "POLICY", "t p", definition="CREATE POLICY p ON t TO lost;\n", owner="gone"))
    with pytest.raises(TargetError, match='"lost"'):
        check_target(contents, **FITTING, no_owner=True)


def test_programs_must_read_the_archive():
    """An archive of a newer pg_dump is not given to a pg_restore that cannot read it."""
    contents = toc(server="15.3", client="18.1")
    with pytest.raises(TargetError, match="needs pg_restore 17 or newer, and 15"):
        check_programs(contents, 15)
    check_programs(replace(contents, version=(1, 14)), 15)
    assert client_major(contents, 15) == 18
    assert client_major(replace(contents, dump_version="15.1", version=(1, 14)), 15) == 15


# ---- what pg_restore says

UNKNOWN = (
    'pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter "transaction_timeout"\n'
    "Command was: SET transaction_timeout = 0;\n"
)
END = "pg_restore: warning: errors ignored on restore: 1\n"


@pytest.mark.parametrize(
    ("stderr", "harmless"),
    [
        (UNKNOWN + END, True),
        (UNKNOWN * 3 + END, True),
        ("", False),
        (
            UNKNOWN
            + "pg_restore: error: could not execute query: ERROR:  no space\nCommand was: CREATE INDEX;\n"
            + END,
            False,
        ),
        (UNKNOWN.replace("transaction_timeout = 0", "work_mem = 0"), False),
        (UNKNOWN * 200, False),
    ],
)
def test_only_the_unknown_setting_is_let_pass(stderr, harmless):
    """Anything else, or more than can be seen, is a failure."""
    assert only_unknown_setting(stderr) is harmless


def test_the_first_real_error_is_told():
    """With its place and its detail, and without the harmless one before it."""
    said = (
        UNKNOWN + "pg_restore: while PROCESSING TOC:\npg_restore: from TOC entry 7; 1259 2 INDEX t_i app\n"
        "pg_restore: error: could not execute query: ERROR:  could not create unique index\n"
        "DETAIL:  Key (a)=(1) is duplicated.\nCommand was: CREATE UNIQUE INDEX;\n"
    )
    error = failure("pg_restore", "restoring indexes", said, OSError("x"), on="there")
    assert error.message == (
        "pg_restore failed while restoring indexes, at INDEX t_i app: could not execute query: "
        "ERROR:  could not create unique index (Key (a)=(1) is duplicated.)"
    )


# ---- one table


TABLES = toc(
    entry(1, "SCHEMA", "a", namespace=None),
    entry(2, "TABLE", "t", namespace="a"),
    entry(3, "TABLE", "t", namespace="b"),
    entry(4, "TABLE", "only", namespace="b"),
    entry(5, "SEQUENCE", "s", namespace="a"),
    entry(6, "SEQUENCE OWNED BY", "s", namespace="a", dependencies=(5, 2)),
    entry(7, "DEFAULT", "t id", namespace="a", dependencies=(2, 5)),
    entry(8, "TABLE DATA", "t", "data", namespace="a", dependencies=(2,)),
    entry(9, "SEQUENCE SET", "s", "data", namespace="a", dependencies=(5,)),
    entry(10, "CONSTRAINT", "t t_pkey", "post-data", namespace="a", dependencies=(2,)),
    entry(11, "FK CONSTRAINT", "t fk", "post-data", namespace="a", dependencies=(2, 10, 3)),
    entry(12, "VIEW", "v", namespace="a", dependencies=(2,)),
)


def test_a_table_comes_with_its_parts_and_nothing_else():
    """Sequence, default, data, position and key; not what ties it to other tables."""
    assert [one.dump_id for one in belonging(TABLES, TABLES.entries[1])] == [2, 5, 6, 7, 8, 9, 10]


def test_tables_are_found_by_name():
    """With the schema, or without where that is enough; else the choice is named."""
    assert find_table(TABLES, "b.t").dump_id == 3
    assert find_table(TABLES, "only").dump_id == 4
    with pytest.raises(UsageError, match="several schemas") as caught:
        find_table(TABLES, "t")
    assert "a.t, b.t" in str(caught.value.hint)
    with pytest.raises(UsageError, match='no table "nope"'):
        find_table(TABLES, "nope")


def test_a_script_of_globals_is_cut_into_statements():
    """Semicolons in literals and names, comments and psql's own commands do not confuse it."""
    script = (
        "-- a; comment\n\\restrict x;y\nCREATE ROLE \"a;b\";\nALTER ROLE x WITH PASSWORD 'p;''q';\n\n"
        "ALTER ROLE x SET search_path TO 'a', 'b';\n"
    )
    assert list(statements(script)) == [
        'CREATE ROLE "a;b";',
        "ALTER ROLE x WITH PASSWORD 'p;''q';",
        "ALTER ROLE x SET search_path TO 'a', 'b';",
    ]
