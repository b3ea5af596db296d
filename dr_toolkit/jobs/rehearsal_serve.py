"""Inside a scratch namespace: prove a dump, then keep its restored copy for a rehearsal, and say what its migration histories do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from dr_toolkit import clock, errors, log
from dr_toolkit.cluster import rehearsal_words
from dr_toolkit.config import Config, SecretRef, resolve_secret
from dr_toolkit.jobs import selection, verify
from dr_toolkit.jobs.verify import Result
from dr_toolkit.log import Progress
from dr_toolkit.postgres import rehearsal_database, restore_plan, sidecar
from dr_toolkit.postgres.connection import ConnectionSettings
from dr_toolkit.postgres.rehearsal_database import History
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.repository import Repository

KEY, PASSWORD = "DRCTL_REHEARSAL_KEY", "DRCTL_REHEARSAL_PASSWORD"
"""Variables: the key of what is said, and the throw-away password of the role that migrates."""
_STEP = 0.5
_REPEAT = 2.0

_log = log.get("jobs.rehearsal")


@dataclass(frozen=True, slots=True)
class Request:
    """What is kept.

    Attributes:
        component: of kind ``postgres-dump``.
        snapshot: its id.
        mark: of this run, for its evidence.
        seconds: how long the copy is kept at most.
    """

    component: str
    snapshot: str
    mark: str
    seconds: timedelta


def run(config: Config, repository: Repository, request: Request, progress: Progress) -> Result:
    """Prove the snapshot, store its evidence, then serve until the namespace is deleted or the time is over.

    Args:
        config: that of a scratch namespace.
        repository: opened with the ``read`` role.
        request: what is kept.
        progress: told of each stage of the proof.

    Returns:
        The proof's result; where it failed nothing was kept.

    Raises:
        ConfigError: this is no scratch namespace of a rehearsal.
        TargetError: the copy cannot be made ready.
    """
    if config.verify.scratch != "sidecar":
        raise errors.ConfigError(
            "this is what the Job in a scratch namespace runs; it needs the PostgreSQL beside it",
            hint="to try an upgrade, run: drctl pre-upgrade --rehearse",
        )
    key = resolve_secret(SecretRef(f"env:{KEY}")) or ""
    password = resolve_secret(SecretRef(f"env:{PASSWORD}")) or ""
    wanted = verify.Request((request.component,), "restore", snapshot=request.snapshot, mark=request.mark)
    [result] = verify.run(config, repository, wanted, progress)
    if result.passed:
        _keep(repository, request, key, password)
    return result


def _keep(repository: Repository, request: Request, key: str, password: str) -> None:
    snapshots, _damaged = repository.snapshots()
    own = [one for one in snapshots if one.header.component == request.component]
    found = selection.choose(own, request.component, snapshot_id=request.snapshot)
    with SnapshotReader(repository, found) as source:
        toc = restore_plan.toc_of(source)
    settings = sidecar.settings(
        os.environ.get("DRCTL_SCRATCH_SOCKET", "/run/drctl"),
        resolve_secret(SecretRef("env:DRCTL_SCRATCH_PASSWORD")) or "",
    )
    copy = rehearsal_database.prepare(settings, toc, password)
    there = settings.for_database(copy.database)
    first = rehearsal_database.histories(there)
    _say(key, {"stage": "serving", "database": copy.database, "role": copy.role, **_facts(0, first)})
    _watch(there, key, first, request.seconds.total_seconds())


def _watch(settings: ConnectionSettings, key: str, first: list[History], seconds: float) -> None:
    """Say every change at once, and every two seconds that we still look."""
    end = clock.monotonic() + seconds
    before, last, number = first, clock.monotonic(), 0
    while clock.monotonic() < end:
        clock.sleep(_STEP)
        try:
            now = rehearsal_database.histories(settings)
        except errors.DrctlError as error:
            _say(key, {"stage": "lost", "reason": error.message})
            return
        if now != before or clock.monotonic() - last > _REPEAT:
            before, last, number = now, clock.monotonic(), number + 1
            _say(key, {"stage": "watching", **_facts(number, now)})


def _facts(number: int, histories: list[History]) -> dict[str, Any]:
    return {"number": number, "histories": [one.document() for one in histories]}


def _say(key: str, word: dict[str, Any]) -> None:
    _log.info(rehearsal_words.EVENT, **rehearsal_words.say(key, word))
