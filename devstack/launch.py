"""Become another user, ask to die with the parent, then become the program: ``launch.py PARENT USER SIGNAL PROGRAM ...``.

Run as a script with ``python -I -S``, so it imports nothing of ours. The order matters: Linux forgets the wish to die
with the parent when a process changes its user, and keeps it over exec. It is a separate program rather than a
``preexec_fn`` because the latter is not safe in a process that has threads.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Do the three steps.

    Args:
        arguments: parent's pid, user's name or ``-``, signal's number, program and its arguments.
    """
    parent, user, signal_number, *program = arguments
    # Everything is imported before the user changes: the new one may be unable to read this interpreter's files.
    wish = _death_wish(int(signal_number))
    if user != "-":
        _become(user)
    wish()
    if os.getppid() != int(parent):
        sys.exit("the parent ended before the program started")
    os.umask(0o077)
    os.execv(program[0], program)  # noqa: S606  (no shell is the point)


def _become(user: str) -> None:
    """Drop to ``user`` with only that user's groups."""
    entry = pwd.getpwnam(user)
    os.setgroups([entry.pw_gid])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def _death_wish(signal_number: int) -> Callable[[], object]:
    """Prepare to receive ``signal_number`` when the thread that started us ends."""
    if sys.platform != "linux":
        return lambda: None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


if __name__ == "__main__":
    main(sys.argv[1:])
