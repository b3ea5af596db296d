"""Give a whole cluster (``postgres-base``) as a tar, into a pipe."""

from __future__ import annotations

from dataclasses import dataclass, field

from dr_toolkit import clock, errors, log
from dr_toolkit.config import Config
from dr_toolkit.jobs import base_restore, opening
from dr_toolkit.jobs.request import Request
from dr_toolkit.log import Progress
from dr_toolkit.postgres import base_archive
from dr_toolkit.postgres.base_archive import Writable
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot

_log = log.get("jobs.restore")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What will be written.

    Attributes:
        snapshot: which one.
        seconds_lost: time between the snapshot and now.
        doubts: what speaks against it.
    """

    snapshot: Snapshot
    seconds_lost: float
    doubts: tuple[str, ...] = ()


@dataclass(slots=True)
class Done:
    """What was written.

    Attributes:
        prepared: the plan.
        files: how many.
        seconds: by stage.
    """

    prepared: Prepared
    files: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


def prepare(config: Config, repository: Repository, request: Request) -> Prepared:
    """Plan it. Changes nothing.

    Raises:
        UsageError: the component is no ``postgres-base``.
    """
    kind = opening.known_component(config, request.component).kind
    if kind != base_restore.KIND:
        raise errors.UsageError(
            f'"{request.component}" is of kind "{kind}", and a tar is given of a {base_restore.KIND} only',
            on=request.component,
            hint="a dump's exact archive is given by: drctl restore NAME --to file:PATH",
            unaffected="nothing was started",
        )
    found, doubted = base_restore.chosen(repository, request)
    return Prepared(found, (opening.moment(repository) - found.header.moment).total_seconds(), doubted)


def write(repository: Repository, prepared: Prepared, out: Writable, progress: Progress) -> Done:
    """Write the tar.

    Raises:
        DataError: something of the snapshot is damaged or missing; the stream was broken off.
    """
    done, began = Done(prepared), clock.monotonic()
    header = prepared.snapshot.header
    progress.start(header.bytes_source, f"{header.component}: writing")
    with SnapshotReader(repository, prepared.snapshot) as source:
        done.files = base_archive.write_archive(source, out, header.moment, progress)
    done.seconds["write"] = clock.monotonic() - began
    _log.info("written", snapshot=prepared.snapshot.id, files=done.files)
    return done
