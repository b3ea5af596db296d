"""Databases that a restore put aside: which there are, the way back to one, and the only place that drops one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from dr_toolkit import clock, log
from dr_toolkit.errors import SourceError, TargetError
from dr_toolkit.postgres import server, swap, swap_names, swap_sql
from dr_toolkit.postgres.connection import ConnectionSettings
from dr_toolkit.postgres.swap_plan import Client, clients, maintenance

_log = log.get("postgres.kept")

_KEPT = """
SELECT d.datname, shobj_description(d.oid, 'pg_database'),
       CASE WHEN has_database_privilege(d.oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'MEMBER') THEN pg_database_size(d.oid) END,
       (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid AND a.usesysid IS NOT NULL)
FROM pg_catalog.pg_database d WHERE d.datname LIKE '%%\\_old\\_%%' AND d.datname <> %s ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """One database that was put aside.

    Attributes:
        name: that it has now.
        live: the name that it had.
        why: ``replaced`` by a restore, or ``undone``: restored content that ``--undo`` put aside.
        moment: when, RFC 3339.
        snapshot: that it was replaced with, or has the content of.
        bytes: size; None where the role may not know.
        sessions: open in it.
    """

    name: str
    live: str
    why: Literal["replaced", "undone"]
    moment: str
    snapshot: str
    bytes: int | None
    sessions: int


@dataclass(frozen=True, slots=True)
class Past:
    """What there is of one live database.

    Attributes:
        live: its name.
        there: whether it exists.
        kept: what was put aside, newest first.
        clients: sessions in the live database.
    """

    live: str
    there: bool
    kept: tuple[Kept, ...]
    clients: tuple[Client, ...]


def look(settings: ConnectionSettings) -> Past:
    """What a restore of the database that ``settings`` name put aside. Changes nothing.

    Raises:
        TargetError: the server does not let us in.
        SourceUnreachable: it cannot be reached.
    """
    with maintenance(settings) as connection:
        return _look(connection, settings.database)


def choose(past: Past) -> tuple[Kept | None, str]:
    """The database to go back to, or why there is none. Pure.

    Only what happened last is undone: a second ``--undo`` finds that it was done, and does not go a step further back.
    """
    if not past.kept:
        return None, "no restore of it left a database to go back to"
    last = past.kept[0]
    if last.why == "undone":
        return (
            None,
            f'its last restore was undone at {last.moment}; the restored content is kept as "{last.name}"',
        )
    return last, ""


def undo(settings: ConnectionSettings, name: str, *, terminate: bool) -> swap.SwapReport:
    """Give the live name back to a kept database; the one that has it now is kept in its turn.

    Args:
        settings: of the live database.
        name: of the kept one.
        terminate: end sessions in the live database. Without it an open session makes this fail.

    Raises:
        TargetError: it is not there any more, sessions are open, or renaming failed. The live database is as it was.
    """
    live = settings.database
    with maintenance(settings) as connection:
        swap.lock(connection, live)
        swap.repair_in(connection, live)
        past = _look(connection, live)
        chosen = _still_there(past, name)
        moment = clock.now()
        taken = {row[0] for row in server.query(connection, "SELECT datname FROM pg_database")}
        old = swap_names.old_name(live, moment, taken) if past.there else None
        swap.configure(connection, _parameters(connection, past, chosen, old, terminate=terminate))
        try:
            server.query(connection, swap_sql.SWAP)
        except SourceError as error:
            refused = swap.refusal(connection, live, name, error)
            comment = swap_names.kept_comment(chosen.moment, chosen.snapshot)
            swap.set_comment(connection, name, comment)
            raise refused from error
        report = swap.report_of(connection, live, old, len(past.clients) if terminate else 0)
    _log.info("names swapped back", live=live, old=old, unavailable=report.unavailable_seconds)
    return report


def drop(settings: ConnectionSettings, name: str) -> None:
    """Drop one kept database.

    Raises:
        TargetError: it is none of ours any more, its live database is gone, or somebody is connected to it.
    """
    live = settings.database
    with maintenance(settings) as connection:
        swap.lock(connection, live)
        past = _look(connection, live)
        _still_there(past, name)
        if not past.there:
            raise TargetError(
                f'"{live}" does not exist, so "{name}" may be the last copy of its data',
                on=name,
                hint="go back to it with --undo, or drop it by hand",
                unaffected="it was not dropped",
            )
        try:
            server.query(connection, server.statement("DROP DATABASE {name}", name=server.identifier(name)))
        except SourceError as error:
            raise TargetError(
                f'"{name}" could not be dropped: {error.message}',
                on=name,
                hint="end the sessions in it; it is never dropped while somebody looks at it",
                unaffected="it was not dropped",
            ) from error
    _log.info("kept database dropped", database=name, live=live)


def _look(connection: server.Connection, live: str) -> Past:
    rows = server.query(connection, _KEPT, (live,))
    found: list[Kept] = []
    for name, comment, size, sessions in rows:
        past = swap_names.read_past(name, live, comment)
        if past is not None:
            found.append(Kept(name, live, past.why, past.moment, past.snapshot, size, sessions))
    found.sort(key=lambda kept: (kept.moment, kept.name), reverse=True)
    there = bool(server.query(connection, "SELECT 1 FROM pg_database WHERE datname = %s", (live,)))
    return Past(live, there, tuple(found), clients(connection, live))


def _still_there(past: Past, name: str) -> Kept:
    for kept in past.kept:
        if kept.name == name:
            return kept
    raise TargetError(
        f'"{name}" is not a database that drctl put aside for "{past.live}"',
        on=name,
        hint="look again: drctl restore --cleanup --dry-run",
        unaffected="nothing was changed",
    )


def _parameters(
    connection: server.Connection, past: Past, chosen: Kept, old: str | None, *, terminate: bool
) -> dict[str, str]:
    """For `swap_sql.SWAP`. The kept database has its own settings and privileges still; only its comment is ours."""
    marker = swap_names.Marker(past.live, chosen.snapshot, swap_names.UNDOING, chosen.moment)
    statements = [_comment_of_live(connection, past, chosen)] if past.there else []
    plain = server.statement(
        "COMMENT ON DATABASE {name} IS NULL", name=server.identifier(past.live)
    ).as_string(connection)
    return {
        "live": past.live,
        "new": chosen.name,
        "old": old or "",
        "marker": marker.text(),
        "kept": swap_names.undone_comment(clock.rfc3339(clock.now()), chosen.snapshot),
        "statements": json.dumps(statements),
        "later": json.dumps([] if past.there else [plain]),
        "end_sessions": "on" if terminate else "off",
        "seconds": str(swap.SWAP_SECONDS),
    }


def _comment_of_live(connection: server.Connection, past: Past, chosen: Kept) -> str:
    """The restored database took its predecessor's comment over, so that one is the comment to give back."""
    rows = server.query(
        connection,
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
        (past.live,),
    )
    text = "COMMENT ON DATABASE {name} IS {comment}"
    parts = {"name": server.identifier(chosen.name), "comment": rows[0][0]}
    return server.statement(text, **parts).as_string(connection)
