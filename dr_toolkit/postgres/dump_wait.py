"""Say what a dump waits for, while it waits: away from a terminal nothing else would be heard of it for minutes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

from dr_toolkit import log
from dr_toolkit.errors import DrctlError
from dr_toolkit.postgres import server, server_facts
from dr_toolkit.postgres.connection import ConnectionSettings

FIRST_S = 10.0
AGAIN_S = 60.0
_ANSWER_S = 2.0
_LOOK_LOCK_S = 1.0
_NOBODY = "nobody any more"

_log = log.get("postgres.dump")


@contextmanager
def told_while_waiting(
    settings: ConnectionSettings, lock_wait_s: float, *, first_s: float = FIRST_S, again_s: float = AGAIN_S
) -> Iterator[None]:
    """Write a warning into the log when the block takes long, and again from time to time.

    Args:
        settings: the source; it is asked who holds locks.
        lock_wait_s: how long the dump waits for a lock, to be told.
        first_s: seconds before the first warning.
        again_s: seconds between two.
    """
    ended = threading.Event()

    def watch() -> None:
        pause = first_s
        while not ended.wait(pause):
            holders, pause = lock_holders(settings), again_s
            if not ended.is_set():
                # A server with very many objects takes long without any lock.
                waits = "the dump has not begun yet" if holders == _NOBODY else "the dump waits for locks"
                _log.warning(
                    waits, database=settings.redacted(), held_by=holders, gives_up_after_s=lock_wait_s
                )

    thread = threading.Thread(target=watch, name="drctl-dump-wait", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_ANSWER_S)  # it may be asking a server that does not answer


def lock_holders(settings: ConnectionSettings) -> str:
    """Who holds up a dump, if they still do."""
    try:
        with closing(server.connect(settings)) as session:
            server.set_timeouts(session, lock_s=_LOOK_LOCK_S)
            return "; ".join(server_facts.lock_holders(session)) or _NOBODY
    except DrctlError:
        return "somebody (the server did not say who)"
