"""Restore a whole cluster (``postgres-base``) into a directory, and prove that it starts."""

from __future__ import annotations

import pwd
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from dr_toolkit import clock, errors, log
from dr_toolkit.config import Config, PostgresBaseConfig
from dr_toolkit.jobs import opening
from dr_toolkit.jobs.request import Request, choose
from dr_toolkit.log import Progress
from dr_toolkit.postgres import base_files, base_recovery, base_start, scratch_places, tools
from dr_toolkit.postgres.base_recovery import Recovery
from dr_toolkit.postgres.base_start import Target
from dr_toolkit.postgres.tools import Tools
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot

KIND = "postgres-base"

_log = log.get("jobs.restore")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A restore that is planned and not yet begun.

    Attributes:
        snapshot: which one.
        directory: where it goes.
        bytes: content to write.
        bytes_free: room at that place.
        seconds_lost: time between the snapshot and now.
        tools: programs of the cluster's version; None when it is not to be started.
        doubts: what speaks against this snapshot.
        recovery: how the cluster goes on when somebody starts it; None: it opens.
    """

    snapshot: Snapshot
    directory: Path
    bytes: int
    bytes_free: int
    seconds_lost: float
    tools: Tools | None
    doubts: tuple[str, ...] = ()
    recovery: Recovery | None = None


@dataclass(slots=True)
class Done:
    """What a restore did.

    Attributes:
        prepared: the plan.
        files: written or already there.
        started: whether it was verified, started and asked.
        seconds: by stage.
    """

    prepared: Prepared
    files: int = 0
    started: bool = False
    seconds: dict[str, float] = field(default_factory=dict)


def prepare(config: Config, repository: Repository, request: Request) -> Prepared:
    """Plan it. Changes nothing.

    Raises:
        UsageError: no directory was named, or something else than one.
        TargetError: the directory is somebody's, or too small.
    """
    if request.to is None or "://" in request.to or request.to.startswith("file:") or request.tables:
        raise errors.UsageError(
            "a base backup is restored into a new directory",
            on=request.component,
            hint=f"drctl restore {request.component} --to /var/lib/postgresql/restored",
            unaffected="nothing was started",
        )
    recovery = _recovery(config, request)
    found, doubted = chosen(repository, request)
    if recovery is not None:
        base_recovery.check(recovery, Target.of(found.header.source))
    directory = Path(request.to).absolute()
    base_files.check_directory(directory, found.id)
    there = next(place for place in (directory, *directory.parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    lost = (opening.moment(repository) - found.header.moment).total_seconds()
    programs = programs_for(config, found) if request.start else None
    size = found.header.bytes_source
    if free < size and not (directory / base_files.MARKER).exists():
        raise errors.TargetError(
            f'"{directory}" needs {size} bytes and {free} are free',
            on=str(directory),
            hint="name a directory on a larger disk",
            unaffected="nothing was started",
        )
    return Prepared(found, directory, size, free, lost, programs, doubted, recovery)


def chosen(repository: Repository, request: Request) -> tuple[Snapshot, tuple[str, ...]]:
    """The snapshot that is meant, and what speaks against it.

    Raises:
        UsageError: it is of another kind.
    """
    found, doubted = choose(repository, request)
    if found.header.kind != KIND:
        raise errors.UsageError(f'snapshot "{found.id}" is no base backup', on=found.id)
    return found, doubted


def run(
    config: Config, repository: Repository, prepared: Prepared, progress: Progress, *, end_sessions: bool
) -> Done:
    """Carry a plan out. Nothing live is touched, so there are no sessions to end.

    Raises:
        VerificationFailed: the files are not the backup's, or recovery ended short.
    """
    del config, end_sessions
    done = Done(prepared)
    with SnapshotReader(repository, prepared.snapshot) as source:
        place_cluster(source, prepared.snapshot, prepared.directory, done, progress)
    user = owner(prepared.directory)
    began = clock.monotonic()
    with base_files.made_durable(prepared.directory):
        if prepared.tools is not None:
            base_start.verify_files(prepared.tools, prepared.directory)
            done.seconds["verify_files"] = clock.monotonic() - began
    done.seconds["sync"] = clock.monotonic() - began - done.seconds.get("verify_files", 0.0)
    if prepared.recovery is not None:
        base_recovery.write(prepared.directory, prepared.recovery)
    base_files.finish(prepared.directory)
    if user is not None:
        base_files.give_to(prepared.directory, user)
    if prepared.tools is not None:
        began = clock.monotonic()
        _start(prepared, prepared.tools, user)
        done.started = True
        done.seconds["start"] = clock.monotonic() - began
    _log.info("restored", directory=str(prepared.directory), snapshot=prepared.snapshot.id)
    return done


def _recovery(config: Config, request: Request) -> Recovery | None:
    if not request.standby and not request.recovery:
        return None
    component = opening.expect(opening.known_component(config, request.component), PostgresBaseConfig)
    source = opening.source_settings(component, config)
    return base_recovery.asked(standby=request.standby, given=request.recovery, source=source)


def _start(prepared: Prepared, programs: Tools, user: str | None) -> None:
    """Start it once. One that is to go on recovering opens for reading only, else it would part from what it is to follow."""
    target, directory = Target.of(prepared.snapshot.header.source), prepared.directory
    if prepared.recovery is None:
        with base_start.started(programs, directory, target, user):
            return
    base_recovery.signal(directory, base_recovery.STANDBY)
    alone = base_recovery.alone(programs, directory)
    if user is not None:
        base_files.give_to(directory, user)
    try:
        with base_start.started(programs, directory, target, user, alone):
            pass
    finally:
        base_recovery.signal(directory, prepared.recovery.signal)
        if user is not None:
            base_files.give_to(directory, user)


def place_cluster(
    source: SnapshotReader, found: Snapshot, directory: Path, done: Done, progress: Progress
) -> None:
    """Write the files, and keep how many and how long."""
    began = clock.monotonic()
    progress.start(found.header.bytes_source, f"{found.header.component}: writing")
    read_next = done.prepared.tools is not None
    done.files = base_files.write_cluster(source, directory, found.id, progress, read_next=read_next)
    done.seconds["write"] = clock.monotonic() - began


def programs_for(config: Config, found: Snapshot) -> Tools:
    """Server programs of the cluster's major version, with ``pg_verifybackup``.

    Raises:
        SourceError: there are none.
    """
    version = found.header.source.get("server_version")
    major = version // 10_000 if isinstance(version, int) else 0
    chosen = tools.server_tools(major, config.verify.programs)
    try:
        tools.beside(chosen, (base_start.VERIFY,))
    except errors.SourceError as error:
        raise errors.SourceError(
            f'"{base_start.VERIFY}" is not in {chosen.directory}, nor anywhere else in a version that is new enough',
            hint="install all of PostgreSQL's programs, or restore without the check: --no-start",
        ) from error
    scratch_places.check_programs(chosen.program("postgres"), scratch_places.unprivileged_user())
    return chosen


def owner(directory: Path) -> str | None:
    """Who the cluster is given to when we are root: the owner of the place above it if that is somebody, or postgres."""
    user = scratch_places.unprivileged_user()
    if user is None:
        return None
    above = directory.parent.stat().st_uid
    return user if above == 0 else pwd.getpwuid(above).pw_name
