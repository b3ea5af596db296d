"""``drctl show``."""

from __future__ import annotations

import click

from dr_toolkit.cli.context import Context
from dr_toolkit.cli.options import common, epilog


@click.command(
    "show",
    epilog=epilog(
        "drctl show 20261123T084549Z-",
        "drctl show before-migration",
        "drctl show 9c41d7 archive/data/",
        "drctl show 51ab09 conduktor/conduktor-gateway",
        "drctl show 77e0c2 conduktor/values/gateway-secrets --reveal",
    ),
)
@click.argument("what", metavar="SNAPSHOT|POINT")
@click.argument("path", required=False, default="")
@click.option(
    "--reveal",
    is_flag=True,
    help="For an entry of a helm or secrets component: hide nothing. Needs the role read; the log says so.",
)
@common
@click.pass_obj
def command(context: Context, what: str, path: str, *, reveal: bool) -> None:
    """What is in a snapshot or a point: source facts, entries, evidence, differences to its parent.

    WHAT is an id, a unique part of one, or a point's name; PATH limits the entries. Needs the role "write" or "read". Of a helm or
    secrets component PATH may be one entry, or NAMESPACE/RELEASE: then what it holds is shown, secrets hidden, which needs "read".
    """
    context.configure_log()
    from dr_toolkit.jobs import content, inspect, opening
    from dr_toolkit.reporting import content_text, documents, text
    from dr_toolkit.repository.repository import Point

    with opening.opened_repository(context.load_config()) as repository:
        found = inspect.find(repository, what)
        if isinstance(found, Point):
            if path:
                raise click.UsageError(f'"{what}" is a recovery point: PATH goes with one of its snapshots')
            context.emit({"point": documents.point(found)}, text.point(found))
            return
        entry = content.find(repository, found, path)
        if reveal:
            content.check_reveal(found, entry)
        if entry is not None:
            shown = content.show(repository, found, entry, reveal=reveal)
            context.emit(content_text.document(shown), content_text.text(shown))
            return
        details = inspect.details(repository, found, path)
        context.emit(
            documents.details(details), text.details(details) + content.entries_hint(found, details.entries)
        )
