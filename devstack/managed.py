"""What every server of one process has in common."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from devstack import programs


class Managed(ABC):
    """One server, in a directory of its own. ``with`` starts it and removes everything at its end.

    Args:
        root: the directory.
        server: its process.
    """

    def __init__(self, root: Path, server: programs.Server) -> None:
        self.root = root
        self._server = server

    @property
    def log(self) -> Path:
        """The server's log."""
        return self._server.log

    @property
    def running(self) -> bool:
        """Whether the server's first process is alive."""
        return self._server.running

    @property
    def pid(self) -> int | None:
        """The id of the server's first process while it runs."""
        return self._server.pid

    @abstractmethod
    def start(self) -> Self:
        """Start the server and wait until it answers.

        Returns:
            The server itself.
        """

    def pause(self) -> None:
        """Freeze the server: connections are taken by the kernel, and nothing answers."""
        self._server.pause()

    def resume(self) -> None:
        """Let a frozen server go on."""
        self._server.resume()

    def remove(self) -> None:
        """Stop the server and delete everything that it wrote."""
        self._server.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.remove()
