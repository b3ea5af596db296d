"""The one place of devstack that talks SQL."""

from __future__ import annotations

from typing import LiteralString

import psycopg


def connect(dsn: str, *, autocommit: bool = True) -> psycopg.Connection[tuple[object, ...]]:
    """Connect to a database.

    Args:
        dsn: libpq's connection string or URL.
        autocommit: whether every statement stands alone.

    Returns:
        The connection, to be closed by the caller.
    """
    return psycopg.connect(dsn, autocommit=autocommit, connect_timeout=10)


def execute(dsn: str, *statements: str) -> None:
    """Run statements, each in its own transaction.

    Args:
        dsn: where.
        statements: SQL; a text with several statements is one transaction.
    """
    with connect(dsn) as connection:
        for statement in statements:
            connection.execute(trusted(statement))


def rows(dsn: str, query: str, *arguments: object) -> list[tuple[object, ...]]:
    """Run a query and fetch all of its rows.

    Args:
        dsn: where.
        query: SQL with ``%s`` for each argument.
        arguments: the values.

    Returns:
        The rows.
    """
    with connect(dsn) as connection:
        return connection.execute(trusted(query), arguments or None).fetchall()


def trusted(sql: str) -> LiteralString:
    """Mark SQL that devstack composed itself.

    Args:
        sql: the statement.
    """
    return sql


def quoted(name: str) -> str:
    """Quote an identifier.

    Args:
        name: any text without a NUL.
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text for use as an SQL literal.

    Args:
        text: any text without a NUL.
    """
    return "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
