"""``drctl drill``."""

from __future__ import annotations

import sys
from datetime import datetime

import click

from dr_toolkit.cli.context import Context
from dr_toolkit.cli.options import common, epilog, moment


@click.command(
    "drill",
    epilog=epilog(
        "drctl drill",
        "drctl drill --point before-1.48 --dry-run",
        "drctl drill --history",
        codes=(0, 1, 2, 3, 5, 130, 143),
    ),
)
@click.option("--point", metavar="NAME", help="This recovery point; else the newest that is whole.")
@click.option(
    "--at", metavar="TIME", callback=moment, help="Each component's newest good snapshot not after this time."
)
@click.option("--history", is_flag=True, help="Only show the drills there were, and how long they took.")
@click.option("--dry-run", is_flag=True, help="Print what would be restored; restore nothing.")
@common
@click.pass_obj
def command(
    context: Context, point: str | None, at: datetime | None, *, history: bool, dry_run: bool
) -> None:
    """Restore a whole recovery point into scratch, and keep the timings.

    Nothing live is touched. Every component is restored, in the order of an incident, and compared as by "verify --restore"; the evidence is the proof of each
    snapshot, the measured RTO of "drctl status", and the history. Needs a recipient with the role "read".
    """
    context.configure_log()
    if sum((point is not None, at is not None, history)) > 1:
        raise click.UsageError("choose one of --point, --at and --history")
    from dr_toolkit.jobs import drill, opening
    from dr_toolkit.reporting import drill_text

    config = context.load_config()
    with opening.opened_repository(config) as repository:
        if history:
            past = drill.past(repository)
            context.emit({"drills": drill_text.history_document(past)}, drill_text.history(past))
            return
        planned = drill.plan(config, repository, point=point, at=at)
        if dry_run:
            text = drill_text.plan(planned) + "nothing was restored"
            context.emit({"plan": drill_text.plan_document(planned)}, text)
            return
        outcome = drill.run(config, repository, planned, context.progress())
    context.emit({"drill": drill_text.document(outcome)}, drill_text.text(outcome))
    if not all(result.passed for result in outcome.results):
        sys.exit(3)
    if outcome.failed:
        sys.exit(outcome.failed[0][1].exit_code)
