"""One table comes back with its parts, into a database that holds other things, and never over anything."""

from __future__ import annotations

import pytest

from devstack import sql
from dr_toolkit.errors import Damaged, TargetError, UsageError
from dr_toolkit.postgres.restore_table import check_tables, restore_table
from tests.restoring import ChangedSource, settings_of, snapshot, table_is, tools_of

SCHEMA = """
CREATE SCHEMA app;
CREATE TYPE app.mood AS ENUM ('low', 'high');
CREATE DOMAIN app.amount AS numeric CHECK (value > 0);
CREATE FUNCTION app.number() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 42';
CREATE TABLE app.parent (id int PRIMARY KEY);
CREATE TABLE app.wanted (
    id serial PRIMARY KEY, mood app.mood DEFAULT 'low', amount app.amount DEFAULT app.number(), text text,
    parent int REFERENCES app.parent
);
CREATE INDEX by_text ON app.wanted (text);
COMMENT ON TABLE app.wanted IS 'the one';
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER touch BEFORE INSERT ON app.wanted FOR EACH ROW EXECUTE FUNCTION app.touch();
INSERT INTO app.wanted (text) SELECT 'row ' || n FROM generate_series(1, 500) AS n;
CREATE TABLE app.parted (at date, n int) PARTITION BY RANGE (at);
CREATE TABLE app.parted_1 PARTITION OF app.parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE app.parted_2 PARTITION OF app.parted FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
CREATE INDEX parted_n ON app.parted (n);
INSERT INTO app.parted VALUES ('2026-05-05', 1), ('2027-05-05', 2), ('2027-06-06', 3);
"""


@pytest.fixture
def source_name(postgres, new_database):
    name = new_database()
    sql.execute(postgres.dsn(name), SCHEMA)
    return name


@pytest.fixture
def source(postgres, source_name):
    return snapshot(postgres, source_name)


def restore(postgres, source, database, table="app.wanted"):
    return restore_table(source, settings_of(postgres, database), tools_of(postgres), table)


def test_a_table_comes_with_what_it_needs(postgres, source, database):
    """Into an empty database: types, functions, sequence, rows, key and index; not what ties it to others."""
    report = restore(postgres, source, database)
    dsn = postgres.dsn(database)
    assert report.rows == 500
    assert {"schema app", "type app.mood", "domain app.amount", "function app.number()"} <= set(report.also)
    assert set(report.skipped) == {"fk constraint app.wanted wanted_parent_fkey", "trigger app.wanted touch"}
    assert sql.rows(dsn, "SELECT count(*), min(mood::text), sum(amount) FROM app.wanted") == [
        (500, "low", 21000)
    ]
    assert sql.rows(dsn, "INSERT INTO app.wanted (text) VALUES ('more') RETURNING id") == [(501,)]
    indexes = sql.rows(dsn, "SELECT indexname FROM pg_indexes WHERE schemaname = 'app' ORDER BY 1")
    assert indexes == [("by_text",), ("wanted_pkey",)]
    assert sql.rows(dsn, "SELECT obj_description('app.wanted'::regclass)") == [("the one",)]
    assert sql.rows(dsn, "SELECT to_regclass('app.parent')") == [(None,)]


def test_a_dropped_table_comes_back_beside_the_others(postgres, source_name, source):
    """In the database it was lost from, types and schema are there already and are left as they are."""
    dsn = postgres.dsn(source_name)
    sql.execute(dsn, "DROP TABLE app.wanted", "INSERT INTO app.parent VALUES (1)")
    report = restore(postgres, source, source_name)
    assert (report.rows, report.also) == (500, ())
    assert sql.rows(dsn, "SELECT count(*) FROM app.wanted") == [(500,)]
    assert sql.rows(dsn, "SELECT count(*) FROM app.parent") == [(1,)]


def test_a_table_that_exists_is_never_touched(postgres, source_name, source):
    """A table of that name, whatever is in it, makes the restore refuse."""
    with pytest.raises(TargetError, match=r'"app\.wanted" exists') as caught:
        restore(postgres, source, source_name)
    assert caught.value.unaffected == "nothing was changed"


def test_a_partitioned_table_comes_with_its_partitions(postgres, source, database):
    """The parent has no rows of its own; its partitions, indexes and their rows come with it."""
    report = restore(postgres, source, database, "app.parted")
    assert report.rows == 3
    rows = sql.rows(postgres.dsn(database), "SELECT tableoid::regclass::text, n FROM app.parted ORDER BY n")
    assert rows == [("app.parted_1", 1), ("app.parted_2", 2), ("app.parted_2", 3)]
    valid = sql.rows(
        postgres.dsn(database), "SELECT indisvalid FROM pg_index WHERE indexrelid = 'app.parted_n'::regclass"
    )
    assert valid == [(True,)]


def test_only_the_tables_own_data_is_read(postgres, source, database):
    """Damage in another table does not keep this one from coming back; damage in its own does, and nothing stays."""

    def damaged(pieces):
        yield next(pieces)[:100]
        raise Damaged("a chunk does not open")

    restore(postgres, ChangedSource(source, table_is("app.parted_1"), damaged), database)
    sql.execute(postgres.dsn(database), "DROP SCHEMA app CASCADE")
    with pytest.raises(Damaged):
        restore(postgres, ChangedSource(source, table_is("app.wanted"), damaged), database)
    assert sql.rows(postgres.dsn(database), "SELECT to_regclass('app.wanted')") == [(None,)]


def test_a_table_that_is_not_in_the_snapshot(postgres, source, database):
    """A wrong name is wrong usage."""
    with pytest.raises(UsageError, match=r'no table "app\.nothing"'):
        restore(postgres, source, database, "app.nothing")


def test_all_tables_are_looked_at_before_the_first_is_restored(postgres, source, database):
    """One of several exists already, or the database does not: refused before anything is written, with what to do."""
    sql.execute(postgres.dsn(database), "CREATE SCHEMA app CREATE TABLE app.parted (a int)")
    settings = settings_of(postgres, database)
    check_tables(source, settings, ["app.wanted"])
    with pytest.raises(TargetError, match=r"app\.parted"):
        check_tables(source, settings, ["app.wanted", "app.parted"])
    with pytest.raises(TargetError) as caught:
        check_tables(source, settings.for_database("is_not_there"), ["app.wanted"])
    assert "create it first" in str(caught.value.hint)
