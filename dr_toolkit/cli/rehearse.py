"""``drctl rehearse``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dr_toolkit.cli.context import Context
from dr_toolkit.cli.options import common, epilog, rehearsal_options

_EPILOG = epilog(
    "drctl rehearse console --to-version 1.48.0",
    "drctl rehearse console --to-version 1.48.0 --dry-run",
    "drctl rehearse --image registry.example.com/conduktor-console:1.48.0",
    "drctl rehearse console --chart ./console-1.33.0.tgz --values values.yaml",
    codes=(0, 1, 2, 3, 5, 130, 143),
)


@click.command("rehearse", epilog=_EPILOG)
@click.argument("release", required=False)
@click.option(
    "--to-version", metavar="VERSION", help="What the release is upgraded to: the tag of its image."
)
@rehearsal_options
@click.option(
    "--snapshot",
    "snapshot_id",
    metavar="ID",
    help="Restore this snapshot of Console's main database; else its newest good one.",
)
@click.option(
    "--dry-run", is_flag=True, help="Only show what would be started, and with what; change nothing."
)
@common
@click.pass_obj
def command(
    context: Context,
    release: str | None,
    to_version: str | None,
    image: str | None,
    chart: Path | None,
    values: tuple[Path, ...],
    snapshot_id: str | None,
    *,
    dry_run: bool,
) -> None:
    """Try an upgrade on a restored copy of the database: code 0, or 3 with the reasons.

    Restores and proves a snapshot in a scratch namespace, starts the new Console on it (one replica, nothing in reach but that copy, throw-away values
    for its secrets), waits for its migrations and its health endpoint, reads its log for errors, and deletes the namespace. The live platform is not touched.
    Not proved by it: the migrations of Console's SQL database, which the new Console is started without, and whatever needs Kafka, single sign-on, certificates
    or the license. drctl pre-upgrade --rehearse does the same within the gate. Needs a recipient with the role "read", and verify.namespace.
    """
    context.configure_log()
    from dr_toolkit.jobs import opening, rehearsal
    from dr_toolkit.jobs.rehearsal_target import Chart, Wanted
    from dr_toolkit.reporting import rehearsal_text

    wanted = Wanted(release, to_version, image, Chart(chart, values) if chart else None)
    config = context.load_config()
    with opening.opened_repository(config) as repository:
        if dry_run:
            planned = rehearsal.plan(config, repository, wanted, snapshot_id)
            context.emit(rehearsal_text.plan_document(planned), rehearsal_text.plan(planned))
            return
        done = rehearsal.alone(config, repository, wanted, snapshot_id, context.progress())
    context.emit(rehearsal_text.alone_document(done), rehearsal_text.alone(done))
    if not done.passed:
        sys.exit(3)
