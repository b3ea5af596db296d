"""What the tests of damage share: a database to protect, and sites with a repository each."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devstack import data, sql
from devstack.postgres import PostgresServer
from devstack.s3 import S3Server
from tests.faults.site import Site, Source, end_all

ATTACHMENTS = """
    CREATE TABLE platform.attachments AS
    SELECT n AS id, (SELECT string_agg(sha512(convert_to(n || ' ' || m, 'UTF8')), '') FROM generate_series(1, 1024) AS m) AS content
    FROM generate_series(1, 640) AS n
"""
"""40 MB."""


def source_on(server: PostgresServer, database: str) -> Source:
    """A database of a server, as its superuser sees it."""
    return Source(server.host, server.port, server.superuser, server.password, database, str(server.bin_dir))


@pytest.fixture(scope="session")
def source(postgres: PostgresServer) -> Source:
    """A database like Console's, with attachments that do not compress, so that it gives several packs."""
    dsn = postgres.create_database("faults_large")
    data.fill_console_like(dsn, scale=0.2)
    sql.execute(dsn, ATTACHMENTS)
    return source_on(postgres, "faults_large")


@pytest.fixture(scope="session")
def small_source(postgres: PostgresServer) -> Source:
    """A database like Console's of a few MB."""
    data.fill_console_like(postgres.create_database("faults_small"), scale=0.05)
    return source_on(postgres, "faults_small")


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory of the test's own, removed at its end."""
    made = Path(tempfile.mkdtemp(prefix="drctl-faults-"))
    yield made
    end_all()
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def new_site(root: Path) -> Callable[[Source], Site]:
    """Makes sites with a fresh repository in a directory."""

    def make(source: Source, *, grace: str = "7d") -> Site:
        place = root / secrets.token_hex(4)
        return Site(place, f"file://{place}/repository", source).init(grace)

    return make


@pytest.fixture(scope="session")
def full_size(source: Source, tmp_path_factory: pytest.TempPathFactory) -> int:
    """What a first backup of ``source`` stores."""
    place = tmp_path_factory.mktemp("full")
    made = Site(place / "site", f"file://{place}/repository", source).init().backup()
    shutil.rmtree(place)
    return made["bytes_stored"]


@pytest.fixture
def site(new_site: Callable[[Source], Site], source: Source) -> Site:
    """A fresh repository in a directory for the large database."""
    return new_site(source)


@pytest.fixture
def small_site(new_site: Callable[[Source], Site], small_source: Source) -> Site:
    """A fresh repository in a directory for the small database."""
    return new_site(small_source)


def s3_block(endpoint: str) -> dict[str, str]:
    """The configuration's ``s3`` block; the keys come from the environment."""
    return {
        "endpoint": endpoint,
        "region": "us-east-1",
        "access_key_id": "env:FAULTS_S3_KEY",
        "secret_access_key": "env:FAULTS_S3_SECRET",
    }


@pytest.fixture
def new_s3_site(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Site]:
    """Makes sites with a fresh repository in a bucket."""

    def make(server: S3Server, source: Source, *, endpoint: str | None = None, grace: str = "7d") -> Site:
        bucket = f"faults-{secrets.token_hex(6)}"
        server.create_bucket(bucket)
        monkeypatch.setenv("FAULTS_S3_KEY", server.access_key)
        monkeypatch.setenv("FAULTS_S3_SECRET", server.secret_key)
        place = root / secrets.token_hex(4)
        return Site(place, f"s3://{bucket}/dr", source, s3_block(endpoint or server.endpoint)).init(grace)

    return make
