"""Tables that are loaded as if they had been vacuumed: emptied and filled by one transaction (docs/adr/0018-frozen-load.md).

``pg_restore`` sends the COPY statement of the table of contents as it stands there. Where the table was made by this very
restore, the statement is exchanged: the table is emptied first, in the transaction of the COPY, which lets PostgreSQL write rows
that everybody sees already. Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dr_toolkit.postgres.archive_toc import Toc, TocEntry, decoder

FROM_BYTES = 1 << 20
"""Smaller tables stay as they are: a new file for each costs more than is gained."""

_NAME = r'(?:"(?:[^"]|"")*"|[^\s".,();]+)'
_COPY = re.compile(rf"COPY (?P<table>({_NAME})\.({_NAME})) (?P<columns>\(.+\)) FROM stdin;\s*", re.DOTALL)


def frozen(toc: Toc, sizes: Mapping[int, int], *, at_least: int = FROM_BYTES) -> bytes:
    """The table of contents that loads tables frozen, where that is possible.

    Left as they are: tables that an extension made and may have filled, partitions that are loaded through their root, and data
    that is not COPY text.

    Args:
        toc: the table of contents.
        sizes: bytes of the data, by dump id.
        at_least: bytes from which on it is worth it.

    Returns:
        Bytes for ``pg_restore``; with nothing to change, those of ``toc``.
    """
    made = {(entry.namespace, entry.tag) for entry in toc.entries if entry.desc == "TABLE"}
    changed = {}
    for entry in toc.entries:
        if (
            entry.desc == "TABLE DATA"
            and (entry.namespace, entry.tag) in made
            and sizes.get(entry.dump_id, 0) >= at_least
        ):
            statement = _statement(toc, entry)
            if statement is not None:
                changed[entry.dump_id] = statement
    return toc.with_copy_statements(changed) if changed else toc.raw


def _statement(toc: Toc, entry: TocEntry) -> bytes | None:
    match = _COPY.fullmatch(entry.copy_statement)
    # Partitions that are loaded through their root name another table than their own.
    if match is None or (_plain(match[2]), _plain(match[3])) != (entry.namespace, entry.tag):
        return None
    codec = decoder(toc.encoding)
    # Sent in one message, they are one transaction.
    text = f"TRUNCATE TABLE ONLY {match['table']}; COPY {match['table']} {match['columns']} FROM stdin WITH (FREEZE);\n"
    try:
        same = codec.encode(entry.copy_statement)[0] == toc.raw_copy_statement(entry)
        return codec.encode(text)[0] if same else None
    except UnicodeError:  # names that Python does not know how to write in the archive's encoding
        return None


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
