"""Prove a restored cluster that runs in scratch: heaps and indexes by ``pg_amcheck``, and a full logical read of each database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dr_toolkit import clock, process
from dr_toolkit.errors import ProgramError, TargetError
from dr_toolkit.postgres import scratch_places, server
from dr_toolkit.postgres.connection import ConnectionSettings, credentials
from dr_toolkit.postgres.tools import Tools

AMCHECK = "pg_amcheck"
_AMCHECK_FROM = 14
_READ = 1 << 20
_LINES = 5


@dataclass(slots=True)
class Proof:
    """What was looked at.

    Attributes:
        databases: that were read whole.
        bytes_read: of their logical content.
        amcheck: whether ``pg_amcheck`` ran.
        failures: in words.
        notes: what could not be looked at, in words.
        seconds: by stage.
    """

    databases: int = 0
    bytes_read: int = 0
    amcheck: bool = False
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


@contextmanager
def scratch_directory() -> Iterator[tuple[Path, str | None]]:
    """A private place for a cluster, and the user to run it as; gone when the block ends."""
    user = scratch_places.unprivileged_user()
    place = scratch_places.Place(user)
    try:
        yield place.directory / "data", user
    finally:
        place.remove()


def prove(settings: ConnectionSettings, tools: Tools) -> Proof:
    """Look at every database of the running cluster.

    Raises:
        TargetError: it went away.
    """
    proof = Proof()
    with closing(server.connect(settings)) as session:
        names = [
            str(name)
            for (name,) in server.query(
                session, "SELECT datname::text FROM pg_database WHERE datallowconn ORDER BY 1"
            )
        ]
    began = clock.monotonic()
    _amcheck(settings, tools, proof)
    proof.seconds["amcheck"] = clock.monotonic() - began
    began = clock.monotonic()
    for name in names:
        _read(settings.for_database(name), tools, name, proof)
    proof.seconds["read"] = clock.monotonic() - began
    return proof


def _amcheck(settings: ConnectionSettings, tools: Tools, proof: Proof) -> None:
    if tools.major < _AMCHECK_FROM or not tools.has((AMCHECK,)):
        proof.notes.append(
            f"pg_amcheck is not there for PostgreSQL {tools.major}: heaps and indexes were only read"
        )
        return
    argv = [
        tools.program(AMCHECK),
        *(
            "--all",
            "--install-missing=pg_catalog",
            "--heapallindexed",
            "--no-password",
            f"--maintenance-db={settings.database}",
        ),
    ]
    with credentials(settings) as env:
        told = process.run(argv, env=env | dict(tools.env), check=False)
    if "is not available" in told.stderr:
        proof.notes.append("the extension amcheck is not installed here: heaps and indexes were only read")
        return
    proof.amcheck = True
    if told.returncode != 0:
        said = (told.stdout.decode("utf-8", "replace") + told.stderr).splitlines()
        proof.failures += [f"pg_amcheck: {line.strip()}" for line in said[:_LINES]] or ["pg_amcheck failed"]


def _read(settings: ConnectionSettings, tools: Tools, name: str, proof: Proof) -> None:
    argv = [tools.program("pg_dump"), "--format=plain", "--no-password"]
    with credentials(settings) as env, process.Pipe(argv, env=env | dict(tools.env)) as pipe:
        if pipe.stdout is None:
            raise TargetError("pg_dump has no output", on=name)
        while data := pipe.stdout.read(_READ):
            proof.bytes_read += len(data)
        try:
            pipe.finish()
        except ProgramError as error:
            proof.failures.append(f'the database "{name}" cannot be read whole: {error.message}')
            return
    proof.databases += 1
