"""Where a dump is restored to: what ``--to`` may say, and the connection that it means."""

from __future__ import annotations

import re
from dataclasses import replace

from dr_toolkit import errors
from dr_toolkit.config import Config, PostgresDumpConfig
from dr_toolkit.jobs import opening
from dr_toolkit.postgres import connection, swap_names
from dr_toolkit.postgres.connection import ConnectionSettings

FILE = "file:"
_SCHEMES = ("postgresql://", "postgres://", "jdbc:postgresql://")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FORMS = "give a new database's name, a postgresql:// URL of one, or file:PATH for the exact archive"


def check(to: str | None) -> None:
    """Refuse what can be no target, before anything is read. Pure.

    Raises:
        UsageError: it is empty, no name that PostgreSQL would take as it is, or the URL of something else.
    """
    if to is None:
        return
    if to.removeprefix(FILE) == "":
        raise _wrong("--to is empty" if not to else "--to names no file")
    if to.startswith(FILE):
        return
    if "://" in to:
        if not to.startswith(_SCHEMES):
            raise _wrong(f'"{to.partition("://")[0]}://" is no target for a dump')
        return
    if _CONTROL.search(to):
        raise _wrong("a database's name with control characters is no target: many programs cannot name it")
    swap_names.check_name(to)


def settings(config: Config, component: PostgresDumpConfig, to: str | None) -> ConnectionSettings:
    """The database that is to have the content in the end."""
    live = opening.restore_settings(component, config)
    if to is None:
        return live
    if "://" not in to:
        return live.for_database(to)
    given = connection.resolve(url=to, user=None, programs=live.programs)
    return given if given.password is not None else replace(given, password=live.password)


def _wrong(message: str) -> errors.UsageError:
    return errors.UsageError(message, hint=_FORMS, unaffected="nothing was started")
