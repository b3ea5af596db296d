"""``drctl scratch``."""

from __future__ import annotations

import sys
from datetime import timedelta

import click

from dr_toolkit.cli.context import Context
from dr_toolkit.cli.options import common, duration, epilog

_CODES = (0, 1, 2, 5)


@click.group("scratch", epilog=epilog("drctl scratch gc --dry-run", "drctl scratch gc", codes=_CODES))
@common
def command() -> None:
    """Remove scratch places that killed runs left."""


@command.command("gc", epilog=epilog("drctl scratch gc --dry-run", "drctl scratch gc", codes=_CODES))
@click.option("--dry-run", is_flag=True, help="Only show what is there.")
@common
@click.pass_obj
def gc(context: Context, *, dry_run: bool) -> None:
    """Remove what killed runs left.

    Namespaces are removed past their expiry, by the API server's clock; whose they are is in their labels. Directories of this machine are removed when the
    run that made them is gone. What is in use stays. The cluster is asked only where verify.namespace is configured.
    """
    context.configure_log()
    from dr_toolkit.jobs import scratch
    from dr_toolkit.reporting import scratch_text

    found = scratch.collect(context.load_config(), dry_run=dry_run)
    context.emit({"scratch": scratch_text.document(found)}, scratch_text.text(found, dry_run=dry_run))
    if found.failed:
        sys.exit(1)


_SERVE = epilog("drctl scratch serve console-db --snapshot 20261123T0845 --for 20m", codes=(0, 1, 2, 3, 5))


@command.command("serve", epilog=_SERVE)
@click.argument("component")
@click.option("--snapshot", "snapshot_id", required=True, metavar="ID", help="What is restored.")
@click.option(
    "--for",
    "kept",
    default="20m",
    show_default=True,
    metavar="DURATION",
    callback=duration,
    help="How long the copy is kept after its proof.",
)
@click.option("--mark", envvar="DRCTL_SCRATCH_ID", default="", hidden=True)
@common
@click.pass_obj
def serve(context: Context, component: str, snapshot_id: str, kept: timedelta, mark: str) -> None:
    """In the Pod of a rehearsal: restore, prove, keep the copy.

    The Job that drctl rehearse makes in a scratch namespace runs this: it restores the snapshot into the PostgreSQL beside it, compares and signs, then keeps the
    copy for the new version and reports what happens to its migration history. Elsewhere it refuses.
    """
    context.configure_log()
    from dr_toolkit.jobs import opening, rehearsal_serve
    from dr_toolkit.reporting import documents, text

    config = context.load_config()
    request = rehearsal_serve.Request(component, snapshot_id, mark, kept)
    with opening.opened_repository(config) as repository:
        result = rehearsal_serve.run(config, repository, request, context.progress())
    context.emit({"results": [documents.verification(result)]}, text.verification([result]))
    if not result.passed:
        sys.exit(3)
