"""Files that a command writes beside its answer."""

from __future__ import annotations

import os
from pathlib import Path

from dr_toolkit import errors


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
