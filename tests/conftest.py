"""The real servers, started when the first test asks for one and stopped at the end of the run.

All come from packages, so a server that does not start is a failure everywhere and never a skip.
"""

from __future__ import annotations

import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devstack.bao import BaoServer
from devstack.postgres import PostgresServer
from devstack.s3 import S3Server
from dr_toolkit import log


def pytest_configure() -> None:
    """Programs that tests start hear Ctrl-C, also where these tests run in a shell's background, which ignores it for all below."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def servers_root() -> Iterator[Path]:
    """The directory of all servers of this run.

    It is short because the path of a Unix socket is limited, and open because root starts PostgreSQL as another user.
    """
    root = Path(tempfile.mkdtemp(prefix="drctl-test-"))
    root.chmod(0o755)
    yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(servers_root: Path) -> Iterator[PostgresServer]:
    """PostgreSQL 18 without TLS."""
    with PostgresServer(servers_root / "pg18") as server:
        yield server


@pytest.fixture(scope="session")
def postgres17(servers_root: Path) -> Iterator[PostgresServer]:
    """PostgreSQL 17 without TLS."""
    with PostgresServer(servers_root / "pg17", version=17) as server:
        yield server


@pytest.fixture(scope="session")
def postgres17_tls(servers_root: Path) -> Iterator[PostgresServer]:
    """PostgreSQL 17 that demands TLS over TCP, with a private authority."""
    with PostgresServer(servers_root / "pg17tls", version=17, tls=True) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(servers_root: Path) -> Iterator[S3Server]:
    """An S3 server over plain HTTP."""
    with S3Server(servers_root / "s3") as server:
        yield server


@pytest.fixture(scope="session")
def s3_server_tls(servers_root: Path) -> Iterator[S3Server]:
    """An S3 server over HTTPS, with a private authority."""
    with S3Server(servers_root / "s3tls", tls=True) as server:
        yield server


@pytest.fixture(scope="session")
def bao_server(servers_root: Path) -> Iterator[BaoServer]:
    """OpenBao with the transit engine."""
    with BaoServer(servers_root / "bao") as server:
        yield server


@pytest.fixture
def new_database(postgres: PostgresServer) -> Iterator[Callable[[], str]]:
    """Makes fresh empty databases on ``postgres``; all are dropped after the test."""
    made: list[str] = []

    def make() -> str:
        name = f"test_{secrets.token_hex(6)}"
        postgres.create_database(name)
        made.append(name)
        return name

    yield make
    for name in made:
        postgres.drop_database(name)


@pytest.fixture
def database(new_database: Callable[[], str]) -> str:
    """The name of a fresh empty database on ``postgres``."""
    return new_database()


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    """The name of a fresh bucket on ``s3_server``."""
    name = f"test-{secrets.token_hex(6)}"
    s3_server.create_bucket(name)
    return name


@pytest.fixture
def tmp_repository_dir(tmp_path: Path) -> Path:
    """A path, not made yet, for a repository in a directory."""
    return tmp_path / "repository"


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """A command that ran within this process must not leave its log switched on for the next test."""
    yield
    log.silence()
