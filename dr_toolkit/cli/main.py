"""The command ``drctl``. Commands are imported when they are called: ``drctl --help`` loads click and nothing heavier."""

from __future__ import annotations

import contextlib
import ctypes
import difflib
import faulthandler
import gc
import importlib
import itertools
import os
import resource
import sys
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem, shell_complete

from dr_toolkit import __version__
from dr_toolkit.cli.boundary import guarded
from dr_toolkit.cli.context import Context, write
from dr_toolkit.cli.options import common

COMMANDS = {
    "init": "Make a repository and its first epoch; print what to keep safe.",
    "discover": "Read what runs in the cluster, and print a drctl.yaml for this platform.",
    "doctor": "Check configuration, reach, permissions, versions, keys, Object Lock.",
    "backup": "Take snapshots of all components, or of those that are named.",
    "snapshots": "List snapshots and recovery points.",
    "status": "Where each component stands against its objectives (RPO, RTO).",
    "report": "What is protected, how well, and since when; or what a gate said.",
    "show": "What is in a snapshot or a point.",
    "verify": "Prove that snapshots can be restored.",
    "restore": "Bring a component back, beside what is live; or everything; or, without arguments, show what can be restored.",
    "pre-upgrade": "The gate before an upgrade: GO (code 0) or NO-GO (code 3).",
    "post-upgrade": "After an upgrade: OK (code 0), or the way back (code 3).",
    "rehearse": "Try an upgrade on a restored copy of the database: code 0, or 3 with the reasons.",
    "scratch": "Remove scratch places that killed runs left.",
    "resume": "Finish or undo what a killed gate or restore left: replicas, names.",
    "drill": "Restore a whole recovery point into scratch, and keep the timings.",
    "schedule": "Run the configured schedules in this process, until it is told to end.",
    "keys": "List the repository's recipients, or make a key file.",
    "config": "Check, describe or print a configuration.",
    "completion": "Print the completion script for a shell.",
}
"""Name and short help of each command; ``dr_toolkit.cli.<name>`` (with underscores) has it as ``command``."""

COMPLETE = "_DRCTL_COMPLETE"
"""The variable with which a shell's completion script asks for words."""


def module_of(name: str) -> str:
    """The module of a command, below ``dr_toolkit.cli``."""
    return name.replace("-", "_")


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """All commands, in the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"dr_toolkit.cli.{module_of(cmd_name)}").command
        assert isinstance(command, click.Command)  # noqa: S101  # for the type checker
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the one that was probably meant."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            ctx.fail(f'no such command "{name}"' + (f'; did you mean "{near[0]}"?' if near else ""))
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete commands without importing them."""
        words = [CompletionItem(n, help=h) for n, h in COMMANDS.items() if n.startswith(incomplete)]
        return words + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's signature
        """List commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        write(f"drctl, version {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="In an incident: drctl restore. It changes nothing, and says what can be done.",
)
@common
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
@click.pass_context
def drctl(ctx: click.Context) -> None:
    """Encrypted, verified backup and disaster recovery for the Conduktor Platform."""
    ctx.ensure_object(Context)


_MALLOC = {-3: 4 << 20, -1: 16 << 20, -2: 1 << 20, -8: 2}
"""For mallopt(3): M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD, M_ARENA_MAX."""
_OBJECTS_BEFORE_COLLECTION = 50_000
"""A backup makes records by the hundred thousand and no cycles; at 700, collecting took 3% of the time."""


def run(arguments: Sequence[str]) -> int:
    """Run ``drctl`` with these arguments and return its exit code."""
    context = Context(output="json" if _wants_json(arguments) else "text")
    return guarded(lambda: _invoke(list(arguments), context), context)


def _invoke(arguments: list[str], context: Context) -> object:
    # Not drctl.main(): it would take any broken pipe, a program's too, for our reader's and end in silence.
    instruction = os.environ.get(COMPLETE)
    if instruction:
        return shell_complete(drctl, {}, "drctl", COMPLETE, instruction)
    _check_text(arguments)
    with drctl.make_context("drctl", arguments, obj=context) as ctx:
        try:
            return drctl.invoke(ctx)
        except click.UsageError as error:
            # click's parser does not say whose option lacks its value.
            name = ctx.invoked_subcommand
            if error.ctx is None and name and (command := drctl.get_command(ctx, name)):
                error.ctx = click.Context(command, info_name=name, parent=ctx)
            raise


def _check_text(arguments: Sequence[str]) -> None:
    """Refuse bytes that this locale has no characters for: no server, file or message would take them as they were meant.

    Raises:
        UsageError: there are such bytes.
    """
    for argument in arguments:
        if any("\ud800" <= character <= "\udfff" for character in argument):
            shown = argument.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            raise click.UsageError(
                f'the argument "{shown}" is not text in this locale: write it in UTF-8, and set LC_ALL=C.UTF-8'
            )


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether JSON is asked for, found without parsing, because an error in parsing is answered in JSON as well."""
    return "--output=json" in arguments or ("--output", "json") in itertools.pairwise(arguments)


def _fill_streams() -> None:
    """Whoever closed a standard stream wants nothing of it; but no file of ours may get its number and be written into."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))


def _set_up_malloc() -> None:
    """Set glibc's heap up for streams.

    Packs are not served out of the heap, where what lies between them would hold tens of MB for ever. And the heap's end is not given back
    at each free and fetched again: page faults for that took a fifth of a backup's CPU time. Few arenas: each keeps what its threads needed at most.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library; memory is a little higher then
        library = ctypes.CDLL(None)
        for parameter, value in _MALLOC.items():
            library.mallopt(parameter, value)


def _leave_no_core() -> None:
    """A core file of ours, or of a program that we start, would hold keys and passwords."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def entry_point() -> None:
    """Run ``drctl`` and end the process."""
    _fill_streams()
    _leave_no_core()
    faulthandler.enable()  # a crash of native code says where, without any value
    _set_up_malloc()
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's would spin, with nothing to do
    code = run(sys.argv[1:])
    # Everything is cleaned up and durable. Taking Python down as well would cost a tenth of a second, and wait for threads that wait
    # for a storage that does not answer.
    with contextlib.suppress(OSError):  # nobody reads any more
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
