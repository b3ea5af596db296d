"""Private directories for scratch servers.

Each has a locked marker, so that what a killed run left can be told from what is in use: the kernel lets go of the lock when
its run ends, however it ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import shutil
import signal
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from dr_toolkit import clock, log
from dr_toolkit.errors import TargetError

_log = log.get("postgres.scratch")

PREFIX = "drctl-scratch-"
_MARKER = "drctl.json"
_SOCKET_NAME = ".s.PGSQL.5432"
_SOCKET_LIMIT = 103
"""The shortest limit of the systems we run on, macOS's, for the path of a socket."""
_USERS = ("postgres", "nobody")
_WAIT_S = 5.0
_NO_ROOM = "No space left on device"
_NOTHING_BYTES = 64 << 10
_OTHERS_MAY_ENTER = 0o001


class Place:
    """A directory that only ``user`` (or we) can enter, ours until `remove` or the end of this process.

    Args:
        user: who will work in it; None for ourselves.
        parent: where to make it; None for the system's place for temporary files.

    Attributes:
        directory: its path.

    Raises:
        TargetError: it cannot be made, or ``user`` could not reach it.
    """

    def __init__(self, user: str | None, parent: Path | None = None) -> None:
        base = parent or _base()
        if user is not None:
            _check_open(
                (base, *base.parents), user, hint="set TMPDIR to a directory that every user can enter"
            )
        try:
            self.directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))  # mkdtemp makes it 0700
        except OSError as error:
            raise TargetError(f'no scratch place in "{base}": {error.strerror}') from error
        self._lock = _locked_marker(self.directory)
        if user is not None:
            give(self.directory, user)

    def remove(self) -> None:
        """Delete it and whatever is in it. May be called twice.

        The marker goes last: killed in the middle, what is left is still known as a leftover.
        """
        with suppress(OSError):
            for child in self.directory.iterdir():
                if child.name != _MARKER:
                    _delete(child)
        shutil.rmtree(self.directory, ignore_errors=True)
        self._lock.close()


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()


def unprivileged_user() -> str | None:
    """The user to run a server as when we are root, which PostgreSQL refuses; None when we are not.

    Raises:
        TargetError: there is no such user.
    """
    if os.geteuid() != 0:
        return None
    for name in _USERS:
        with suppress(KeyError):
            pwd.getpwnam(name)
            return name
    raise TargetError(
        "PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody on this machine",
        hint="run drctl as an ordinary user",
    )


def give(path: Path, user: str) -> None:
    """Make ``user`` the owner of a file or directory."""
    shutil.chown(path, user)


def check_programs(program: str, user: str | None) -> None:
    """Refuse server programs that ``user`` cannot reach, in plain words instead of a failed start.

    Raises:
        TargetError: a directory on the way is closed.
    """
    if user is not None:
        hint = "run drctl as an ordinary user, or install PostgreSQL where every user can read it"
        _check_open(Path(program).resolve().parents, user, hint=hint)


def trouble(error: TargetError, directory: Path, said: str = "") -> TargetError | None:
    """What keeps a scratch server from its work and says nothing of the snapshot; None where the error may be the snapshot's.

    Args:
        error: what failed.
        directory: the scratch place.
        said: the end of the server's own log.
    """
    full = any(_NO_ROOM in text for text in (error.message, said))
    with suppress(OSError):
        full = full or shutil.disk_usage(directory).free < _NOTHING_BYTES
    if not full:
        return None
    return TargetError(
        f'there is no room left in the scratch place "{directory.parent}" (No space left on device): {error.message}',
        on=str(directory.parent),
        hint="make room, or set TMPDIR to a directory on a larger disk; a restore needs what the database takes up, and WAL",
        unaffected="the snapshot was not judged; the scratch place is removed",
    )


def clean_leftovers(parent: Path | None = None) -> list[str]:
    """End servers and delete directories of runs that are gone. Those of running ones, and of other users, stay.

    Returns:
        The directories that were removed.
    """
    removed = []
    for directory in sorted((parent or _base()).glob(f"{PREFIX}*")):
        if _is_leftover(directory):
            _end_server(directory)
            shutil.rmtree(
                directory / "data", ignore_errors=True
            )  # killed in it, the next run still knows the rest by its marker
            shutil.rmtree(directory, ignore_errors=True)
            removed.append(str(directory))
            _log.warning("scratch place of a killed run removed", directory=str(directory))
    return removed


def _base() -> Path:
    base = Path(tempfile.gettempdir())
    longest = len(os.fsencode(base / f"{PREFIX}12345678" / _SOCKET_NAME))
    return base if longest <= _SOCKET_LIMIT else Path("/tmp")  # noqa: S108 - mkdtemp makes a private directory in it


def _locked_marker(directory: Path) -> TextIO:
    """A marker that is locked before it has its name, so that nobody sees it unlocked."""
    making = directory / f"{_MARKER}.making"
    file = making.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write(json.dumps({"pid": os.getpid(), "began": clock.rfc3339(clock.now())}))
    file.flush()
    making.rename(directory / _MARKER)
    return file


def _check_open(directories: Iterable[Path], user: str, *, hint: str) -> None:
    for place in directories:
        if not place.stat().st_mode & _OTHERS_MAY_ENTER:
            raise TargetError(
                f'a scratch server must run as the user "{user}", who cannot enter "{place}"',
                hint=hint,
                unaffected="nothing was started",
            )


def _is_leftover(directory: Path) -> bool:
    try:
        if directory.stat().st_uid not in {os.geteuid(), *_server_users()}:
            return False
        with (directory / _MARKER).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False  # in use, not ours, or being made or removed at this moment
    return True


def _server_users() -> Iterator[int]:
    if os.geteuid() == 0:
        for name in _USERS:
            with suppress(KeyError):
                yield pwd.getpwnam(name).pw_uid


def _end_server(directory: Path) -> None:
    """End a server that outlived its run; it dies with drctl, but not on every system."""
    try:
        lines = (directory / "data" / "postmaster.pid").read_text().splitlines()
        pid, data = int(lines[0]), Path(lines[1])
    except (OSError, ValueError, IndexError):
        return
    if data != directory / "data" or not _serves(pid, data):
        return
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGQUIT)
    deadline = clock.monotonic() + _WAIT_S
    while _serves(pid, data) and clock.monotonic() < deadline:
        clock.sleep(0.05)


def _serves(pid: int, data: Path) -> bool:
    """Whether that process is a server of this data directory: the number may belong to a stranger by now."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == data  # where a server works
    except OSError:
        return False
