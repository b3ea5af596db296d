"""``drctl scratch``."""

from __future__ import annotations

import sys

import click

from dr_toolkit.cli.context import Context
from dr_toolkit.cli.options import common, epilog

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
