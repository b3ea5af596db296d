"""Prove a restored cluster that runs in scratch: heaps and indexes by ``pg_amcheck``, and a full logical read of each database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from dr_toolkit import clock, process
from dr_toolkit.errors import ProgramError, SourceError, TargetError
from dr_toolkit.postgres import base_looks, scratch_places, server
from dr_toolkit.postgres.base_looks import Proof
from dr_toolkit.postgres.connection import ConnectionSettings, credentials
from dr_toolkit.postgres.tools import Tools, beside

AMCHECK = "pg_amcheck"
DUMP = "pg_dump"
_AMCHECK_FROM = 14
_READ = 1 << 20
_LINES = 5


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
    _amcheck(settings, names, tools, proof)
    proof.seconds["amcheck"] = clock.monotonic() - began
    began = clock.monotonic()
    base_looks.visibility(settings, names, proof)
    proof.seconds["visibility"] = clock.monotonic() - began
    began = clock.monotonic()
    readers = beside(tools, (DUMP,))
    for name in names:
        _read(settings.for_database(name), readers, name, proof)
    proof.seconds["read"] = clock.monotonic() - began
    return proof


def _amcheck(settings: ConnectionSettings, names: Sequence[str], tools: Tools, proof: Proof) -> None:
    if tools.major < _AMCHECK_FROM:
        base_looks.indexes(settings, names, proof)
        return
    try:
        clients = beside(tools, (AMCHECK,))
    except SourceError:
        proof.notes.append("pg_amcheck is not installed here: heaps and indexes were only read")
        return
    argv = [
        clients.program(AMCHECK),
        *("--all", "--install-missing=pg_catalog", "--heapallindexed", "--no-password"),
        f"--maintenance-db={settings.database}",
    ]
    with credentials(settings) as env:
        told = process.run(argv, env=env | dict(clients.env), check=False)
    if "is not available" in told.stderr:
        proof.notes.append("the extension amcheck is not installed here: heaps and indexes were only read")
        return
    proof.amcheck = True
    if told.returncode != 0:
        said = (told.stdout.decode("utf-8", "replace") + told.stderr).splitlines()
        proof.failures += [f"pg_amcheck: {line.strip()}" for line in said[:_LINES]] or ["pg_amcheck failed"]


def _read(settings: ConnectionSettings, tools: Tools, name: str, proof: Proof) -> None:
    argv = [tools.program(DUMP), "--format=plain", "--no-password"]
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
