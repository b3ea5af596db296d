"""What a killed restore leaves beside a live database, seen without touching it."""

from __future__ import annotations

from dataclasses import dataclass

from dr_toolkit.postgres import server, swap_names
from dr_toolkit.postgres.connection import ConnectionSettings
from dr_toolkit.postgres.swap_plan import maintenance

_DATABASES = "SELECT datname, datallowconn, shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database"


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What a killed restore of a database would leave; a running one has it, too.

    Attributes:
        live: the database.
        closed: whether it takes no connections although a swap had begun.
        half_restored: databases that carry our marker.
    """

    live: str
    closed: bool
    half_restored: tuple[str, ...]


def leftovers(settings: ConnectionSettings) -> Leftovers:
    """Look, as any role can.

    Raises:
        TargetError: neither ``postgres`` nor ``template1`` lets us in.
        SourceUnreachable: the server cannot be reached.
    """
    live = settings.database
    with maintenance(settings) as connection:
        rows = server.query(connection, _DATABASES)
    found = [
        (name, marker)
        for name, _open, comment in rows
        if (marker := swap_names.read_marker(comment)) is not None and marker.live == live
    ]
    closed = any(name == live and not open_ for name, open_, _comment in rows)
    begun = any(marker.state in ("swapping", swap_names.UNDOING) for _name, marker in found)
    half = tuple(name for name, marker in found if marker.state != swap_names.UNDOING)
    return Leftovers(live, closed and begun, half)
