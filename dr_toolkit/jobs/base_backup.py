"""Take one snapshot of a whole cluster (``postgres-base``)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dr_toolkit import clock, errors, log
from dr_toolkit.config import ComponentConfig, Config, PostgresBaseConfig
from dr_toolkit.jobs import base_plan, opening
from dr_toolkit.jobs.kinds import Source
from dr_toolkit.log import Progress
from dr_toolkit.postgres import (
    base_backup,
    base_checks,
    base_counts,
    base_manifest,
    base_method,
    base_slot,
    server,
    server_facts,
    tools,
)
from dr_toolkit.postgres.base_backup import BaseBackup
from dr_toolkit.postgres.base_checks import BaseFacts
from dr_toolkit.postgres.base_counts import Database
from dr_toolkit.postgres.base_increment import Unfit
from dr_toolkit.postgres.base_method import State
from dr_toolkit.postgres.base_overlay import FILES
from dr_toolkit.postgres.connection import ConnectionSettings
from dr_toolkit.postgres.tools import Tools
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot
from dr_toolkit.repository.writer import SnapshotWriter
from dr_toolkit.words import counted

_log = log.get("jobs.backup")


def take(
    config: Config,
    repository: Repository,
    name: str,
    component: ComponentConfig,
    *,
    full: bool,
    progress: Progress,
    audit: bool = False,
) -> Snapshot:
    """Read the cluster and commit.

    Args:
        config: the configuration.
        repository: where to.
        name: of the component.
        component: its configuration.
        full: compare with nothing.
        progress: told of what was read.
        audit: read the cluster whole, and hold it against what increments said.

    Raises:
        SourceError: the server is not fit, or the backup failed; no snapshot was made.
    """
    wanted = opening.expect(component, PostgresBaseConfig)
    settings = opening.source_settings(wanted, config)
    found, source, chosen, size, now = _look(settings)
    progress.start(size, name)
    run = Run(config, repository, name, wanted, settings, chosen, found, now, {**source}, progress, size)
    try:
        return _taken(run, full=full, refused="an audit was asked for" if audit else None)
    except Unfit as why:
        _log.warning("increment given up", component=name, reason=why.message)
        return _taken(run, full=full, refused=why.message)


@dataclass(frozen=True, slots=True)
class Run:
    """What one backup works with."""

    config: Config
    repository: Repository
    name: str
    wanted: PostgresBaseConfig
    settings: ConnectionSettings
    tools: Tools
    found: BaseFacts
    now: State | None
    source: dict[str, Any]
    progress: Progress
    size: int | None


def _taken(run: Run, *, full: bool, refused: str | None) -> Snapshot:
    """Take the snapshot; ``refused`` says why an increment of the same run was given up."""
    with SnapshotWriter(
        run.repository, run.name, run.wanted.kind, full=full, ordered=False, read_back=FILES + "pg_wal/"
    ) as writer:
        _log.info("started", component=run.name, parent=writer.parent.id if writer.parent else None)
        plan = base_plan.plan(run.repository, writer, run.settings, run.now, run.wanted.audit_every, refused)
        with (
            _counted(run) as counts,
            base_slot.held_wal(run.settings, run.wanted.max_wal_kept, run.size) as held,
        ):
            made = base_backup.read_cluster(
                run.settings,
                writer,
                run.tools,
                segment_size=run.found.segment_size,
                checkpoint=run.wanted.checkpoint,
                max_rate=run.wanted.max_rate,
                on_bytes=run.progress.advance,
                files=plan.files,
                increment_of=plan.manifest,
                held=held,
            )
        _keep_counts(run, writer, counts.result() if counts else [], made)
        _log.info("source read", component=run.name, bytes=writer.bytes_source, method=plan.method)
        warnings = [*run.settings.warnings, *base_checks.warnings(run.found)]
        if made.damaged:
            warnings.append(f"the server found damaged pages: {made.damaged}")
        plan.settle(run.settings, made.ranges[0].start)
        plan.keep_notes(writer, made.manifest)
        return writer.commit(
            {
                **run.source,
                "base": {**_base(run.found, made, held.moment(made.target.end)), **plan.document()},
            },
            warnings,
            status="damaged" if made.damaged else "good",
            found_damaged=plan.damaged(writer.snapshots),
        )


@contextmanager
def _counted(run: Run) -> Iterator[Future[list[Database]] | None]:
    """Rows are counted while the backup is under way, where they are to be counted."""
    if not run.wanted.count_rows:
        yield None
        return
    with ThreadPoolExecutor(1, thread_name_prefix="drctl-count") as pool:
        yield pool.submit(base_counts.before, run.settings, run.wanted.count_rows)


def _keep_counts(run: Run, writer: SnapshotWriter, counted: list[Database], made: BaseBackup) -> None:
    """Count again, and keep what the two counts say. What was seen only after the backup's end says nothing of it."""
    usable = [one for one in counted if base_manifest.parse_lsn(one.lsn) <= made.target.end]
    if not usable:
        return
    writer.begin(base_counts.ENTRY, "row-counts", cutting="private")
    writer.write(base_counts.encoded(base_counts.after(run.settings, usable)))
    writer.end({})


def objection(made: Snapshot) -> errors.DrctlError | None:
    """What an audit found, which is not the new snapshot's fault: the snapshots before it are not what they seem."""
    found = made.header.source["base"].get("audit") or {}
    if not found.get("unexplained"):
        return None
    [path, first, count], *_more = found["listed"]
    return errors.VerificationFailed(
        f"the audit found {counted(found['unexplained'], 'page that differs', 'pages that differ')} from what the increments said, "
        f"{count} of them in {path} from page {first} on",
        on=found["against"],
        hint="the increments before it are marked damaged; restore the new snapshot, or one that was read whole",
        unaffected=f'the new snapshot "{made.id}" was read whole and is good',
    )


def look(config: Config, component: ComponentConfig) -> Source:
    """What a backup would roughly read, and with which programs.

    Raises:
        SourceError: the server is not fit.
    """
    settings = opening.source_settings(opening.expect(component, PostgresBaseConfig), config)
    _found, _source, chosen, size, _now = _look(settings)
    return Source(settings.redacted(), size, chosen.directory)


def _look(settings: ConnectionSettings) -> tuple[BaseFacts, dict[str, Any], Tools, int | None, State | None]:
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
        source, size = server_facts.facts(session), base_checks.cluster_size(session)
        return found, source, chosen, size, base_method.state(session)


def _base(found: BaseFacts, made: BaseBackup, moment: datetime | None) -> dict[str, Any]:
    """What a restore must know, and reach: a place in WAL, on a timeline, and the time up to which all that was committed lies before it."""
    first, target = made.ranges[0], made.target
    return {
        "start_lsn": base_manifest.format_lsn(first.start),
        "end_lsn": base_manifest.format_lsn(target.end),
        "timeline": target.timeline,
        **({"time": clock.rfc3339(moment)} if moment else {}),
        "segment_size": found.segment_size,
        "wal_segments": len(made.wal),
        "files": made.files,
        "superuser": found.superuser,
        "max_prepared_transactions": found.max_prepared_transactions,
    }
