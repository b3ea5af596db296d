"""``drctl pre-upgrade``."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dr_toolkit.cli import aside
from dr_toolkit.cli.context import Context
from dr_toolkit.cli.options import common, duration, epilog, rehearsal_options

if TYPE_CHECKING:
    from dr_toolkit.config import Config
    from dr_toolkit.jobs.quiet import Session

_EPILOG = epilog(
    "drctl pre-upgrade",
    "drctl pre-upgrade --dry-run",
    "drctl pre-upgrade console --to-version 1.48.0 --accept release --accept versions",
    "drctl pre-upgrade console --to-version 1.48.0 --scale-down console",
    "drctl pre-upgrade console --to-version 1.48.0 --rehearse",
    "drctl pre-upgrade --reuse 30m --accept space --report gate.html --junit gate.xml",
    codes=(0, 1, 2, 3, 5, 130, 143),
)
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("pre-upgrade", epilog=_EPILOG)
@click.argument("release", required=False)
@click.option("--to-version", metavar="VERSION", help="What the release is upgraded to.")
@click.option("--point", metavar="NAME", help="Name of the recovery point; else pre-upgrade-TIME.")
@click.option(
    "--reuse",
    metavar="DURATION",
    callback=duration,
    help="Take over snapshots and proofs that are not older.",
)
@click.option(
    "--accept",
    multiple=True,
    metavar="CHECK",
    help="Go on although this check fails or cannot be made (may be repeated); it is in the report.",
)
@click.option(
    "--deadline",
    default="1h",
    show_default=True,
    metavar="DURATION",
    callback=duration,
    help="For everything.",
)
@click.option(
    "--keep",
    default="90d",
    show_default=True,
    metavar="DURATION",
    callback=duration,
    help="How long the point is pinned against retention.",
)
@click.option(
    "--report", "report_path", type=_FILE, metavar="FILE", help="Also write a self-contained HTML page."
)
@click.option(
    "--junit", "junit_path", type=_FILE, metavar="FILE", help="Also write JUnit XML, for a pipeline."
)
@click.option(
    "--scale-down",
    "resting",
    multiple=True,
    metavar="APPLICATION",
    help="Scale it to zero while the snapshots are taken, and back (may be repeated); see: platform.",
)
@click.option(
    "--rehearse",
    is_flag=True,
    help="Also try the upgrade: start the new Console on the restored copy; see: drctl rehearse.",
)
@rehearsal_options
@click.option(
    "--hook",
    is_flag=True,
    help="Helm's pre-upgrade hook asks: the release's newest revision is the upgrade that waits for the answer.",
)
@click.option("--take-over", is_flag=True, help="Take the lease of another run, which is surely dead.")
@click.option("--dry-run", is_flag=True, help="Only look; change nothing.")
@common
@click.pass_obj
def command(
    context: Context,
    release: str | None,
    to_version: str | None,
    point: str | None,
    reuse: timedelta | None,
    accept: tuple[str, ...],
    deadline: timedelta,
    keep: timedelta,
    report_path: Path | None,
    junit_path: Path | None,
    resting: tuple[str, ...],
    image: str | None,
    chart: Path | None,
    values: tuple[Path, ...],
    *,
    hook: bool,
    rehearse: bool,
    take_over: bool,
    dry_run: bool,
) -> None:
    """The gate before an upgrade: GO (code 0) or NO-GO (code 3).

    Takes a snapshot of every component, restores each into scratch and compares it with the source, ties them together as a pinned
    recovery point, and looks at what else speaks against an upgrade now. What could not be checked is a reason for NO-GO unless
    --accept names it: rehearsal, migrations, release, versions, health, transactions, replication, space. A proof is never dispensed with.
    Needs a recipient with the role "write" and one with the role "read". The report is kept: drctl report gate.
    """
    context.configure_log()
    if dry_run and (report_path or junit_path):
        raise click.UsageError("--report and --junit need a real run, not --dry-run")
    if not rehearse and (image or chart or values):
        raise click.UsageError("--image, --chart and --values go with --rehearse")
    from dr_toolkit.jobs import gate_record, opening, pre_upgrade
    from dr_toolkit.jobs.gate import Question
    from dr_toolkit.jobs.rehearsal_target import Chart, Wanted
    from dr_toolkit.reporting import files, gate_files, gate_text

    pre_upgrade.check_accepted(accept)
    files.check(report_path, junit_path)
    tried = Wanted(release, to_version, image, Chart(chart, values) if chart else None) if rehearse else None
    request = pre_upgrade.Request(
        Question(release, to_version, hook=hook), point, reuse, accept, deadline, keep, tried
    )
    config = context.load_config()
    with ExitStack() as stack:
        repository = stack.enter_context(opening.opened_repository(config))
        session = _session(config, stack, resting, take_over=take_over, dry_run=dry_run)
        if dry_run:
            report = pre_upgrade.plan(config, repository, request)
        else:
            report = pre_upgrade.run(config, repository, request, context.progress(), session)
            gate_record.store(repository, report)
    context.emit(
        gate_text.before_document(report, planned=dry_run), gate_text.before(report, planned=dry_run)
    )
    beside = [
        (report_path, lambda: gate_files.html(report)),
        (junit_path, lambda: gate_files.junit(report)),
    ]
    sys.exit(aside.write_files(context, beside, 0 if report.verdict.go or dry_run else 3))


def _session(
    config: Config, stack: ExitStack, names: tuple[str, ...], *, take_over: bool, dry_run: bool
) -> Session | None:
    """The applications that are to be at zero, and their leases; with ``--dry-run`` they are only looked for."""
    if not names:
        return None
    from dr_toolkit.jobs import quiet

    applications = quiet.chosen(config, names)
    cluster = stack.enter_context(quiet.connected(config))
    rest = quiet.plan(cluster, applications)
    if dry_run:
        return None
    return stack.enter_context(quiet.session(cluster, rest, "pre-upgrade", take_over=take_over))
