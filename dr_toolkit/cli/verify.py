"""``drctl verify``."""

from __future__ import annotations

import sys

import click

from dr_toolkit.cli.context import Context
from dr_toolkit.cli.options import common, epilog

_EPILOG = epilog(
    "drctl verify --quick",
    "drctl verify console-db --data",
    "drctl verify --data=10",
    "drctl verify console-db --restore",
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
    "--snapshot",
    "snapshot_id",
    metavar="ID",
    help="This snapshot; else the newest good one of each component.",
)
@click.option(
    "--in",
    "place",
    type=click.Choice(["local"]),
    default="local",
    show_default=True,
    help="Where scratch is made.",
)
@common
@click.pass_obj
def command(
    context: Context,
    components: tuple[str, ...],
    data: float | None,
    snapshot_id: str | None,
    place: str,
    *,
    quick: bool,
    restore: bool,
) -> None:
    """Prove that snapshots can be restored, and store signed evidence.

    Needs a recipient with the role "read".
    """
    context.configure_log()
    del place  # one value for now; click has checked it
    if quick + (data is not None) + restore > 1:
        raise click.UsageError("choose one of --quick, --data and --restore")
    if snapshot_id is not None and len(components) != 1:
        raise click.UsageError("--snapshot needs the name of its component")
    if data is not None and components and components[0].isdigit():
        raise click.UsageError(f"write --data={components[0]}")
    from dr_toolkit.jobs import opening, verify
    from dr_toolkit.reporting import documents, text

    level: verify.Level = "restore" if restore else "data" if data is not None else "quick"
    config = context.load_config()
    with opening.opened_repository(config) as repository:
        request = verify.Request(components, level, data or 100.0, snapshot_id)
        results = verify.run(config, repository, request, context.progress())
    context.emit({"results": [documents.verification(r) for r in results]}, text.verification(results))
    if not all(r.passed for r in results):
        sys.exit(3)
