"""Take one snapshot of a database (``postgres-dump``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from dr_toolkit import log
from dr_toolkit.config import ComponentConfig, Config, PostgresDumpConfig
from dr_toolkit.jobs import opening
from dr_toolkit.jobs.kinds import Source
from dr_toolkit.log import Progress
from dr_toolkit.postgres import dump, server, server_facts, tools
from dr_toolkit.postgres.connection import ConnectionSettings
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot

_log = log.get("jobs.backup")
_LOCK_WAIT_S = 2.0


def look(config: Config, component: ComponentConfig) -> Source:
    """Where the dump would come from, and the database's size."""
    settings = opening.source_settings(opening.expect(component, PostgresDumpConfig), config)
    with _session(settings) as session:
        chosen = tools.choose(session.info.server_version, settings.programs, tls=settings.tls_required)
        return Source(settings.redacted(), server_facts.data_size(session), chosen.directory)


def take(
    config: Config,
    repository: Repository,
    name: str,
    component: ComponentConfig,
    *,
    full: bool,
    progress: Progress,
) -> Snapshot:
    """Dump the database and commit.

    Raises:
        SourceError: the server refused, or the dump failed; no snapshot was made.
    """
    wanted = opening.expect(component, PostgresDumpConfig)
    settings = opening.source_settings(wanted, config)
    with _session(settings) as session:
        source = server_facts.facts(session)
        chosen = tools.choose(session.info.server_version, settings.programs, tls=settings.tls_required)
        progress.start(server_facts.data_size(session), name)
    began = (
        repository.store.now()
    )  # before the dump's own moment: a snapshot must not claim to be newer than its data
    with dump.running(
        settings, chosen, encoding=source["encoding"], check_source=wanted.check_source
    ) as running:
        # pg_dump asks the server for a while before it writes: time enough for these imports, too.
        from dr_toolkit.repository.writer import SnapshotWriter  # noqa: PLC0415

        with SnapshotWriter(repository, name, wanted.kind, full=full, began=began) as writer:
            _stage("started", component=name, parent=writer.parent.id if writer.parent else None)
            made = running.write(writer, on_bytes=progress.advance)
            _stage("source read", component=name, bytes=writer.bytes_source)
            facts = {**source, "tables": len(made.archive.tables), "checked": made.checked}
            taken = writer.commit(facts, made.warnings)
            _stage("committed", component=name, snapshot=taken.id)
            return taken


@contextmanager
def _session(settings: ConnectionSettings) -> Iterator[server.Connection]:
    """A session for a few questions, which no setting of the role and no locked table may hold up."""
    with closing(server.connect(settings)) as session:
        server.set_timeouts(session, lock_s=_LOCK_WAIT_S)
        yield session


def _stage(event: str, **fields: Any) -> None:
    """One line for each stage that a run has reached: an interrupted one can be followed in the log."""
    _log.info(event, **fields)
