"""The snapshot's roles on a scratch server: its ``globals.sql``, statement by statement, without what does not belong there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dr_toolkit.errors import SourceError
from dr_toolkit.postgres import server

_WANTED = re.compile(r"(?:CREATE|ALTER) ROLE |GRANT ")
_CREATE = re.compile(r'CREATE ROLE ("(?:[^"]|"")+"|[^\s;]+);')
_PASSWORD = re.compile(r" PASSWORD '(?:[^']|'')*'")
_ON_TABLESPACE = re.compile(r"(?:GRANT|ALTER) .*\bTABLESPACE\b")
_GRANTED_BY = re.compile(r' GRANTED BY ("(?:[^"]|"")+"|[^\s;]+)(?=;$)')
"""On a scratch server only its own superuser may grant a predefined role; who granted it at the source proves nothing here."""
_LONGEST = 80


def apply(connection: server.Connection, script: bytes, needed: frozenset[str]) -> list[str]:
    """Make the roles; passwords are left out. Gives notes on what could not be done."""
    existing = {row[0] for row in server.query(connection, "SELECT rolname FROM pg_catalog.pg_roles")}
    notes = []
    for statement in statements(script.decode("utf-8", "replace")):
        if not _WANTED.match(statement) or _ON_TABLESPACE.match(statement):
            continue
        created = _CREATE.fullmatch(statement)
        if created and _name(created[1]) in existing:
            continue
        try:
            server.query(connection, _GRANTED_BY.sub("", _PASSWORD.sub("", statement)))
        except SourceError as error:
            notes.append(f'not on the scratch server: "{_shown(statement)}": {error.message}')
    existing = {row[0] for row in server.query(connection, "SELECT rolname FROM pg_catalog.pg_roles")}
    for name in sorted(needed - existing):
        server.query(connection, server.statement("CREATE ROLE {name}", name=server.identifier(name)))
        notes.append(f'the role "{name}" is not in the snapshot\'s globals; an empty one was made')
    return notes


_PIECE = re.compile(
    r"""
    --[^\n]*                      # a comment
    | '(?:[^']|'')*'              # a literal
    | "(?:[^"]|"")*"              # a quoted name
    | \\[^\n]*                    # a command of psql
    | ;
    | [^-'"\\;]+ | .
    """,
    re.VERBOSE | re.DOTALL,
)


def statements(script: str) -> Iterator[str]:
    """Cut a script of ``pg_dumpall`` into statements, each with its semicolon."""
    parts: list[str] = []
    for match in _PIECE.finditer(script):
        piece = match[0]
        if piece.startswith(("--", "\\")):
            continue
        parts.append(piece)
        if piece == ";":
            text = "".join(parts).strip()
            parts = []
            if text != ";":
                yield text


def _name(text: str) -> str:
    return text[1:-1].replace('""', '"') if text.startswith('"') else text


def _shown(statement: str) -> str:
    text = " ".join(_PASSWORD.sub("", statement).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
