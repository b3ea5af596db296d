"""``drctl show``."""

from __future__ import annotations

import click

from dr_toolkit.cli.context import Context
from dr_toolkit.cli.options import common, epilog


@click.command(
    "show",
    epilog=epilog(
        "drctl show 20261123T084549Z-", "drctl show before-migration", "drctl show 9c41d7 archive/data/"
    ),
)
@click.argument("what", metavar="SNAPSHOT|POINT")
@click.argument("path", required=False, default="")
@common
@click.pass_obj
def command(context: Context, what: str, path: str) -> None:
    """What is in a snapshot or a point: source facts, entries, evidence, differences to its parent.

    WHAT is an id, a unique part of one, or a point's name; PATH limits the entries. Needs the role "write" or "read".
    """
    context.configure_log()
    from dr_toolkit.jobs import inspect, opening
    from dr_toolkit.reporting import documents, text
    from dr_toolkit.repository.repository import Point

    with opening.opened_repository(context.load_config()) as repository:
        found = inspect.find(repository, what)
        if isinstance(found, Point):
            context.emit({"point": documents.point(found)}, text.point(found))
            return
        details = inspect.details(repository, found, path)
        context.emit(documents.details(details), text.details(details))
