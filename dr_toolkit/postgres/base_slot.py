"""WAL that a running backup needs, held on the server by a slot of our own session, and watched so that it never fills the server's disk."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime

from dr_toolkit import log
from dr_toolkit.errors import DrctlError, SourceError
from dr_toolkit.postgres import server, server_disk
from dr_toolkit.postgres.base_manifest import parse_lsn
from dr_toolkit.postgres.connection import ConnectionSettings

EACH_S = 1.0
"""Seconds between two looks."""
_MIB = 1 << 20
_ANSWER_S = 5.0
_LOST = "lost"
_NOW = """
    SELECT (CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
            ELSE pg_current_wal_lsn() END)::text
"""
_WRITTEN = """
    SELECT wal_status, pg_wal_lsn_diff(
        CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) ELSE pg_current_wal_lsn() END,
        %s::pg_lsn)::bigint
    FROM pg_replication_slots WHERE slot_name = %s
"""
_MOMENT = """
    SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp() ELSE statement_timestamp() END,
           (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END)::text
"""
"""A time, and where WAL is that has everything committed up to then: the time is taken first. A standby knows only the last commit
that it has replayed, and before the first one nothing."""
_USUAL = "SELECT setting::bigint * 1048576 FROM pg_settings WHERE name = 'max_wal_size'"
_STARTED = "SELECT pg_postmaster_start_time()"

_log = log.get("postgres.base")


def most_wal(wanted: int | None, free: int | None, max_wal_size: int, cluster: int | None) -> int:
    """How much WAL may be held, in bytes. Pure.

    Half of what is free, where that can be seen. Else what a server of this size certainly has room for: its ordinary WAL twice,
    or a quarter of its content.

    Args:
        wanted: what the configuration says.
        free: room on the disk of the server's WAL.
        max_wal_size: the server's setting.
        cluster: bytes of all databases.
    """
    if wanted is not None:
        return wanted
    return free // 2 if free is not None else max(2 * max_wal_size, (cluster or 0) // 4)


class HeldWal:
    """A slot that is there. Its session is used by the watching thread alone until that has ended.

    Args:
        settings: the source.
        session: that made the slot.
        name: of the slot.
        limit: bytes that may be written while it holds them. What was there before takes no more room than it did.
    """

    def __init__(
        self, settings: ConnectionSettings, session: server.Connection, name: str, limit: int
    ) -> None:
        self._settings = settings
        self._started = server.query(session, _STARTED)
        [(self._from,)] = server.query(session, _NOW)
        self._moments: list[tuple[int, datetime]] = []
        self._note_moment(session)
        self.limit = limit
        self.most = 0
        self._session, self._name = session, name
        self._reason: SourceError | None = None
        self._end: Callable[[], None] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="drctl-slot-watch", daemon=True)

    def moment(self, end: int) -> datetime | None:
        """The latest time that was seen before ``end``: everything committed up to then is in WAL that ends there. None where nobody knows."""
        return max((time for lsn, time in self._moments if lsn <= end), default=None)

    def _note_moment(self, session: server.Connection) -> None:
        [(time, lsn)] = server.query(session, _MOMENT)
        if time is not None and lsn is not None:
            self._moments.append((parse_lsn(lsn), time))

    def ends(self, end: Callable[[], None]) -> None:
        """What is to be called, from another thread, when the backup cannot go on."""
        self._end = end
        if not self._thread.is_alive():
            self._thread.start()

    def check(self) -> None:
        """Whether all is well so far.

        Raises:
            SourceError: too much is held, or WAL that is needed was removed.
        """
        if self._reason is not None:
            raise self._reason

    def stop(self) -> None:
        """End the watch."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_ANSWER_S)  # it may be asking a server that does not answer

    def _watch(self) -> None:
        while True:
            try:
                self._look()
            except DrctlError:
                if not self._same_server():
                    return  # it went away: whoever reads from it says so
                self._reason = _removed(self._name)
            if self._reason is not None:
                if self._end is not None:
                    self._end()
                # What the slot holds is given up at once, not when everything else has come to its end.
                self._session.close()
                return
            if self._ended.wait(EACH_S):
                return

    def _look(self) -> None:
        rows = server.query(self._session, _WRITTEN, (self._from, self._name))
        if not rows or rows[0][0] == _LOST:
            self._reason = _removed(self._name)
            return
        self._note_moment(self._session)
        held = int(rows[0][1] or 0)
        self.most = max(self.most, held)
        if held > self.limit:
            self._reason = SourceError(
                f"the backup was ended before the WAL that it needs fills the server's disk: {held // _MIB} MiB were written "
                f"and kept since it began, and {self.limit // _MIB} MiB are allowed",
                on=self._name,
                hint="back up when less is written, or allow more with max_wal_kept when the server's disk has room",
                unaffected="no snapshot was made; the server may remove that WAL from now on",
            )

    def _same_server(self) -> bool:
        """Whether the server is still up, and only our session is not: a temporary slot is invalidated by ending its session."""
        try:
            with closing(server.connect(self._settings)) as session:
                return server.query(session, _STARTED) == self._started
        except DrctlError:
            return False


def _removed(name: str) -> SourceError:
    return SourceError(
        "the server no longer keeps the WAL that the backup needs (max_slot_wal_keep_size, or somebody ended our session)",
        on=name,
        hint="raise max_slot_wal_keep_size, or back up when less is written",
        unaffected="no snapshot was made",
    )


@contextmanager
def held_wal(
    settings: ConnectionSettings, wanted: int | None = None, cluster: int | None = None
) -> Iterator[HeldWal]:
    """Keep WAL on the server until the block ends, by a temporary slot of our own session: it goes when drctl goes, however it goes.

    Args:
        settings: the source.
        wanted: bytes that may be held; else `most_wal` says.
        cluster: bytes of all databases.

    Raises:
        SourceError: the slot cannot be made, too much is held, or WAL that is needed was removed.
    """
    name = f"drctl_{secrets.token_hex(6)}"
    with closing(server.connect(settings)) as session:
        server.set_timeouts(session)
        limit = _limit(session, settings, wanted, cluster)
        _make_slot(session, name)
        held = HeldWal(settings, session, name, limit)
        _log.debug("WAL is held", slot=name, limit=limit)
        try:
            yield held  # whether all WAL came is seen in what came
        finally:
            held.stop()
        _log.info("WAL was held", most=held.most, limit=limit)


def _make_slot(session: server.Connection, name: str) -> None:
    try:
        server.query(session, "SELECT pg_create_physical_replication_slot(%s, true, true)", (name,))
    except SourceError as error:
        raise SourceError(
            f"the slot that keeps WAL for the backup cannot be made: {error.message}",
            on=error.on,
            hint="look at pg_replication_slots and max_replication_slots, and whether the role has REPLICATION",
            unaffected="no snapshot was made",
        ) from error


def _limit(
    session: server.Connection, settings: ConnectionSettings, wanted: int | None, cluster: int | None
) -> int:
    [(usual,)] = server.query(session, _USUAL)
    directory = None if wanted is not None else server_disk.data_directory(session, settings)
    free = server_disk.free_bytes(directory / "pg_wal") if directory is not None else None
    return most_wal(wanted, free, usual, cluster)
