"""A database's content by SQL alone: an independent witness, because drctl has no part in it."""

from __future__ import annotations

from dataclasses import dataclass

from devstack import sql

TABLES = """
    SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_'
    ORDER BY 1, 2
"""
SEQUENCES = """
    SELECT schemaname || '.' || sequencename, coalesce(last_value::text, 'unused') FROM pg_sequences ORDER BY 1
"""
LARGE_OBJECTS = "SELECT oid::text, md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY 1"
DEFINITIONS = """
    SELECT md5(string_agg(line, E'\\n' ORDER BY line COLLATE "C")) FROM (
        SELECT pg_get_indexdef(indexrelid) AS line FROM pg_index JOIN pg_class AS c ON c.oid = indrelid
            JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_'
        UNION ALL SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid <> 0
        UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT schemaname || '.' || viewname || ' ' || definition FROM pg_views WHERE schemaname !~ '^(pg_|information_schema)'
        UNION ALL SELECT pg_get_functiondef(p.oid) FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = pronamespace
            WHERE n.nspname !~ '^(pg_|information_schema)' AND prokind = 'f'
    ) AS lines
"""


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a database.

    Attributes:
        tables: number of rows and MD5 over all sorted rows, by table.
        sequences: the last value, by sequence.
        large_objects: MD5, by object.
        definitions: MD5 over indexes, constraints, triggers, views and functions.
    """

    tables: dict[str, tuple[int, str]]
    sequences: dict[str, str]
    large_objects: dict[str, str]
    definitions: str

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(count for count, _ in self.tables.values())

    def differences(self, other: Content) -> list[str]:
        """Name everything that is not the same in both.

        Args:
            other: what to compare with.
        """
        found = []
        for ours, theirs, word in (
            (self.tables, other.tables, "table"),
            (self.sequences, other.sequences, "sequence"),
            (self.large_objects, other.large_objects, "large object"),
        ):
            found += [f"{word} {n}" for n in sorted(ours | theirs) if ours.get(n) != theirs.get(n)]
        return found + ([] if self.definitions == other.definitions else ["definitions"])


def of(dsn: str) -> Content:
    """Read a whole database.

    Args:
        dsn: where, as superuser.
    """
    tables = {}
    for table, name in _tables(dsn):
        # The rows are sorted by their own digest, so the order in which they lie does not count.
        query = f"SELECT count(*), coalesce(md5(string_agg(row, '' ORDER BY row)), 'empty') FROM (SELECT md5(t::text) COLLATE \"C\" AS row FROM {name} AS t) AS rows"
        ((count, digest),) = sql.rows(dsn, query)
        tables[table] = (int(str(count)), str(digest))
    sequences = {str(name): str(value) for name, value in sql.rows(dsn, SEQUENCES)}
    large_objects = {str(oid): str(digest) for oid, digest in sql.rows(dsn, LARGE_OBJECTS)}
    return Content(tables, sequences, large_objects, str(sql.rows(dsn, DEFINITIONS)[0][0]))


def rows(dsn: str) -> dict[str, int]:
    """Count the rows of every table, which is quicker than reading them.

    Args:
        dsn: where.
    """
    return {
        table: int(str(sql.rows(dsn, f"SELECT count(*) FROM {name}")[0][0])) for table, name in _tables(dsn)
    }


def _tables(dsn: str) -> list[tuple[str, str]]:
    """Every table's name, for people and for SQL."""
    return [
        (f"{schema}.{table}", f"{sql.quoted(str(schema))}.{sql.quoted(str(table))}")
        for schema, table in sql.rows(dsn, TABLES)
    ]
