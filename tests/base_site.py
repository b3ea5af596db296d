"""What tests of whole clusters share: a configured repository, backups by the write role alone, and restored clusters to ask."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devstack.postgres import PostgresServer
from dr_toolkit.config import Config, load
from dr_toolkit.jobs import backup, base_restore, initialise, opening
from dr_toolkit.jobs.request import Request
from dr_toolkit.keys import key_file
from dr_toolkit.log import NoProgress
from dr_toolkit.postgres import base_files, base_start, server
from dr_toolkit.postgres.base_start import Target
from dr_toolkit.repository.reader import SnapshotReader

if TYPE_CHECKING:
    from dr_toolkit.postgres.connection import ConnectionSettings
    from dr_toolkit.repository.snapshot import Snapshot

COMPONENT = "base"


def open_directory(prefix: str = "drctl-base-") -> Path:
    """A directory that the server's user can enter, as pytest's own is not."""
    path = Path(tempfile.mkdtemp(prefix=prefix))
    path.chmod(0o755)
    return path


@contextmanager
def unsynced() -> Iterator[None]:
    """A test's files need not outlive a power cut: on a busy machine that is most of its time."""
    fsync, sync = os.fsync, os.sync
    os.fsync = lambda _file: None  # type: ignore[assignment]
    os.sync = lambda: None
    try:
        yield
    finally:
        os.fsync, os.sync = fsync, sync


class BaseSite:
    """A repository in a directory and a server; everything runs in this process, but for ``drctl``.

    Args:
        root: where.
        source: the server.
        dumps: databases that are dumped, too, by component.
        fields: more lines of the component.
    """

    def __init__(
        self, root: Path, source: PostgresServer, dumps: Mapping[str, str] | None = None, **fields: object
    ) -> None:
        self.root, self.source = root, source
        os.environ["DRCTL_TEST_DB"] = source.password
        lines = "".join(f"\n    {name}: {value}" for name, value in fields.items())
        text = f"""
version: 1
repository: {{url: "file://{root}/repository"}}
keys:
  write: {{type: key-file, role: write, path: {root}/write.key}}
  read: {{type: key-file, role: read, path: {root}/read.key}}
components:
  {COMPONENT}:
    kind: postgres-base
    connection: {{host: {source.host}, port: {source.port}, database: postgres, user: postgres, password: "env:DRCTL_TEST_DB"}}{lines}{_dumps(source, dumps or {})}
verify: {{programs: "{source._server_programs}"}}
"""
        for role in ("write", "read"):
            key_file.generate(root / f"{role}.key")
        self.config = self._load("people", text)
        initialise.run(self.config)
        # A CronJob's: nothing in it can read content.
        self.job = self._load("job", "\n".join(x for x in text.split("\n") if "role: read" not in x))

    def _load(self, name: str, text: str) -> Config:
        path = self.root / f"{name}.yaml"
        path.write_text(text)
        return load(path)

    def drctl(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run the command line, and give the document that it prints."""
        program = Path(sys.executable).with_name("drctl")
        done = subprocess.run(
            [program, "-c", self.root / "people.yaml", *arguments, "--output", "json"],
            env={"PATH": os.defpath, "LANG": "C.UTF-8", "DRCTL_TEST_DB": self.source.password},
            capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def outcome(self, **options: Any) -> backup.Outcome:
        """One run with the write role."""
        with unsynced(), opening.opened_repository(self.job) as repository:
            return backup.run(self.job, repository, backup.Request(**options), NoProgress())

    def backup(self, **options: Any) -> Snapshot:
        """One good snapshot."""
        outcome = self.outcome(**options)
        assert not outcome.failures, outcome.failures
        return outcome.snapshots[0]

    def restore(self, taken: Snapshot, *, start: bool = True) -> Path:
        """Write a snapshot's cluster; ``start`` has it verified, started and asked as users have it."""
        place = self.root / f"restored-{taken.id}"
        request = Request(COMPONENT, snapshot=taken.id, to=str(place), start=start)
        with unsynced(), opening.opened_repository(self.config) as repository:
            prepared = base_restore.prepare(self.config, repository, request)
            base_restore.run(self.config, repository, prepared, NoProgress(), end_sessions=False)
        return place

    @contextmanager
    def running(self, taken: Snapshot) -> Iterator[ConnectionSettings]:
        """A restored cluster that answers; gone when the block ends."""
        place = self.root / f"running-{taken.id}"
        tools = base_restore.programs_for(self.config, taken)
        with (
            opening.opened_repository(self.config) as repository,
            SnapshotReader(repository, taken) as reader,
        ):
            base_files.write_cluster(reader, place, taken.id, NoProgress())
        base_start.verify_files(tools, place)
        base_files.finish(place)
        user = base_restore.owner(place)
        if user is not None:
            base_files.give_to(place, user)
        try:
            target = Target.of(taken.header.source)
            with base_start.started(tools, place, target, user, lasting=False) as settings:
                yield settings
        finally:
            shutil.rmtree(place, ignore_errors=True)


@contextmanager
def in_place_of(server: PostgresServer, restored: Path) -> Iterator[None]:
    """The restored cluster in the source's place, as a person would start it; the source comes back when the block ends."""
    data = server.data
    server.stop()
    kept = data.rename(data.with_name("data.source"))
    shutil.copytree(restored, data, symlinks=True)
    for path in (data, *data.rglob("*")):
        shutil.chown(path, kept.owner(), kept.group())
    try:
        server.start()
        yield
    finally:
        server.stop()
        shutil.rmtree(data)
        kept.rename(data)
        server.start()


def _dumps(source: PostgresServer, dumps: Mapping[str, str]) -> str:
    return "".join(
        f"""
  {name}:
    kind: postgres-dump
    connection: {{host: {source.host}, port: {source.port}, database: {json.dumps(database)}, user: postgres, password: "env:DRCTL_TEST_DB"}}"""
        for name, database in dumps.items()
    )


def ask(
    settings: ConnectionSettings, query: str, database: str | None = None, before: Sequence[str] = ()
) -> list[tuple[Any, ...]]:
    """Rows of a query in a restored cluster, after other statements of the same session."""
    wanted = settings.for_database(database) if database else settings
    with server.connect(wanted) as session:
        for statement in before:
            server.query(session, statement)
        return server.query(session, query)


def base_of(taken: Snapshot) -> dict[str, Any]:
    """What a snapshot says of its own making."""
    return taken.header.source["base"]
