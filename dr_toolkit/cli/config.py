"""``drctl config check|schema|example``."""

from __future__ import annotations

import json

import click

from dr_toolkit.cli.context import Context, write
from dr_toolkit.cli.options import common, epilog


@click.group(
    "config",
    epilog=epilog(
        "drctl config example > drctl.yaml",
        "drctl config check",
        "drctl config schema > drctl.schema.json",
        codes=(0, 2),
    ),
)
@common
def command() -> None:
    """Check, describe or print a configuration."""


@command.command(
    "check", epilog=epilog("drctl config check", "drctl -c FILE config check --output json", codes=(0, 2))
)
@common
@click.pass_obj
def check(context: Context) -> None:
    """List every problem of the configuration, each with its line and path.

    The file alone is looked at. Whether its secrets and key files are there, and whether servers answer, says "drctl doctor".
    """
    config = context.load_config()
    components = {name: component.kind for name, component in config.components.items()}
    lines = [f"{name}: {kind}" for name, kind in components.items()]
    context.emit(
        {"valid": True, "repository": config.repository.url, "components": components},
        "\n".join(
            [
                f"the configuration is valid: {config.repository.url}",
                *lines,
                "secrets, key files and servers were not looked at: drctl doctor does",
            ]
        ),
    )


@command.command("schema", epilog=epilog("drctl config schema > drctl.schema.json", codes=(0,)))
@common
@click.pass_obj
def schema(_context: Context) -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from dr_toolkit import config

    write(json.dumps(config.schema(), indent=2, ensure_ascii=False))


@command.command("example", epilog=epilog("drctl config example > drctl.yaml", codes=(0,)))
@common
@click.pass_obj
def example(_context: Context) -> None:
    """Print a commented configuration to begin with."""
    from dr_toolkit import config

    write(config.example())
