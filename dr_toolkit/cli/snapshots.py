"""``drctl snapshots``."""

from __future__ import annotations

import sys

import click

from dr_toolkit.cli.context import Context
from dr_toolkit.cli.options import common, epilog


@click.command("snapshots", epilog=epilog("drctl snapshots", "drctl snapshots console-db --output json"))
@click.argument("component", required=False)
@common
@click.pass_obj
def command(context: Context, component: str | None) -> None:
    """List snapshots and recovery points, and say what is damaged or missing.

    Needs a recipient with the role "write" or "read".
    """
    context.configure_log()
    from dr_toolkit.jobs import inspect, opening
    from dr_toolkit.reporting import documents, text

    config = context.load_config()
    if component is not None:
        opening.known_component(config, component)
    with opening.opened_repository(config) as repository:
        stock = inspect.inventory(repository, component)
        now = opening.moment(repository)
    context.emit(documents.inventory(stock), text.inventory(stock, now))
    if stock.damaged or stock.missing:
        sys.exit(3)
