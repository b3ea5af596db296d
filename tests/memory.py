"""The largest memory that a program had, by the kernel's word."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_EVERY_S = 0.01


def peak(arguments: Sequence[str | Path], environment: Mapping[str, str], said: Path) -> int:
    """Run a program to its good end.

    What ``wait4`` says will not do: Linux keeps the peak of the process that started it, this one's, across ``exec``.
    ``VmHWM`` of ``/proc/PID/status`` is that of the program alone (proc(5)).

    Args:
        arguments: the program and its arguments.
        environment: its environment.
        said: the file that takes what it writes.

    Returns:
        Bytes of resident memory, at the highest.
    """
    with said.open("wb") as file:
        process = subprocess.Popen(
            [str(one) for one in arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
        most = 0
        while process.poll() is None:
            with suppress(OSError, IndexError, ValueError):
                status = Path(f"/proc/{process.pid}/status").read_text()
                most = max(most, int(status.split("VmHWM:")[1].split()[0]))
            time.sleep(_EVERY_S)
    assert process.returncode == 0, said.read_text()
    assert most
    return most * 1024
