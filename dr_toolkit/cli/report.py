"""``drctl report``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dr_toolkit.cli import aside
from dr_toolkit.cli.context import Context
from dr_toolkit.cli.options import common, epilog

_FILE = click.Path(dir_okay=False, path_type=Path)
_CODES = (0, 1, 2, 3, 5)


@click.group(
    "report",
    invoke_without_command=True,
    epilog=epilog("drctl report", "drctl report --html protection.html", "drctl report gate", codes=_CODES),
)
@click.option("--html", "page", type=_FILE, metavar="FILE", help="Also write one self-contained HTML page.")
@common
@click.pass_context
def command(ctx: click.Context, page: Path | None) -> None:
    """What is protected, how well, and since when; or what a gate said.

    Reads the repository alone: components, recovery points, and the newest gates and drills. Code 3 when something is damaged or missing. Needs a recipient with the role "write" or "read".
    """
    if ctx.invoked_subcommand is not None:
        if page is not None:
            raise click.UsageError("give --html after gate")
        return
    context = ctx.find_object(Context)
    assert context is not None  # noqa: S101  # for the type checker: the root makes it
    context.configure_log()
    from dr_toolkit.jobs import opening, protection
    from dr_toolkit.reporting import report_page

    config = context.load_config()
    with opening.opened_repository(config) as repository:
        found = protection.run(config, repository)
    context.emit({"report": report_page.document(found)}, report_page.text(found))
    files = [(page, lambda: report_page.html(found))]
    sys.exit(aside.write_files(context, files, 3 if found.problems else 0))


@command.command(
    "gate",
    epilog=epilog(
        "drctl report gate",
        "drctl report gate before-1.48 --html gate.html --junit gate.xml",
        codes=_CODES,
    ),
)
@click.argument("point", required=False)
@click.option("--html", "page", type=_FILE, metavar="FILE", help="Also write a self-contained HTML page.")
@click.option("--junit", type=_FILE, metavar="FILE", help="Also write JUnit XML, for a pipeline.")
@common
@click.pass_obj
def gate(context: Context, point: str | None, page: Path | None, junit: Path | None) -> None:
    """What drctl pre-upgrade said, again: the newest gate, or the newest of a recovery POINT.

    Every gate that took a snapshot keeps its report in the repository, sealed and signed, if it had a recipient with the role "read". Code 0 for GO and 3 for NO-GO, as then.
    """
    context.configure_log()
    from dr_toolkit.jobs import gate_record, inspect, opening
    from dr_toolkit.reporting import gate_files, gate_text

    config = context.load_config()
    with opening.opened_repository(config) as repository:
        kept = gate_record.find(inspect.inventory(repository), point)
    context.emit(gate_text.kept_document(kept), gate_text.kept(kept))
    files = [(page, lambda: gate_files.html(kept.report)), (junit, lambda: gate_files.junit(kept.report))]
    sys.exit(aside.write_files(context, files, 0 if kept.report.verdict.go else 3))
