"""``drctl verify``."""

from __future__ import annotations

import sys
from datetime import timedelta

import click

from dr_toolkit.cli import aside
from dr_toolkit.cli.context import Context
from dr_toolkit.cli.options import common, duration, epilog

_EPILOG = epilog(
    "drctl verify --quick",
    "drctl verify console-db --data",
    "drctl verify --data=10",
    "drctl verify --data --all",
    "drctl verify console-db --restore",
    "drctl verify console-db --restore --in namespace",
    "drctl verify sql-db --restore --tables 'public.topic_*' --budget 30m",
    "drctl verify sql-db --restore --schema-only",
    codes=(0, 1, 2, 3, 5, 130, 143),
)


def _percent(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        percent = float(value.rstrip("%"))
    except ValueError:
        percent = 0.0
    if not 0 < percent <= 100:  # noqa: PLR2004  # it is a percentage
        raise click.BadParameter("give a percentage above 0, at most 100")
    return percent


class _OptionalValue(click.Command):
    """``--data`` takes a value only with ``=``: in ``--data console-db`` the word is a component."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give a bare ``--data`` its default."""
        return super().parse_args(ctx, ["--data=100" if arg == "--data" else arg for arg in args])


@click.command("verify", cls=_OptionalValue, epilog=_EPILOG)
@click.argument("components", nargs=-1)
@click.option("--quick", is_flag=True, help="Every object exists with the right size (the default).")
@click.option(
    "--data",
    "data",
    metavar="[=PERCENT]",
    callback=_percent,
    help="Packs download, open and hash to their ids; with a percentage, that share of the packs, at least one.",
)
@click.option(
    "--restore", is_flag=True, help="Restore into scratch and compare the content with the source's digests."
)
@click.option(
    "--tables",
    multiple=True,
    metavar="PATTERN",
    help="With --restore, of a dump: only the rows of tables that fit (schema.table, with * and ?; may be repeated).",
)
@click.option("--schema-only", is_flag=True, help="With --restore, of a dump: definitions, and no rows.")
@click.option(
    "--budget",
    metavar="DURATION",
    callback=duration,
    help="With --restore, of a dump: begin no table later than this; in random order, so that many runs see all.",
)
@click.option(
    "--snapshot",
    "snapshot_id",
    metavar="ID",
    help="This snapshot; else the newest good one of each component.",
)
@click.option(
    "--all",
    "every",
    is_flag=True,
    help="Every snapshot, the newest first; with --quick or --data. A pack is read once.",
)
@click.option(
    "--in",
    "place",
    type=click.Choice(["local", "namespace"]),
    help="Where scratch is made; else as verify.scratch says, and that is local.",
)
@click.option("--mark", envvar="DRCTL_SCRATCH_ID", hidden=True)
@common
@click.pass_obj
def command(
    context: Context,
    components: tuple[str, ...],
    data: float | None,
    tables: tuple[str, ...],
    budget: timedelta | None,
    snapshot_id: str | None,
    place: str | None,
    mark: str | None,
    *,
    quick: bool,
    restore: bool,
    schema_only: bool,
    every: bool,
) -> None:
    """Prove that snapshots can be restored, and store signed evidence.

    With --tables, --schema-only or --budget a part is restored. Its evidence, of the level "sample", says exactly what was proved and what was
    not, and counts nowhere as a proof by restore. Needs a recipient with the role "read".
    """
    context.configure_log()
    if quick + (data is not None) + restore > 1:
        raise click.UsageError("choose one of --quick, --data and --restore")
    part = bool(tables or schema_only or budget)
    if part and (not restore or (schema_only and (tables or budget))):
        raise click.UsageError("--tables and --budget, or --schema-only, go with --restore")
    if snapshot_id is not None and len(components) != 1:
        raise click.UsageError("--snapshot needs the name of its component")
    if every and (restore or snapshot_id is not None):
        raise click.UsageError("--all goes with --quick or --data, and not with --snapshot")
    if data is not None and components and components[0].isdigit():
        raise click.UsageError(f"write --data={components[0]}")
    from dr_toolkit.jobs import opening, verify
    from dr_toolkit.postgres.sample import Sample
    from dr_toolkit.reporting import documents, text

    level: verify.Level = (
        "sample" if part else "restore" if restore else "data" if data is not None else "quick"
    )
    seconds = budget.total_seconds() if budget else None
    config = context.load_config()
    if place is not None:
        config = config.with_scratch(place)
    with opening.opened_repository(config) as repository:
        sample = Sample(tables, schema_only, seconds) if part else None
        request = verify.Request(components, level, data or 100.0, snapshot_id, sample, mark, every)
        results = verify.run(config, repository, request, context.progress())
    context.emit({"results": [documents.verification(r) for r in results]}, text.verification(results))
    failed = [r for r in results if not r.passed]
    aside.tell(context, (f"{r.component}: {r.level} failed: {'; '.join(r.failures[:1])}" for r in failed))
    if failed:
        sys.exit(3)
