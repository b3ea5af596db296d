"""Looks at a restored cluster by SQL: indexes where there is no ``pg_amcheck``, and visibility maps. Scratch only: extensions are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from dr_toolkit.errors import DrctlError
from dr_toolkit.postgres import server
from dr_toolkit.postgres.connection import ConnectionSettings
from dr_toolkit.words import counted

_SHOWN = 5
_INDEXES = """
    SELECT c.oid::regclass::text FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_am a ON a.oid = c.relam
    WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence = 'p' AND i.indisready AND i.indisvalid ORDER BY 1
"""
_TABLES = """
    SELECT c.oid::regclass::text FROM pg_class c
    WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence = 'p' AND pg_relation_size(c.oid) > 0 ORDER BY 1
"""


@dataclass(slots=True)
class Proof:
    """What was looked at.

    Attributes:
        databases: that were read whole.
        bytes_read: of their logical content.
        amcheck: whether heaps and indexes were checked (13: indexes).
        visibility: tables whose visibility map was held against their rows; None where that is not possible.
        failures: in words.
        notes: what could not be looked at, in words.
        seconds: by stage.
    """

    databases: int = 0
    bytes_read: int = 0
    amcheck: bool = False
    visibility: int | None = None
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def indexes(settings: ConnectionSettings, names: Sequence[str], proof: Proof) -> None:
    """Check every B-tree against its table, for servers without ``pg_amcheck``."""
    for name in names:
        with _extension(settings, name, "amcheck", proof) as session:
            if session is None:
                return
            for (index,) in server.query(session, _INDEXES):
                try:
                    server.query(session, "SELECT bt_index_check(%s::regclass, true)", (index,))
                except DrctlError as error:
                    _fail(proof, f'the index {index} of "{name}": {error.message}')
    proof.amcheck = True
    proof.notes.append(
        "PostgreSQL 13 has no pg_amcheck: indexes were checked against their tables, heaps were read"
    )


def visibility(settings: ConnectionSettings, names: Sequence[str], proof: Proof) -> None:
    """Hold visibility maps against rows: a wrong bit gives deleted rows to an index-only scan, or hides old ones from VACUUM."""
    looked = 0
    for name in names:
        with _extension(settings, name, "pg_visibility", proof) as session:
            if session is None:
                return
            for (table,) in server.query(session, _TABLES):
                looked += 1
                [(seen, frozen)] = server.query(
                    session,
                    "SELECT (SELECT count(*) FROM pg_check_visible(t)), (SELECT count(*) FROM pg_check_frozen(t)) "
                    "FROM CAST(%s AS regclass) AS t",
                    (table,),
                )
                if seen or frozen:
                    _fail(
                        proof,
                        f'the visibility map of {table} in "{name}" is wrong for {counted(seen + frozen, "row")}',
                    )
    proof.visibility = looked


@contextmanager
def _extension(
    settings: ConnectionSettings, database: str, extension: str, proof: Proof
) -> Iterator[server.Connection | None]:
    """A session in which the extension can be used; None, and a note, where it is not installed."""
    with closing(server.connect(settings.for_database(database))) as session:
        # Event triggers of the source are not to see what we make.
        server.query(session, "SELECT set_config('session_replication_role', 'replica', false)")
        known = server.query(session, "SELECT 1 FROM pg_available_extensions WHERE name = %s", (extension,))
        if not known:
            note = f"the extension {extension} is not installed here, so it did not look"
            if note not in proof.notes:
                proof.notes.append(note)
            yield None
            return
        server.query(session, f"CREATE EXTENSION IF NOT EXISTS {extension} SCHEMA pg_catalog")
        server.query(session, "SELECT set_config('search_path', 'pg_catalog', false)")
        yield session


def _fail(proof: Proof, text: str) -> None:
    if len(proof.failures) < _SHOWN:
        proof.failures.append(text)
