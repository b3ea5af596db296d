"""Writes the command reference in docs/cli.md from the commands' own help: ``python docs/generate_cli.py``.

What stands above the marker is written by hand. A test fails when what stands below it is not what this writes.
"""  # noqa: INP001  # a script beside the page that it writes

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from dr_toolkit.cli.main import drctl

PAGE = Path(__file__).with_name("cli.md")
MARKER = "<!-- From here on written by docs/generate_cli.py (make docs); edit the commands' help instead. -->"
WIDTH = 100


def page(present: str) -> str:
    """The whole page: what was written by hand, and the reference as it is now.

    Args:
        present: the page as it is.
    """
    by_hand, marker, _ = present.partition(MARKER)
    if not marker:
        raise SystemExit(f"{PAGE.name} has lost its marker: {MARKER}")
    return "\n".join([by_hand.rstrip("\n"), "", MARKER, "", "## Commands", "", *_reference()])


def _reference() -> Iterator[str]:
    for path, command in commands():
        yield f"### {' '.join(path)}"
        yield ""
        yield "```text"
        yield _help(path, command)
        yield "```"
        yield ""


def commands() -> Iterator[tuple[list[str], click.Command]]:
    """Every command with its name in parts; those of groups too."""
    waiting: list[tuple[list[str], click.Command]] = [(["drctl"], drctl)]
    while waiting:
        path, command = waiting.pop(0)
        yield path, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            names = command.list_commands(context)
            found = [([*path, name], command.get_command(context, name)) for name in names]
            waiting = [(p, c) for p, c in found if c is not None] + waiting


def _help(path: list[str], command: click.Command) -> str:
    context: click.Context | None = None
    for name in path[:-1]:
        context = click.Context(drctl, info_name=name, parent=context)
    settings = {"help_option_names": ["-h", "--help"], "terminal_width": WIDTH, "max_content_width": WIDTH}
    shown = command.get_help(click.Context(command, info_name=path[-1], parent=context, **settings))  # type: ignore[arg-type]
    return "\n".join(line.rstrip() for line in shown.splitlines())


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
