"""What the target of a restore has, asked by SQL before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from dr_toolkit.errors import SourceError, TargetError
from dr_toolkit.postgres import restore_needs, server
from dr_toolkit.postgres.archive_toc import Toc
from dr_toolkit.postgres.connection import ConnectionSettings

_OWN_OBJECTS = """
SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast' AND n.nspname !~ '^pg_temp'
"""


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What a target server has.

    Attributes:
        version: ``server_version_num``.
        roles: names of its roles.
        extensions: names of the extensions that it can create.
        relations: how many tables, views, indexes and sequences the database holds already.
    """

    version: int
    roles: frozenset[str]
    extensions: frozenset[str]
    relations: int


@contextmanager
def refusals() -> Iterator[None]:
    """Within the block a server that says no is a target that says no."""
    try:
        yield
    except SourceError as error:
        raise TargetError(error.message, on=error.on, hint=None, unaffected=error.unaffected) from error


@contextmanager
def session(settings: ConnectionSettings) -> Iterator[server.Connection]:
    """A session on a target, in autocommit."""
    with refusals(), closing(server.connect(settings)) as connection:
        yield connection


def facts(settings: ConnectionSettings) -> TargetFacts:
    """Ask a target.

    Raises:
        TargetError: it refuses.
        SourceUnreachable: it cannot be reached.
    """
    with session(settings) as connection:
        roles = server.query(connection, "SELECT rolname FROM pg_catalog.pg_roles")
        extensions = server.query(connection, "SELECT name FROM pg_catalog.pg_available_extensions")
        relations = server.query(connection, _OWN_OBJECTS)
        return TargetFacts(
            version=connection.info.server_version,
            roles=frozenset(row[0] for row in roles),
            extensions=frozenset(row[0] for row in extensions),
            relations=relations[0][0],
        )


def check(
    settings: ConnectionSettings, toc: Toc, *, tool_major: int, no_owner: bool, must_be_empty: bool
) -> int:
    """Refuse a target that the archive cannot be restored into, before anything was started; gives its version.

    Raises:
        TargetError: too old, not empty, or without a role or an extension that is needed.
    """
    found = facts(settings)
    restore_needs.check_programs(toc, tool_major)
    restore_needs.check_target(
        toc,
        server_version=found.version,
        roles=found.roles,
        available_extensions=found.extensions,
        no_owner=no_owner,
    )
    if must_be_empty and found.relations:
        raise TargetError(
            f'the database "{settings.database}" is not empty: it holds {found.relations} relations',
            on=settings.redacted(),
            hint="restore into a new database",
            unaffected="nothing was started",
        )
    return found.version
