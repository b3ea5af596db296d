"""Options that every command has, and the form of every command's help."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from dr_toolkit.cli.context import Context, write

CODES = {
    0: "done, and verified as far as the command promises",
    1: "failed, wholly or in part, or nothing to work on",
    2: "wrong usage or configuration; nothing was started",
    3: "the data or the gate says no: damaged, missing, not what the source had; NO-GO",
    4: "an objective (RPO, RTO) is missed",
    5: "a remote side could not be reached: a retry makes sense",
    130: "interrupted",
    143: "terminated",
}


def epilog(*examples: str, codes: tuple[int, ...] = (0, 1, 2, 3, 5)) -> str:
    """The end of a command's help: examples, then its exit codes."""
    lines = ["\b", "Examples:", *(f"  {line}" for line in examples), "", "\b", "Exit codes:"]
    return "\n".join([*lines, *(f"  {code:<3} {CODES[code]}" for code in codes)])


def duration(_ctx: click.Context, _param: click.Parameter, value: str | None) -> timedelta | None:
    """Read an option's ``30m`` or ``90d``."""
    if value is None:
        return None
    from dr_toolkit.config.values import parse_duration

    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def moment(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    """Read an option's RFC 3339 time."""
    if value is None:
        return None
    from dr_toolkit import clock

    try:
        return clock.parse_rfc3339(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """The global options, so that they may also stand behind the command's name."""
    for option in reversed(_options()):
        command = option(command)
    return command


def _set(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Note an option's value when it is given, before or behind the command's name; behind wins, and -v adds up."""

    def callback(ctx: click.Context, _param: click.Parameter, value: Any) -> None:
        if not value:
            return
        context = ctx.ensure_object(Context)
        if name == "verbosity":
            context.verbosity += value
        elif name == "color":
            context.color = False
        else:
            setattr(context, name, value)

    return callback


def _options() -> list[Callable[[Callable[..., Any]], Callable[..., Any]]]:
    hidden: dict[str, Any] = {"expose_value": False}
    path = click.Path(dir_okay=False, path_type=Path)
    return [
        click.option(
            "-c",
            "--config",
            type=path,
            callback=_set("config_path"),
            help="The configuration file (or set DRCTL_CONFIG).",
            **hidden,
        ),
        click.option(
            "--output",
            type=click.Choice(["text", "json"]),
            callback=_set("output"),
            help="Form of the answer.",
            **hidden,
        ),
        click.option(
            "--log-format",
            type=click.Choice(["text", "json"]),
            callback=_set("log_format"),
            help="Form of the log.",
            **hidden,
        ),
        click.option(
            "-v", "--verbose", count=True, callback=_set("verbosity"), help="Say more (-v, -vv).", **hidden
        ),
        click.option(
            "--no-color", is_flag=True, callback=_set("color"), help="No colours (or set NO_COLOR).", **hidden
        ),
        click.help_option("-h", "--help", callback=_show_help),
    ]


def _show_help(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    """Print the help like any other answer, so that a full disk is said in words."""
    if value and not ctx.resilient_parsing:
        write(ctx.get_help())
        ctx.exit()


def rehearsal_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what an upgrade is tried with."""
    file = click.Path(exists=True, path_type=Path)
    for option in (
        click.option(
            "--values",
            multiple=True,
            type=file,
            metavar="FILE",
            help="With --chart: values laid over the release's own (may be repeated).",
        ),
        click.option(
            "--chart",
            type=file,
            metavar="PATH",
            help="Take the workload from this chart (directory or archive; needs helm), else from the release as it is stored.",
        ),
        click.option(
            "--image",
            metavar="IMAGE",
            help="The new version's image; else the configuration's, the chart's, or the release's with the version as tag.",
        ),
    ):
        command = option(command)
    return command
