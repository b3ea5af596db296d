"""Bring a component back: plan, restore beside what is live, compare, and only then swap names. Nothing live is ever overwritten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from dr_toolkit import clock, errors, log
from dr_toolkit.config import Config, PostgresDumpConfig
from dr_toolkit.jobs import archive_files, dump_target, opening
from dr_toolkit.jobs.request import Request, choose
from dr_toolkit.log import Progress
from dr_toolkit.postgres import (
    compare,
    restore,
    restore_needs,
    restore_plan,
    restore_table,
    restore_verify,
    server,
    swap,
    swap_plan,
    tools,
)
from dr_toolkit.postgres.connection import ConnectionSettings
from dr_toolkit.postgres.early_digests import EarlyDigests
from dr_toolkit.postgres.swap_plan import RestorePlan
from dr_toolkit.postgres.tools import Tools
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot

_log = log.get("jobs.restore")

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Prepared:
    """A restore that is planned and not yet begun.

    Attributes:
        request: what was asked.
        snapshot: which one.
        place: where it goes, without secrets.
        database: what happens to databases; None for a file.
        seconds_lost: time between the snapshot and now.
        bytes: content to restore.
        doubts: what speaks against this snapshot.
    """

    request: Request
    snapshot: Snapshot
    place: str
    database: RestorePlan | None
    seconds_lost: float
    bytes: int
    doubts: tuple[str, ...] = ()


@dataclass(slots=True)
class Done:
    """What a restore did.

    Attributes:
        prepared: the plan.
        database: the name under which the restored content is, if a database.
        kept: the name of the replaced database, if any.
        files: written, if any.
        seconds: by stage.
        unavailable_seconds: how long nobody could connect to the live name.
        compared: what was compared with the snapshot's digests.
        notes: harmless differences and warnings.
    """

    prepared: Prepared
    database: str | None = None
    kept: str | None = None
    files: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    unavailable_seconds: float | None = None
    compared: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def prepare(config: Config, repository: Repository, request: Request) -> Prepared:
    """Plan a restore. Changes nothing.

    Raises:
        SnapshotMissing: there is no such snapshot.
        TargetError: the target cannot take it.
    """
    component = _dump_component(config, request.component)
    dump_target.check(request.to)
    found, doubted = choose(repository, request)
    lost = (opening.moment(repository) - found.header.moment).total_seconds()
    size = found.header.bytes_source
    if request.to is not None and request.to.startswith(dump_target.FILE):
        path = request.to.removeprefix(dump_target.FILE)
        archive_files.check_new(path)
        return Prepared(request, found, path, None, lost, size, doubted)
    settings = dump_target.settings(config, component, request.to)
    if request.tables:
        with SnapshotReader(repository, found) as source:
            restore_table.check_tables(source, settings, request.tables)
        return Prepared(request, found, settings.redacted(), None, lost, size, doubted)
    with SnapshotReader(repository, found) as source:
        planned = swap_plan.plan(
            settings,
            restore_plan.toc_of(source),
            snapshot=found.id,
            now=clock.now(),
            bytes_needed=_needed(found),
            no_owner=request.no_owner,
        )
    _check(planned, request)
    return Prepared(request, found, settings.redacted(), planned, lost, size, doubted)


def _dump_component(config: Config, name: str) -> PostgresDumpConfig:
    component = opening.known_component(config, name)
    if not isinstance(component, PostgresDumpConfig):
        raise errors.UsageError(
            f'"{name}" is of kind "{component.kind}"', on=name, unaffected="nothing was started"
        )
    return component


def run(
    config: Config, repository: Repository, prepared: Prepared, progress: Progress, *, end_sessions: bool
) -> Done:
    """Carry a plan out.

    Args:
        config: the configuration.
        repository: opened with the ``read`` role.
        prepared: the plan.
        progress: told of each stage.
        end_sessions: whether sessions in the live database may be ended for the swap.

    Raises:
        VerificationFailed: the restored content is not the snapshot's; nothing was swapped.
        TargetError: the target failed; the live database is as it was.
        DataError: an object does not open; the live database is as it was.
    """
    if prepared.database is not None:
        try:
            with aside(config, repository, prepared, progress) as ready:
                return ready.finish(end_sessions=end_sessions)
        except errors.DataError as error:
            error.unaffected = error.unaffected or "the live database was not touched"
            raise
    with SnapshotReader(repository, prepared.snapshot) as source:
        if prepared.request.tables:
            return _tables(config, source, prepared, progress)
        return _to_file(source, prepared, progress)


def _needed(found: Snapshot) -> int | None:
    value = found.header.source.get("database_bytes")
    return value if isinstance(value, int) else None


def _check(planned: RestorePlan, request: Request) -> None:
    if request.to is not None and planned.old is not None:
        raise errors.TargetError(
            f'the database "{planned.live}" exists already',
            on=planned.live,
            hint="choose a new name, or leave --to out to swap it with the live one",
            unaffected="it was not touched",
        )
    if planned.space == "short":
        raise errors.TargetError(
            f'"{planned.new}" needs about {planned.bytes_needed} bytes and {planned.bytes_free} are free',
            on=planned.live,
            hint="make room on the server's disk, or restore to another server with --to",
            unaffected="nothing was started",
        )
    if planned.problems and request.swap:
        raise errors.TargetError(
            "; ".join(planned.problems), on=planned.live, unaffected="nothing was started"
        )


class Aside:
    """A database that was restored beside the live one and compared, and has not its name yet; made by `aside`."""

    def __init__(self, new: swap.Beside, done: Done, source: SnapshotReader) -> None:
        self._new, self._done, self._source = new, done, source

    def finish(self, *, end_sessions: bool) -> Done:
        """Give it the live name, unless the request says that it keeps its own.

        Raises:
            TargetError: the names could not be swapped; the live database is as it was.
        """
        _finish(self._new, self._done, self._source, end_sessions=end_sessions)
        return self._done


@contextmanager
def aside(config: Config, repository: Repository, prepared: Prepared, progress: Progress) -> Iterator[Aside]:
    """Restore into a new database beside the live one, and compare it. Leaving the block without `Aside.finish` drops it.

    Args:
        config: the configuration.
        repository: opened with the ``read`` role.
        prepared: a plan with a database.
        progress: told of each stage.

    Raises:
        VerificationFailed: the restored content is not the snapshot's.
        TargetError: the target failed.
    """
    planned, request = prepared.database, prepared.request
    assert planned is not None  # noqa: S101  # for the type checker: the caller looked
    settings = dump_target.settings(config, _dump_component(config, request.component), request.to)
    done = Done(prepared, notes=list(planned.warnings))
    with SnapshotReader(repository, prepared.snapshot) as source:
        major = restore_needs.client_major(restore_plan.toc_of(source), planned.server_version // 10_000)
        programs = tools.choose(major, settings.programs, tls=settings.tls_required)
        with swap.beside(settings, planned, progress=progress) as new:
            _log.info("restoring", database=planned.new, snapshot=prepared.snapshot.id)
            early = restore_verify.early_digests_of(source, new.settings, programs)
            filled = restore.restore_into(
                source,
                new.settings,
                programs,
                jobs=request.jobs,
                no_owner=request.no_owner,
                early=early,
                progress=progress,
            )
            done.seconds = dict(filled.seconds)
            _log.info("restored", database=planned.new)
            _compare(source, new.settings, programs, done, early, progress)
            new.verified()
            _log.info("compared", database=planned.new)
            yield Aside(new, done, source)


def _finish(new: swap.Beside, done: Done, source: SnapshotReader, *, end_sessions: bool) -> None:
    planned, request = done.prepared.database, done.prepared.request
    assert planned is not None  # noqa: S101  # for the type checker
    if not request.swap:
        new.keep(f"restored by drctl from snapshot {planned.snapshot}")
        done.database = planned.new
        return
    report = new.swap(terminate=end_sessions, toc=restore_plan.toc_of(source))
    done.database, done.kept, done.unavailable_seconds = report.live, report.old, report.unavailable_seconds


def _compare(
    source: SnapshotReader,
    settings: ConnectionSettings,
    programs: Tools,
    done: Done,
    early: EarlyDigests,
    progress: Progress,
) -> None:
    started = clock.monotonic()
    toc = restore_plan.toc_of(source)
    no_owner = done.prepared.request.no_owner
    differences = restore_verify.compare_restored(
        source, toc, settings, programs, no_owner=no_owner, early=early, progress=progress
    )
    done.seconds["compare"] = clock.monotonic() - started
    done.compared = restore_verify.expected_facts(source, toc).counts()
    failures = compare.failures(differences)
    done.notes += [d.text for d in differences if d not in failures]
    if failures:
        raise errors.VerificationFailed(
            f"the restored content is not the snapshot's: {'; '.join(d.text for d in failures[:_SHOWN])}",
            on=settings.database,
            hint="verify the snapshot (drctl verify --data), or restore an earlier one",
            unaffected="the live database was not touched",
        )


def _tables(config: Config, source: SnapshotReader, prepared: Prepared, progress: Progress) -> Done:
    """Single tables, into a database that is there already and does not have them."""
    component = _dump_component(config, prepared.request.component)
    settings = dump_target.settings(config, component, prepared.request.to)
    with closing(server.connect(settings)) as session:
        version = session.info.server_version // 10_000
    major = restore_needs.client_major(restore_plan.toc_of(source), version)
    programs = tools.choose(major, settings.programs, tls=settings.tls_required)
    done = Done(prepared, database=settings.database)
    for table in prepared.request.tables:
        report = restore_table.restore_table(source, settings, programs, table, progress=progress)
        done.compared[report.name] = report.rows or 0
        done.notes += [f"left out: {item}" for item in report.skipped]
    return done


def _to_file(source: SnapshotReader, prepared: Prepared, progress: Progress) -> Done:
    path = prepared.place
    progress.start(prepared.bytes, "writing")
    archive, roles = archive_files.names(path)
    archive_files.write(archive, restore.exact_archive(source), progress.advance)
    archive_files.write(roles, source.read("globals.sql"), progress.advance)
    return Done(prepared, files=[archive, roles])
