"""Verification by restore: into a throw-away PostgreSQL of the right version, compared with the snapshot, removed whatever happens."""

from __future__ import annotations

import os
from typing import Any

from dr_toolkit import errors, log
from dr_toolkit.config import Config, SecretRef, resolve_secret
from dr_toolkit.log import Progress
from dr_toolkit.postgres import (
    compare,
    restore_needs,
    restore_plan,
    restore_verify,
    scratch_places,
    tools,
)
from dr_toolkit.postgres import sample as sampling
from dr_toolkit.postgres.compare import DumpFacts
from dr_toolkit.postgres.sample import Sample
from dr_toolkit.postgres.scratch import ScratchServer
from dr_toolkit.postgres.sidecar import Sidecar
from dr_toolkit.postgres.tools import Tools
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot

_log = log.get("jobs.verify")


def restore_check(
    config: Config, repository: Repository, found: Snapshot, progress: Progress
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Restore a dump into scratch and compare.

    Returns:
        What was checked (counts and seconds), failures, and harmless notes.

    Raises:
        Damaged, ObjectMissing: the snapshot's own objects are.
        SourceError: no server programs of the right major version are at hand.
        TargetError: there was no room, or the scratch server is gone; that says nothing of the snapshot.
    """
    return _check(config, repository, found, progress, None)


def sample_check(
    config: Config, repository: Repository, found: Snapshot, progress: Progress, sample: Sample
) -> tuple[dict[str, Any], list[str], list[str]]:
    """The same with a part of the rows; what is returned says exactly what was not looked at.

    Raises:
        UsageError: no table fits the patterns.
    """
    return _check(config, repository, found, progress, sample)


def _clients(major: int, programs: str | None) -> Tools:
    """Client programs from the configured place, or from anywhere: a server may come without any."""
    try:
        return tools.choose(major, programs)
    except errors.SourceError:
        if programs is None:
            raise
        return tools.choose(major)


def _check(
    config: Config, repository: Repository, found: Snapshot, progress: Progress, sample: Sample | None
) -> tuple[dict[str, Any], list[str], list[str]]:
    scratch_places.clean_leftovers()
    with SnapshotReader(repository, found) as source:
        toc = restore_plan.toc_of(source)
        major = restore_needs.major_of(toc.server_version)
        programs = config.verify.programs
        client = _clients(restore_needs.client_major(toc, major), programs)
        server = _server(config, major, client)
        _log.info("scratch", major=major, snapshot=found.id)
        expected = restore_verify.expected_facts(source, toc)
        _check_patterns(sample, expected)
        with server:
            try:
                report = restore_verify.verify_restore(
                    source, server, client, sample=sample, progress=progress
                )
            except errors.TargetError as error:
                if (trouble := server.trouble(error)) is not None:
                    raise trouble from error
                return {"server": toc.server_version}, [f"it does not restore: {error.message}"], []
    failures = compare.failures(report.differences)
    notes = [d.text for d in report.differences if d not in failures] + list(report.notes)
    if sample is None:
        checks = {**expected.counts(), "server": toc.server_version, "seconds": report.seconds}
    else:
        facts, sentence = sampling.statement(toc, sample, expected, report.restore.loaded)
        checks = {**facts, "statement": sentence, "server": toc.server_version, "seconds": report.seconds}
        notes.insert(0, sentence)
    return checks, [d.text for d in failures], notes


def _server(config: Config, major: int, client: Tools) -> ScratchServer | Sidecar:
    """The throw-away server: ours, or the one beside us that the Job of a scratch namespace has."""
    if config.verify.scratch != "sidecar":
        return ScratchServer(major, programs=config.verify.programs)
    password = resolve_secret(SecretRef("env:DRCTL_SCRATCH_PASSWORD"))
    place = os.environ.get("DRCTL_SCRATCH_SOCKET", "/run/drctl")
    return Sidecar(major, tools=client, socket=place, password=password or "")


def _check_patterns(sample: Sample | None, expected: DumpFacts) -> None:
    if sample is not None and sample.tables and not sample.matched(expected):
        raise errors.UsageError(
            f"no table of the snapshot fits {', '.join(sample.tables)}",
            hint="write schema.table, or a pattern such as 'public.*'; see: drctl show SNAPSHOT",
            unaffected="nothing was restored",
        )
