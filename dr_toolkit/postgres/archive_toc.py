"""Header and table of contents of pg_dump's custom format, versions 1.14 to 1.16 (PostgreSQL 13 to 18)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TocEntry:
    """One entry of a table of contents. Names are text in the archive's encoding.

    Attributes:
        dump_id: number of the entry within this archive.
        has_data: whether a data block follows in the archive.
        desc: what it is: ``TABLE``, ``TABLE DATA``, ``BLOBS``, ``SEQUENCE SET``...
        section: ``none``, ``pre-data``, ``data`` or ``post-data``.
    """

    dump_id: int
    has_data: bool
    table_oid: int
    oid: int
    tag: str
    desc: str
    section: str
    definition: str
    drop_statement: str
    copy_statement: str
    namespace: str | None
    tablespace: str | None
    table_access_method: str | None
    relkind: str | None
    owner: str
    dependencies: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Toc:
    """Header and entries of an archive, with the exact bytes they were read from."""

    raw: bytes
    version: tuple[int, int]
    database: str
    server_version: str
    dump_version: str
    created: str
    compression: str
    entries: tuple[TocEntry, ...]
