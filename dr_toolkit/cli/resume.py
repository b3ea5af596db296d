"""``drctl resume``."""

from __future__ import annotations

import sys

import click

from dr_toolkit.cli.context import Context
from dr_toolkit.cli.options import common, epilog


@click.command(
    "resume",
    epilog=epilog("drctl resume", "drctl resume --take-over", codes=(0, 1, 2, 5, 130, 143)),
)
@click.option("--take-over", is_flag=True, help="Take the lease of another run, which is surely dead.")
@common
@click.pass_obj
def command(context: Context, *, take_over: bool) -> None:
    """Finish or undo what a killed gate or restore left: replicas, names.

    Databases that a swap had closed are opened, half-restored ones are dropped, and workloads that were scaled to zero get the replicas that
    they are meant to have. A restore that was not carried out is named, with the command that goes on. Needs no repository.
    """
    context.configure_log()
    from dr_toolkit.jobs import resume
    from dr_toolkit.reporting import resume_text

    outcome = resume.run(context.load_config(), take_over=take_over)
    context.emit({"resumed": resume_text.document(outcome)}, resume_text.text(outcome))
    if outcome.failed:
        sys.exit(outcome.failed[0][1].exit_code)
