"""``drctl backup``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from dr_toolkit.cli import aside
from dr_toolkit.cli.context import Context
from dr_toolkit.cli.options import common, epilog

if TYPE_CHECKING:
    from dr_toolkit.jobs.backup import Outcome

_EPILOG = epilog(
    "drctl backup",
    "drctl backup console-db --point before-migration",
    "drctl backup console-base --checkpoint spread --max-rate 51200",
    "drctl backup --dry-run",
    codes=(0, 1, 2, 3, 5, 130, 143),
)


@click.command("backup", epilog=_EPILOG)
@click.argument("components", nargs=-1)
@click.option("--point", metavar="NAME", help="Tie the snapshots together as a recovery point.")
@click.option(
    "--full", is_flag=True, help="Compare with nothing: read and store all anew (after a theft of keys)."
)
@click.option(
    "--checksum", is_flag=True, help="For replicas: read both sides of every object and mend what differs."
)
@click.option(
    "--audit",
    is_flag=True,
    help="For base backups: read the cluster whole and list every page that differs from what increments said.",
)
@click.option(
    "--checkpoint",
    type=click.Choice(["fast", "spread"]),
    help="For base backups: the server's checkpoint at the start at once, or spread over time to spare its disk.",
)
@click.option(
    "--max-rate",
    metavar="KIB",
    type=click.IntRange(32, 1048576),
    help="For base backups: read at most so many KiB each second from the server.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be read; change nothing.")
@common
@click.pass_obj
def command(
    context: Context,
    components: tuple[str, ...],
    point: str | None,
    *,
    full: bool,
    checksum: bool,
    audit: bool,
    checkpoint: str | None,
    max_rate: int | None,
    dry_run: bool,
) -> None:
    """Take snapshots of all components, or of those that are named; bring replicas up to date.

    Needs a recipient with the role "write" only.
    """
    context.configure_log()
    from dr_toolkit.jobs import backup, opening
    from dr_toolkit.reporting import documents, text

    config = context.load_config()
    request = backup.Request(components, point, full, checksum, audit, checkpoint, max_rate)
    if point is not None:
        backup.check_point_name(point)
    with opening.opened_repository(config) as repository:
        if dry_run:
            planned = backup.plan(config, repository, request)
            context.emit({"plan": [documents.planned(item) for item in planned]}, text.planned(planned))
            return
        outcome = backup.run(config, repository, request, context.progress())
    context.emit(documents.backup(outcome), text.backup(outcome))
    aside.tell(context, (f"{name}: {error.message}" for name, error in outcome.failures))
    _exit(outcome)


def _exit(outcome: Outcome) -> None:
    """0 when nothing failed; 3 where a guard tripped or an audit found something, because somebody must look; the failure's own code when everything failed the same way; else 1."""
    from dr_toolkit.errors import GuardTripped, VerificationFailed

    if not outcome.failures:
        return
    if any(isinstance(error, GuardTripped | VerificationFailed) for _component, error in outcome.failures):
        sys.exit(GuardTripped.exit_code)
    codes = {error.exit_code for _component, error in outcome.failures}
    sys.exit(codes.pop() if len(codes) == 1 and not outcome.snapshots else 1)
