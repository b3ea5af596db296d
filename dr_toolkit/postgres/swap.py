"""Restore beside a live database, then let the two change names. The old database stays until a person drops it.

::

    with beside(settings, plan) as new:      # repairs what a killed run left, creates the new database
        restore_into(source, new.settings, tools)
        ...                                  # compare
        new.verified()
        report = new.swap(terminate=True)

Leaving the block without a swap drops the new database. A run that is killed leaves at most a database with a marker, which the
next run drops, and never a live name that is missing or closed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from dr_toolkit import clock, log
from dr_toolkit.errors import DrctlError, SourceError, TargetError
from dr_toolkit.log import NoProgress, Progress
from dr_toolkit.postgres import server, swap_names, swap_settings, swap_sql
from dr_toolkit.postgres.archive_toc import Toc
from dr_toolkit.postgres.connection import ConnectionSettings
from dr_toolkit.postgres.swap_names import Marker, State
from dr_toolkit.postgres.swap_plan import RestorePlan, clients, maintenance

_log = log.get("postgres.swap")

SWAP_SECONDS = 30.0
_IN_USE = "55006"
_DATABASES = """
SELECT datname, datallowconn, shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database WHERE datname <> %s
"""


@dataclass(frozen=True, slots=True)
class SwapReport:
    """What a swap did.

    Attributes:
        live: the name that now belongs to the restored database.
        old: the name that the replaced one has now; None when there was none.
        ended: how many sessions were ended.
        attempts: how often renaming was tried.
        unavailable_seconds: how long nobody could connect to the live name.
    """

    live: str
    old: str | None
    ended: int
    attempts: int
    unavailable_seconds: float


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was found of earlier runs.

    Attributes:
        reopened: live databases that take connections again.
        dropped: half-restored databases that were dropped.
        left: databases that look like ours and carry no marker; a person decides.
    """

    reopened: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


class Beside:
    """A new database beside the live one; made by `beside`.

    Attributes:
        settings: how to reach it.
        repaired: what earlier runs had left.
    """

    def __init__(
        self,
        sessions: ExitStack,
        settings: ConnectionSettings,
        plan: RestorePlan,
    ) -> None:
        self.settings = settings.for_database(plan.new)
        self._sessions = sessions
        self._connection = sessions.enter_context(maintenance(settings.for_database(plan.live)))
        lock(self._connection, plan.live)
        self.repaired = repair_in(self._connection, plan.live)
        self._plan = plan
        self._marker = Marker(plan.live, plan.snapshot, "restoring", clock.rfc3339(clock.now()))
        self._ours = False

    @property
    def unfinished(self) -> bool:
        """Whether the database exists and was neither swapped nor kept."""
        return self._ours

    def create(self) -> None:
        """Create the database with its marker, so that both are there or none is."""
        comment = server.statement(
            "COMMENT ON DATABASE {name} IS {text}",
            name=server.identifier(self._plan.new),
            text=self._marker.text(),
        )
        # Both statements are sent at once: a run that is killed between them would leave a database nobody knows.
        with server.translated(self.settings.redacted()), self._connection.pipeline() as pipeline:
            self._connection.execute(self._plan.create.encode())
            pipeline.sync()
            self._connection.execute(comment.as_string(self._connection).encode())
        self._ours = True

    def verified(self) -> None:
        """Note in the marker that the content was compared."""
        self._mark("verified")

    def keep(self, comment: str) -> None:
        """Leave the new database under its own name, as it is; no later run will drop it."""
        self._comment(comment)
        self._ours = False

    def swap(self, *, terminate: bool, toc: Toc | None = None, seconds: float = SWAP_SECONDS) -> SwapReport:
        """Give the live name to the new database, with the live one's settings; the old one keeps its content.

        Args:
            terminate: end sessions in the live database. Without it an open session makes this fail.
            toc: where settings come from when there is no live database.
            seconds: for how long to try while nobody can connect.

        Raises:
            TargetError: sessions are open, or renaming failed. The live database is as it was.
        """
        plan = self._plan
        self._renew()
        self._check_plan()
        before = len(clients(self._connection, plan.live))
        self._configure(toc, terminate=terminate, seconds=seconds)
        try:
            server.query(self._connection, swap_sql.SWAP)
        except SourceError as error:
            raise refusal(self._connection, plan.live, plan.new, error) from error
        self._ours = False
        report = report_of(self._connection, plan.live, plan.old, before if terminate else 0)
        _log.info("names swapped", live=report.live, old=report.old, unavailable=report.unavailable_seconds)
        return report

    def discard(self) -> None:
        """Drop the new database, after making sure that the live one is open."""
        self._renew()
        statement = _DATABASES + " AND datname = %s"
        for row in server.query(self._connection, statement, (self._plan.live, self._plan.new)):
            _undo(self._connection, self._plan.live, *row)
        self._ours = False

    def _renew(self) -> None:
        """Open a new session if the old one was cut while the data was restored, which may have taken hours."""
        try:
            server.query(self._connection, "SELECT 1")
        except DrctlError:
            _log.info("session for the swap was lost, opening another")
            live = self.settings.for_database(self._plan.live)
            self._connection = self._sessions.enter_context(maintenance(live))
            lock(self._connection, self._plan.live)

    def _check_plan(self) -> None:
        """The plan may be old: somebody may have dropped or created the live database since."""
        statement = "SELECT count(*) FROM pg_database WHERE datname = %s"
        there = bool(server.query(self._connection, statement, (self._plan.live,))[0][0])
        if there != (self._plan.old is not None):
            raise TargetError(
                f'the database "{self._plan.live}" {"was created" if there else "was dropped"} since the restore was planned',
                hint="run the restore again",
                unaffected="no name was changed",
            )

    def _configure(self, toc: Toc | None, *, terminate: bool, seconds: float) -> None:
        plan, connection = self._plan, self._connection
        later: list[str] = []
        statements: list[str] = []
        if plan.old is not None:
            statements = swap_settings.carried_over(connection, plan.live, plan.new)
        else:
            # These statements name the live database, so they come after it has its name; the marker goes.
            roles = frozenset(row[0] for row in server.query(connection, "SELECT rolname FROM pg_roles"))
            name = server.identifier(plan.live)
            later = [server.statement("COMMENT ON DATABASE {name} IS NULL", name=name).as_string(connection)]
            later += swap_settings.recorded(connection, toc, plan.live, roles) if toc else []
        values = {
            "live": plan.live,
            "new": plan.new,
            "old": plan.old or "",
            "marker": replace(self._marker, state="swapping").text(),
            "kept": swap_names.kept_comment(clock.rfc3339(clock.now()), plan.snapshot),
            "statements": json.dumps(statements),
            "later": json.dumps(later),
            "end_sessions": "on" if terminate else "off",
            "seconds": str(seconds),
        }
        configure(connection, values)

    def _mark(self, state: State) -> None:
        self._marker = replace(self._marker, state=state)
        self._comment(self._marker.text())

    def _comment(self, text: str) -> None:
        set_comment(self._connection, self._plan.new, text)


@contextmanager
def beside(
    settings: ConnectionSettings, plan: RestorePlan, *, progress: Progress | None = None
) -> Iterator[Beside]:
    """Create the new database of a plan, after repairing what earlier runs left; see the module's text.

    Only one restore of a live database runs at a time.

    Raises:
        TargetError: another restore of it is running, or the server refuses.
        SourceUnreachable: the server cannot be reached.
    """
    notes = progress or NoProgress()
    with ExitStack() as sessions:
        new = Beside(sessions, settings, plan)
        new.create()
        notes.note(f'created the database "{plan.new}"')
        try:
            yield new
        finally:
            if new.unfinished:
                _discard_quietly(new, plan, notes)


def repair(settings: ConnectionSettings) -> Repaired:
    """Undo what killed restores of this database left: open it again, drop half-restored databases that carry our marker.

    Raises:
        TargetError: a restore of it is running, or the server refuses.
        SourceUnreachable: the server cannot be reached.
    """
    with maintenance(settings) as connection:
        lock(connection, settings.database)
        return repair_in(connection, settings.database)


def _discard_quietly(new: Beside, plan: RestorePlan, notes: Progress) -> None:
    """Drop the new database while another error is on its way: that one is what the user must see."""
    try:
        new.discard()
    except DrctlError as error:
        _log.warning("half-restored database not dropped", database=plan.new, reason=error.message)
        notes.note(f'"{plan.new}" could not be dropped; the next restore does it')


def repair_in(connection: server.Connection, live: str) -> Repaired:
    """The same as `repair`, in a session that holds the lock."""
    reopened, dropped, left = [], [], []
    for name, open_, comment in server.query(connection, _DATABASES, (live,)):
        marker = swap_names.read_marker(comment)
        if marker is not None and marker.live == live:
            if _undo(connection, live, name, open_, comment):
                reopened.append(live)
            if marker.state != swap_names.UNDOING:
                dropped.append(name)
        elif comment is None and swap_names.looks_new(name, live):
            left.append(name)
    repaired = Repaired(tuple(reopened), tuple(dropped), tuple(left))
    if reopened or dropped:
        _log.warning("repaired after a killed restore", reopened=reopened, dropped=dropped)
    return repaired


def _undo(connection: server.Connection, live: str, name: str, open_: bool, comment: str | None) -> bool:
    """Drop one database that carries our marker; before, open the live one if a swap had closed both. Says whether it had."""
    marker = swap_names.read_marker(comment)
    closed = marker is not None and marker.state in ("swapping", swap_names.UNDOING) and not open_
    # In this order: without the marker nobody would know who closed the live database.
    reopened = closed and _reopen(connection, live)
    if marker is None or marker.live != live:
        return reopened
    if marker.state == swap_names.UNDOING:  # somebody's data from before a restore, never ours to drop
        _reopen(connection, name)
        set_comment(connection, name, swap_names.kept_comment(marker.began, marker.snapshot))
    else:
        _drop(connection, name)
    return reopened


def _reopen(connection: server.Connection, live: str) -> bool:
    rows = server.query(connection, "SELECT datallowconn FROM pg_database WHERE datname = %s", (live,))
    if not rows or rows[0][0]:
        return False
    name = server.identifier(live)
    server.query(connection, server.statement("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true", name=name))
    return True


def _drop(connection: server.Connection, name: str) -> None:
    server.query(
        connection,
        server.statement("DROP DATABASE IF EXISTS {name} WITH (FORCE)", name=server.identifier(name)),
    )


def set_comment(connection: server.Connection, name: str, text: str) -> None:
    """Give a database a comment."""
    database = server.identifier(name)
    server.query(
        connection, server.statement("COMMENT ON DATABASE {name} IS {text}", name=database, text=text)
    )


def configure(connection: server.Connection, values: Mapping[str, str]) -> None:
    """Set the parameters of `swap_sql.SWAP` for this session."""
    for name, value in values.items():
        server.query(connection, "SELECT set_config(%s, %s, false)", (f"drctl.{name}", value))


def report_of(connection: server.Connection, live: str, old: str | None, ended: int) -> SwapReport:
    """What the swap that this session just made did."""
    [(attempts, milliseconds)] = server.query(
        connection, "SELECT current_setting('drctl.attempts'), current_setting('drctl.milliseconds')"
    )
    return SwapReport(live, old, ended, int(attempts), int(milliseconds) / 1000)


def refusal(connection: server.Connection, live: str, new: str, error: SourceError) -> TargetError:
    """A swap that the server refused, in words; the live database is as it was."""
    state = getattr(error.__cause__, "sqlstate", None)
    unaffected = f'"{live}" is as it was and takes connections'
    if state in (swap_sql.REFUSED, _IN_USE):
        names = ", ".join(
            f"{one.application or one.kind} ({one.user}, {one.address}, pid {one.pid})"
            for one in clients(connection, live)
        )
        return TargetError(
            f'"{live}" is in use: {names or error.message}',
            hint="stop these clients, or allow their sessions to be ended with --yes",
            unaffected=unaffected,
        )
    return TargetError(
        f'the names of "{live}" and "{new}" could not be swapped: {error.message}', unaffected=unaffected
    )


def lock(connection: server.Connection, live: str) -> None:
    """Hold a lock for as long as the session lives; a killed run's session ends with it."""
    key = int.from_bytes(hashlib.sha256(f"drctl restore {live}".encode()).digest()[:8], "big", signed=True)
    if server.query(connection, "SELECT pg_try_advisory_lock(%s)", (key,))[0][0]:
        return
    holders = server.query(
        connection,
        "SELECT l.pid, a.backend_start FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid) "
        "WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted "
        "AND l.classid::bigint = (%s::bigint >> 32) & 4294967295 AND l.objid::bigint = %s::bigint & 4294967295",
        (key, key),
    )
    who = ", ".join(f"session {pid}" + _since(began) for pid, began in holders) or "another session"
    raise TargetError(
        f'another restore of "{live}" is running: {who}',
        hint="wait for it to end, or end it",
        unaffected="nothing was started",
    )


def _since(moment: datetime | None) -> str:
    return f" since {clock.rfc3339(moment)}" if moment else ""
