"""``drctl keys``."""

from __future__ import annotations

from pathlib import Path

import click

from dr_toolkit.cli.context import Context
from dr_toolkit.cli.options import common, epilog

_EPILOG = epilog("drctl keys generate-file /etc/drctl/demo.key", "drctl keys list", codes=(0, 1, 2, 3, 5))


@click.group("keys", epilog=_EPILOG)
@common
def command() -> None:
    """List the repository's recipients, or make a key file."""


@command.command("generate-file", epilog=epilog("drctl keys generate-file ./demo.key", codes=(0, 2)))
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@common
@click.pass_obj
def generate_file(context: Context, path: Path) -> None:
    """Make a key file of 32 random bytes, readable by you alone. An existing file is never replaced."""
    from dr_toolkit.keys import key_file

    key_file.generate(str(path))
    context.emit(
        {"path": str(path)},
        f"{path} made; keep a copy away from this machine: what it alone can open is lost with it",
    )


@command.command("list", epilog=epilog("drctl keys list --output json", codes=(0, 1, 2, 3, 5)))
@common
@click.pass_obj
def list_keys(context: Context) -> None:
    """List epochs and their recipients. Unwraps nothing."""
    context.configure_log()
    from dr_toolkit.jobs import opening
    from dr_toolkit.reporting import text

    with opening.opened_repository(context.load_config()) as repository:
        files = sorted(repository.keys.files.values(), key=lambda found: found.epoch)
    rows = [
        {
            "epoch": found.epoch,
            "generation": found.generation,
            "recipients": [
                {"name": r["name"], "kind": r["kind"], "role": r["role"]} for r in found.recipients
            ],
        }
        for found in files
    ]
    table = [["EPOCH", "GENERATION", "RECIPIENT", "KIND", "ROLE"]]
    for found in files:
        table += [
            [str(found.epoch), str(found.generation), r["name"], r["kind"], r["role"]]
            for r in found.recipients
        ]
    context.emit({"keys": rows}, text.table(table))
