"""A throw-away PostgreSQL that somebody else started beside us: the other container of our Pod, on a Unix socket that only we share."""

from __future__ import annotations

from typing import Self

from dr_toolkit import clock, log
from dr_toolkit.errors import DrctlError, TargetError
from dr_toolkit.postgres.connection import ConnectionSettings
from dr_toolkit.postgres.restore_target import session
from dr_toolkit.postgres.scratch import SUPERUSER, Scratch
from dr_toolkit.postgres.tools import Tools

_log = log.get("postgres.scratch")

_PORT = 5432
_STEP = 0.1


def settings(socket: str, password: str) -> ConnectionSettings:
    """How its maintenance database is reached as superuser.

    Args:
        socket: the directory of its socket.
        password: the superuser's.
    """
    return ConnectionSettings(
        hosts=((socket, _PORT),), database="postgres", user=SUPERUSER, password=password, sslmode="disable"
    )


class Sidecar(Scratch):
    """The server of the other container, for one ``with`` block. It ends with the Pod.

    Args:
        major: the major version that it must have.
        tools: client programs.
        socket: the directory of its socket.
        password: the superuser's.
        patience: seconds to wait for it.

    Raises:
        TargetError: it does not answer, or is of another version.
    """

    def __init__(
        self, major: int, *, tools: Tools, socket: str, password: str, patience: float = 60.0
    ) -> None:
        super().__init__()
        self.tools = tools
        self._major = major
        self._patience = patience
        self.settings = settings(socket, password)

    def __enter__(self) -> Self:
        found = self._version()
        if found != self._major:
            raise TargetError(
                f"the PostgreSQL beside is version {found}, and the snapshot's is {self._major}",
                hint=f'name an image of {self._major} under verify.namespace.postgres."{self._major}"',
                unaffected="nothing was restored",
            )
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing: the Pod ends, and what it held is gone with it."""

    def _version(self) -> int:
        deadline = clock.monotonic() + self._patience
        while True:
            try:
                with session(self.settings) as connection:
                    return connection.info.server_version // 10000
            except DrctlError as error:
                if clock.monotonic() > deadline:
                    raise TargetError(
                        f"the PostgreSQL beside does not answer: {error.message}",
                        unaffected="nothing was restored",
                    ) from error
            clock.sleep(_STEP)
