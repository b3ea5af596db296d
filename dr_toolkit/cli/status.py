"""``drctl status``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dr_toolkit.cli import aside
from dr_toolkit.cli.context import Context
from dr_toolkit.cli.options import common, epilog


@click.command(
    "status",
    epilog=epilog(
        "drctl status",
        "drctl status console-db --output json",
        "drctl status --metrics /var/lib/node_exporter/drctl.prom",
        codes=(0, 1, 2, 3, 4, 5),
    ),
)
@click.argument("components", nargs=-1)
@click.option(
    "--metrics",
    "metrics_path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write the figures in Prometheus' text format.",
)
@common
@click.pass_obj
def command(context: Context, components: tuple[str, ...], metrics_path: Path | None) -> None:
    """Where each component stands against its objectives (RPO, RTO).

    The RTO is measured: it is what the last passed verification by restore took, or the last drill's part. Needs a recipient with the role "write" or "read".

    A verification that failed is a miss until one as strong passes: a quick one, or a share of the data, is no answer to data that failed.
    """
    context.configure_log()
    from dr_toolkit.jobs import opening
    from dr_toolkit.jobs import status as job
    from dr_toolkit.reporting import status

    config = context.load_config()
    with opening.opened_repository(config) as repository:
        standings, last = job.run(config, repository, components)
    context.emit(status.document(standings, last), status.text(standings, last))
    files = [(metrics_path, lambda: status.metrics(standings))]
    sys.exit(aside.write_files(context, files, job.exit_code(standings)))
