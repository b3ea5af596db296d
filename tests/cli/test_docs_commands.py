"""Every drctl command line in the documents is one that the real command line takes."""

import re
import shlex
from pathlib import Path

import click
import pytest

from dr_toolkit.cli.context import Context
from dr_toolkit.cli.main import drctl

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "runbooks").glob("*.md"))]
BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def lines() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in BLOCK.findall(page.read_text()):
            for line in block.splitlines():
                for part in line.split(" | "):
                    if part.startswith("drctl ") and not re.search(r"[A-Z]{3,}|\[|…|<", part.split("#")[0]):
                        found.append((page.name, part))
    return found


@pytest.mark.parametrize(("page", "line"), lines())
def test_a_documented_command_line_parses(page: str, line: str) -> None:
    """Options, arguments and values exist; nothing is run."""
    words = shlex.split(line.split(" > ", maxsplit=1)[0], comments=True)[1:]
    if words[0] == "-c":
        words = words[2:]
    command: click.Command = drctl
    parent = click.Context(drctl, obj=Context())
    while isinstance(command, click.Group) and words:
        found = command.get_command(parent, words[0])
        assert found is not None, f"{page}: {line}"
        command, words = found, words[1:]
    command.make_context(command.name, words, parent=parent)


def test_there_are_command_lines_to_check() -> None:
    """The runbook and the README have some: an empty list would pass in silence."""
    assert {"README.md", "console-db-lost.md"} <= {page for page, _line in lines()}
