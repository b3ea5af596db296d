"""The files of an exact archive: they appear whole, under names that nothing else has, readable by this user only."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from dr_toolkit import errors


def check_new(path: str) -> None:
    """Both files of an archive must be new, before the first is written.

    Raises:
        TargetError: one is there.
    """
    for name in names(path):
        if os.path.lexists(name):
            raise errors.TargetError(
                f'"{name}" exists',
                on=name,
                hint="choose another name, or remove it",
                unaffected="it was not touched",
            )


def names(path: str) -> list[str]:
    """The archive, and the script with the roles."""
    return [path, f"{path}.globals.sql"]


def _appear(partial: str, path: str) -> None:
    """Give a whole file its name, never one that is taken."""
    try:
        os.link(partial, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS) or Path(path).exists():
            raise
        Path(partial).rename(path)  # vfat, exfat and some network filesystems have no links


def write(path: str, pieces: Iterator[bytes], advance: Callable[[int], None]) -> None:
    """Write a file that appears only when it is whole; readable by this user only, because it is plaintext.

    Raises:
        TargetError: it cannot be written; no part of it stays.
    """
    partial = f"{path}.partial-{os.getpid()}"
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for piece in pieces:
                    file.write(piece)
                    advance(len(piece))
                file.flush()
                os.fsync(file.fileno())
            _appear(partial, path)
        finally:
            Path(partial).unlink(missing_ok=True)
    except OSError as error:
        raise errors.TargetError(
            f'"{path}" cannot be written: {error.strerror}', on=path, unaffected="no partial file was left"
        ) from error
