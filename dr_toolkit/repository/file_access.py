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
_NO_DIRECT = frozenset({errno.EINVAL, errno.EOPNOTSUPP})
_PAGE = 4096
_WORTH_GOING_PAST = 1 << 20
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
    elif error.errno in {errno.ENOTDIR, errno.EEXIST}:
        hint = "a file is where the repository's directory should be: check repository.url"
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


def write_past(folder: int, name: str, data: memoryview) -> int:
    """Write whole pages at the start of ``data`` to a file past the page cache.

    Nobody reads a pack soon. Through the cache each takes the kernel new pages, which cost more than sealing what is in them, and
    what the machine's servers keep there has to go for it.

    Args:
        folder: where the file is: an open descriptor.
        name: of the file, which exists.
        data: all of its content.

    Returns:
        How much is written. The rest is the caller's: the last part of a page, all of something small, and all where the file system,
        or where ``data`` lies in memory, does not allow it.
    """
    direct = getattr(os, "O_DIRECT", 0)
    if not direct or len(data) < _WORTH_GOING_PAST:
        return 0
    written, whole = 0, len(data) // _PAGE * _PAGE
    try:
        descriptor = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | direct, dir_fd=folder)
        try:
            while written < whole:
                written += os.pwrite(descriptor, data[written:whole], written)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_DIRECT:
            raise
    return written


def moment(facts: os.stat_result) -> datetime:
    """The modification time, aware, UTC."""
    return datetime.fromtimestamp(facts.st_mtime_ns / 1_000_000_000, UTC)
