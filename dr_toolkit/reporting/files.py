"""Files that a command writes beside its answer."""

from __future__ import annotations

import os
from pathlib import Path

from dr_toolkit import errors


def check(*paths: Path | None) -> None:
    """Files that are written at the end of a long run must have a place before it begins.

    Raises:
        UsageError: there is none.
    """
    for path in paths:
        if path is None:
            continue
        directory = path.absolute().parent
        if not directory.is_dir() or not os.access(directory, os.W_OK | os.X_OK):
            why = "may not be written to" if directory.is_dir() else "is no directory"
            raise errors.UsageError(
                f'"{path}" cannot be written: "{directory}" {why}',
                on=str(path),
                hint="name another file",
                unaffected="nothing was started",
            )


def replace(path: Path, content: bytes) -> None:
    """Write a file at once: whoever reads it sees the old content or the new, never half of it.

    Raises:
        OutputError: it cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise errors.OutputError(
            f'"{path}" cannot be written: {error.strerror}', on=str(path), hint="name another file"
        ) from error
