"""``drctl init``."""

from __future__ import annotations

import re

import click

from dr_toolkit.cli.context import Context
from dr_toolkit.cli.options import common, epilog

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _seconds(_ctx: click.Context, _param: click.Parameter, value: str) -> int:
    match = re.fullmatch(r"(\d+)([smhd])", value)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if seconds < 2:  # noqa: PLR2004  # the format's minimum
        raise click.BadParameter('give a number and s, m, h or d, at least 2s: "7d"')
    return seconds


@click.command("init", epilog=epilog("drctl init", "drctl -c /etc/drctl/drctl.yaml init --output json"))
@click.option(
    "--grace",
    default="7d",
    show_default=True,
    callback=_seconds,
    help="G: how long unreferenced objects stay; a backup must end within half of it.",
)
@common
@click.pass_obj
def command(context: Context, grace: int) -> None:
    """Make a repository and its first epoch; print what to keep safe.

    Run it once, by a person, with all recipients at hand. The backup jobs need only the recipient with the role "write" afterwards.
    """
    context.configure_log()
    from dr_toolkit.jobs import initialise
    from dr_toolkit.reporting import text

    made = initialise.run(context.load_config(), grace)
    document = {
        "repository": made.repository_id,
        "url": made.where,
        "trust": made.trust,
        "create_only": made.create_only,
        "recipients": [{"name": n, "kind": k, "role": r} for n, k, r in made.recipients],
        "warnings": list(made.warnings),
    }
    context.emit(document, text.made(made))
