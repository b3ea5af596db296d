"""What ``file_store`` asks of the operating system, and what its errors mean for a store."""

from __future__ import annotations

import errno
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

from dr_toolkit.errors import Damaged, DrctlError, ObjectMissing, StoreFull, StoreUnreachable

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NOT_PLAIN = frozenset({errno.ELOOP, errno.ENOTDIR})


def translate(error: OSError, name: str | None, where: str, *, writing: bool = False) -> DrctlError:
    """What an error of the system means for a store.

    Args:
        error: what the system said.
        name: the object or folder that was asked for, if it was about one.
        where: the store, for the message.
        writing: whether the object was to be made; then a missing one is not the caller's.
    """
    reason = (error.strerror or "unknown error").lower()
    if error.errno in _FULL:
        return StoreFull(
            f"no space left in {where}: {reason}",
            on=name or where,
            hint="free some space there, then run the command again",
            unaffected="what was stored before is intact; nothing of the unfinished object is left",
        )
    if name is not None and not writing and error.errno in {errno.ENOENT, errno.EISDIR}:
        return ObjectMissing(f'"{name}" is not in {where}', on=name)
    if name is not None and error.errno in _NOT_PLAIN:
        return Damaged(
            f'"{name}" in {where} is, or is below, a symbolic link or a file where a folder was expected',
            on=name,
            hint="a repository has no symbolic links: put the real files in their place",
        )
    hint = "check that the disk is mounted and healthy"
    if error.errno in _DENIED:
        hint = "check the owner and the permissions of the directory"
    elif error.errno == errno.ENOENT:
        hint = 'check that the disk is mounted and the path is right; "drctl init" makes a new repository'
    return StoreUnreachable(f"cannot use {where}: {reason}", on=name or where, hint=hint)


def make_root(path: str) -> None:
    """Make a directory and its parents, and sync every directory that got a new entry."""
    missing = Path(path)
    made = []
    while not missing.is_dir():
        made.append(missing)
        missing = missing.parent
    for directory in reversed(made):
        directory.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def plain(facts: os.stat_result, name: str) -> bool:
    """Whether this is a plain file; ``False`` for a directory.

    Raises:
        Damaged: it is neither.
    """
    if stat.S_ISREG(facts.st_mode):
        return True
    if stat.S_ISDIR(facts.st_mode):
        return False
    raise Damaged(
        f'"{name}" is neither a file nor a folder',
        on=name,
        hint="a repository has no symbolic links and no devices: put the real files in their place",
    )


def pread(descriptor: int, offset: int, length: int) -> bytes:
    """Read up to ``length`` bytes; fewer only at the end of the file."""
    data = os.pread(descriptor, length, offset)
    while len(data) < length:
        more = os.pread(descriptor, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def moment(facts: os.stat_result) -> datetime:
    """The modification time, aware, UTC."""
    return datetime.fromtimestamp(facts.st_mtime_ns / 1_000_000_000, UTC)
