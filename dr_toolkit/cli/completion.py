"""``drctl completion``."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from dr_toolkit.cli.context import write
from dr_toolkit.cli.options import common, epilog

_EPILOG = epilog(
    'eval "$(drctl completion bash)"',
    "drctl completion zsh > ~/.zfunc/_drctl",
    "drctl completion fish | source",
    codes=(0, 2),
)


@click.command("completion", epilog=_EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="[bash|zsh|fish]")
@common
def command(shell: str) -> None:
    """Print the completion script for a shell.

    bash: put the first line below into ~/.bashrc. zsh: write it into a directory of fpath (fpath+=~/.zfunc before compinit). fish: put the last line
    into ~/.config/fish/config.fish.
    """
    from dr_toolkit.cli.main import COMPLETE, drctl

    found = get_completion_class(shell)
    assert found is not None  # noqa: S101  # the choice lists only known shells
    # Not its own source(): for bash that starts a bash, to ask for its version.
    write(ShellComplete.source(found(drctl, {}, "drctl", COMPLETE)))
