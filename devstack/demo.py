"""``python -m devstack.demo`` (``make demo``): the whole main job on real servers, in about a minute.

A Console database is backed up twice, proven by a restore into scratch, damaged, and restored; then once more without Vault
and without drctl. Every command is the real one. The exit code is 0 only if every step was as promised.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg

from devstack import demo_story
from devstack.demo_screen import Screen
from devstack.demo_shell import Broken
from devstack.stack import Stack
from dr_toolkit.errors import DrctlError

INTERRUPTED = 130


def main(arguments: list[str]) -> int:
    """Show everything once.

    Args:
        arguments: without the program's name.

    Returns:
        The exit code: 0, 1 when something was not as promised, 130 after Ctrl-C.
    """
    options = _parse(arguments)
    screen = Screen(sys.stdout)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = Path(tempfile.mkdtemp(prefix="drctl-demo-"))
    keep = False
    try:
        _show(screen, directory, options)
    except KeyboardInterrupt:
        screen.blank()
        screen.bad("interrupted: the servers are stopped, and everything is removed")
        return INTERRUPTED
    except (Broken, DrctlError, psycopg.Error, OSError) as error:
        keep = True
        screen.blank()
        screen.bad(f"THE DEMO FAILED: {error}")
        screen.say(f"Logs of all commands and servers are kept in {directory / 'logs'}")
        return 1
    finally:
        with _undisturbed():
            if not keep:
                shutil.rmtree(directory, ignore_errors=True)
    return 0


def _show(screen: Screen, directory: Path, options: argparse.Namespace) -> None:
    logs = directory / "logs"
    logs.mkdir()
    stack = Stack()
    story = demo_story.Story(screen, stack, directory, logs)
    try:
        story.tell(options.scale, to_the_end=not options.keep)
        if options.keep:
            story.leave_running()
            signal.pause()
    except BaseException:
        _keep_server_logs(stack, logs)
        raise
    finally:
        with _undisturbed():
            story.close()
            stack.remove()


def _keep_server_logs(stack: Stack, logs: Path) -> None:
    for server in (stack.postgres, stack.s3, stack.bao):
        with contextlib.suppress(OSError):
            shutil.copy(server.log, logs)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C does not stop the cleaning up."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make demo", description="The whole main job of drctl on real servers."
    )
    parser.add_argument("--scale", type=float, default=1.0, help="size of the database; 1.0 is about 70 MB")
    parser.add_argument(
        "--keep", action="store_true", help="leave everything running at the end, to try things, until Ctrl-C"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
