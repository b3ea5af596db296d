"""Run by `dr_toolkit.process` in the child: become the wanted user, promise to die with the parent, become the program.

``python -I -S _exec.py PARENT SIGNAL USER PROGRAM ARGUMENT...`` where USER is ``-`` or ``UID:GID:GROUP,GROUP``.

Why a file that is run, and not a ``preexec_fn``: that one runs Python between fork and exec, which may deadlock in a
process with threads. Why not ``setpriv``: slim images have none, or one without ``--pdeathsig``. It costs some 15 ms a start.
The order matters: the kernel forgets the death signal when the user changes. Imports nothing of ours, so that it starts fast.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # not `signal`: that one makes enumerations, which is a third of this program's time
import ctypes
import os
import sys

CARRIED = "DRCTL_EXEC_"
"""The program's environment travels under this prefix, so that its ``LD_LIBRARY_PATH`` or locale cannot disturb this
interpreter, and what this interpreter adds for itself (``LC_CTYPE``) does not reach the program."""

_DEFAULT = (_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM)
"""Python ignores the first two, a shell's ``&`` the next two, and exec keeps "ignored": a program could not be ended."""

_PR_SET_PDEATHSIG = 1
_CANNOT_PREPARE = 126
_CANNOT_START = 127


def _become(user: str) -> None:
    uid, gid, groups = user.split(":")
    os.setgroups([int(group) for group in groups.split(",")])
    os.setgid(int(gid))
    os.setuid(int(uid))


def _die_with(parent: int, number: int) -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it died before the promise was made
        os._exit(_CANNOT_PREPARE)


def _environment() -> dict[str, str]:
    return {k.removeprefix(CARRIED): v for k, v in os.environ.items() if k.startswith(CARRIED)}


def main(arguments: list[str]) -> None:
    """Become the program; come back only when that is impossible."""
    parent, number, user, program, *argv = arguments
    for name in _DEFAULT:
        _signal.signal(name, _signal.SIG_DFL)
    try:
        if user != "-":
            _become(user)
        _die_with(int(parent), int(number))
    except OSError as error:
        sys.stderr.write(f"cannot prepare the start of {program}: {error.strerror}\n")
        sys.exit(_CANNOT_PREPARE)
    try:
        os.execve(program, argv, _environment())  # noqa: S606 - a list, from process/
    except OSError as error:
        sys.stderr.write(f"cannot start {program}: {error.strerror}\n")
        sys.exit(_CANNOT_START)


if __name__ == "__main__":
    main(sys.argv[1:])
