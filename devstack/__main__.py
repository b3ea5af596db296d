"""``python -m devstack up``: start the servers, print how to reach them, and stop them at Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys

from devstack.stack import Stack

USAGE = """\
usage: python -m devstack up

Starts PostgreSQL, an S3 server and OpenBao on loopback, prints how to reach them as lines for a shell, and waits.
Ctrl-C, SIGTERM or the end of this process stops them and deletes their data.
"""


def main(arguments: list[str]) -> int:
    """Do what the command line says.

    Args:
        arguments: without the program's name.

    Returns:
        The exit code.
    """
    if arguments != ["up"]:
        print(USAGE, end="", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), Stack() as stack:
        print(stack.environment_lines(), flush=True)
        signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
