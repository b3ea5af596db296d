"""Verification by restore of a whole cluster: into scratch, verified, started, checked and read, then removed whatever happens."""

from __future__ import annotations

from typing import Any

from dr_toolkit import clock, errors, words
from dr_toolkit.config import Config
from dr_toolkit.jobs import base_restore
from dr_toolkit.log import Progress
from dr_toolkit.postgres import base_counts, base_files, base_prove, base_start, scratch_places
from dr_toolkit.postgres.base_counts import Compared
from dr_toolkit.postgres.base_looks import Proof
from dr_toolkit.postgres.base_start import Target
from dr_toolkit.postgres.connection import ConnectionSettings
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot


def restore_check(
    config: Config, repository: Repository, found: Snapshot, progress: Progress
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Restore a cluster into scratch, and look at all of it.

    Returns:
        What was checked (counts and seconds), failures, and notes.

    Raises:
        DataError: the snapshot's own objects are damaged, its files are not the backup's, or recovery ended short.
        SourceError: no server programs of the right major version are at hand.
    """
    scratch_places.clean_leftovers()
    chosen = base_restore.programs_for(config, found)
    target = Target.of(found.header.source)
    done_files, seconds, proof, counted = 0, {}, Proof(), None
    with base_prove.scratch_directory() as (directory, user), SnapshotReader(repository, found) as source:
        began = clock.monotonic()
        progress.start(found.header.bytes_source, f"{found.header.component}: writing")
        done_files = base_files.write_cluster(source, directory, found.id, progress)
        seconds["write"] = clock.monotonic() - began
        base_start.verify_files(chosen, directory)
        base_files.finish(directory)
        if user is not None:
            base_files.give_to(directory, user)
        try:
            began = clock.monotonic()
            with base_start.started(chosen, directory, target, user, lasting=False) as settings:
                seconds["start"] = clock.monotonic() - began
                # First: other looks make extensions, and what autovacuum did not do it does not do now.
                began = clock.monotonic()
                counted = _counts(source, settings)
                seconds["count"] = clock.monotonic() - began
                proof = base_prove.prove(settings, chosen)
        except errors.TargetError as error:
            if (trouble := scratch_places.trouble(error, directory)) is not None:
                raise trouble from error
            return (
                {"server": chosen.version, "files": done_files},
                [f"it does not start: {error.message}"],
                [],
            )
    checks = {
        "server": chosen.version,
        "files": done_files,
        "pg_verifybackup": True,
        "pg_amcheck": proof.amcheck,
        "visibility_maps": proof.visibility,
        "databases": proof.databases,
        "bytes_read": proof.bytes_read,
        "row_counts": counted.document() if counted else None,
        "recovered_to": found.header.source["base"]["end_lsn"],
        "seconds": {name: round(value, 3) for name, value in (seconds | proof.seconds).items()},
    }
    if counted is None:
        proof.notes.append("no rows were counted at the backup (count_rows, or the role may read none)")
    elif counted.left_out:
        proof.notes.append(
            f"{words.counted(counted.left_out, 'table was', 'tables were')} not counted at the backup: larger than count_rows, or not to be read by the role"
        )
    return checks, [*(counted.failures if counted else ()), *proof.failures], proof.notes


def _counts(source: SnapshotReader, settings: ConnectionSettings) -> Compared | None:
    """The restored rows, held against those that were counted; None when none were."""
    if not any(info.path == base_counts.ENTRY for info in source.entries(base_counts.ENTRY)):
        return None
    return base_counts.compare(settings, base_counts.decoded(b"".join(source.read(base_counts.ENTRY))))
