"""Take one snapshot of a whole cluster (``postgres-base``)."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from dr_toolkit import errors, log
from dr_toolkit.config import ComponentConfig, Config, PostgresBaseConfig
from dr_toolkit.jobs import opening
from dr_toolkit.jobs.kinds import Source
from dr_toolkit.log import Progress
from dr_toolkit.postgres import base_backup, base_checks, base_manifest, server, server_facts, tools
from dr_toolkit.postgres.base_backup import BaseBackup
from dr_toolkit.postgres.base_checks import BaseFacts
from dr_toolkit.postgres.connection import ConnectionSettings
from dr_toolkit.postgres.tools import Tools
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot
from dr_toolkit.repository.writer import SnapshotWriter

_log = log.get("jobs.backup")


def take(
    config: Config,
    repository: Repository,
    name: str,
    component: ComponentConfig,
    *,
    full: bool,
    progress: Progress,
) -> Snapshot:
    """Read the cluster and commit.

    Raises:
        SourceError: the server is not fit, or the backup failed; no snapshot was made.
    """
    wanted = opening.expect(component, PostgresBaseConfig)
    settings = opening.source_settings(wanted, config)
    found, source, chosen, size = _look(settings)
    progress.start(size, name)
    with SnapshotWriter(repository, name, wanted.kind, full=full, ordered=False) as writer:
        _log.info("started", component=name, parent=writer.parent.id if writer.parent else None)
        with base_backup.held_wal(settings):
            made = base_backup.read_cluster(
                settings,
                writer,
                chosen,
                segment_size=found.segment_size,
                checkpoint=wanted.checkpoint,
                max_rate=wanted.max_rate,
                on_bytes=progress.advance,
            )
        _log.info("source read", component=name, bytes=writer.bytes_source)
        warnings = [*settings.warnings, *base_checks.warnings(found)]
        if made.damaged:
            warnings.append(f"the server found damaged pages: {made.damaged}")
        return writer.commit(
            {**source, "base": _base(found, made)}, warnings, status="damaged" if made.damaged else "good"
        )


def look(config: Config, component: ComponentConfig) -> Source:
    """What a backup would roughly read, and with which programs.

    Raises:
        SourceError: the server is not fit.
    """
    settings = opening.source_settings(opening.expect(component, PostgresBaseConfig), config)
    _found, _source, chosen, size = _look(settings)
    return Source(settings.redacted(), size, chosen.directory)


def _look(settings: ConnectionSettings) -> tuple[BaseFacts, dict[str, Any], Tools, int | None]:
    with closing(server.connect(settings)) as session:
        server.set_timeouts(session)
        found = base_checks.base_facts(session)
        if reasons := base_checks.problems(found):
            raise errors.SourceError(
                f"a base backup is not possible: {'; '.join(reasons)}",
                on=settings.redacted(),
                hint="change the server's settings, or use the kind postgres-dump",
                unaffected="nothing was started",
            )
        version = session.info.server_version
        chosen = tools.choose(
            version, settings.programs, tls=settings.tls_required, needs=(base_backup.PROGRAM,)
        )
        return found, server_facts.facts(session), chosen, base_checks.cluster_size(session)


def _base(found: BaseFacts, made: BaseBackup) -> dict[str, Any]:
    """What a restore must know, and reach."""
    first, target = made.ranges[0], made.target
    return {
        "start_lsn": base_manifest.format_lsn(first.start),
        "end_lsn": base_manifest.format_lsn(target.end),
        "timeline": target.timeline,
        "segment_size": found.segment_size,
        "wal_segments": len(made.wal),
        "files": made.files,
        "superuser": found.superuser,
        "max_prepared_transactions": found.max_prepared_transactions,
        "method": "full",
    }
