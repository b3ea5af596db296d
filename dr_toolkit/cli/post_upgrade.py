"""``drctl post-upgrade``."""

from __future__ import annotations

import sys
from datetime import timedelta

import click

from dr_toolkit.cli.context import Context
from dr_toolkit.cli.options import common, duration, epilog


@click.command(
    "post-upgrade",
    epilog=epilog(
        "drctl post-upgrade --point pre-upgrade-20261123T084549Z",
        "drctl post-upgrade --point before-1.48 --accept counts",
        codes=(0, 1, 2, 3, 5, 130, 143),
    ),
)
@click.argument("release", required=False)
@click.option("--to-version", metavar="VERSION", help="What the release was upgraded to.")
@click.option("--point", required=True, metavar="NAME", help="The recovery point from before, by name or id.")
@click.option(
    "--accept",
    multiple=True,
    metavar="CHECK",
    help="A check that need not be fine (may be repeated); it is in the report.",
)
@click.option(
    "--wait",
    default="2m",
    show_default=True,
    metavar="DURATION",
    callback=duration,
    help="How long configured applications may still take to get ready.",
)
@common
@click.pass_obj
def command(
    context: Context,
    release: str | None,
    to_version: str | None,
    point: str,
    accept: tuple[str, ...],
    wait: timedelta,
) -> None:
    """After an upgrade: OK (code 0), or the way back (code 3).

    Looks at migrations, and at health and version of configured applications; takes a new snapshot of every component, and compares it with the recovery point from before: no table may be
    gone or have fewer rows. Needs a recipient with the role "write".
    """
    context.configure_log()
    from dr_toolkit.jobs import opening, post_upgrade, pre_upgrade
    from dr_toolkit.jobs.gate import Question
    from dr_toolkit.reporting import gate_text

    pre_upgrade.check_accepted(accept)
    config = context.load_config()
    question = Question(release, to_version, upgraded=True, wait_s=wait.total_seconds())
    request = post_upgrade.Request(point, question, accept)
    with opening.opened_repository(config) as repository:
        report = post_upgrade.run(config, repository, request, context.progress())
    context.emit(gate_text.after_document(report), gate_text.after(report))
    sys.exit(0 if report.verdict.go else 3)
