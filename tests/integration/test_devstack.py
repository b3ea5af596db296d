"""The servers that all other tests rest on."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import psycopg
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from devstack import programs, sql, web
from devstack.bao import BaoServer
from devstack.postgres import CERTIFICATE_USER, PostgresServer, _copy_programs
from devstack.s3 import S3Server
from devstack.stack import Stack
from dr_toolkit.errors import ProgramError

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def own_postgres(servers_root: Path) -> Iterator[PostgresServer]:
    """A server that a test may break."""
    with PostgresServer(servers_root / f"pg{secrets.token_hex(3)}") as server:
        yield server


@pytest.fixture
def own_s3(servers_root: Path) -> Iterator[S3Server]:
    """A server that a test may break."""
    with S3Server(servers_root / f"s3{secrets.token_hex(3)}") as server:
        yield server


def listening_addresses(pid: int) -> set[str]:
    return {
        connection.laddr.ip
        for connection in psutil.Process(pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    }


def wait_until_gone(pids: list[int], seconds: float) -> list[int]:
    deadline = time.monotonic() + seconds
    while (left := [pid for pid in pids if programs.alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


@pytest.mark.parametrize("ending", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_no_server_outlives_the_process_that_started_it(servers_root: Path, ending: str) -> None:
    """Not even after kill -9, in the middle of a query; a polite end also leaves no file behind."""
    place = servers_root / f"outlive-{ending}"
    place.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "devstack", "up"],
        cwd=REPOSITORY,
        env=os.environ | {"TMPDIR": str(place)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process, process.stdout:
        lines = [process.stdout.readline() for _ in range(11)]
        variables = dict(line.removeprefix("export ").rstrip().split("=", 1) for line in lines)
        with psycopg.connect(variables["DATABASE_URL"].strip("'"), autocommit=True) as busy:
            busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 1000000000)")
            pids = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
            assert len(pids) > 7
            process.send_signal(signal.Signals[ending])
            process.wait(30)
            assert wait_until_gone(pids, 10) == []
            busy.pgconn.finish()
    if ending != "SIGKILL":
        assert list(place.iterdir()) == []


def test_postgres_is_the_version_asked_for(postgres: PostgresServer, postgres17: PostgresServer) -> None:
    """Server and programs are of one major version."""
    for server in (postgres, postgres17):
        assert sql.rows(server.dsn(), "SHOW server_version")[0][0].startswith(f"{server.version}.")
        assert f" {server.version}." in programs.run([str(server.bin_dir / "pg_dump"), "--version"])


def test_postgres_listens_on_loopback_only(postgres: PostgresServer) -> None:
    """Nobody on the network reaches it."""
    assert listening_addresses(postgres.pid) == {"127.0.0.1"}


def test_postgres_asks_for_the_password(postgres: PostgresServer) -> None:
    """A wrong password is refused, over TCP and over the socket."""
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        sql.rows(postgres.dsn(password="wrong"), "SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="password"):
        sql.rows(f"host={postgres.socket_dir} port={postgres.port} user=postgres", "SELECT 1")


def test_postgres_survives_a_crash(own_postgres: PostgresServer) -> None:
    """SIGKILL ends every process of the server; committed rows are there after the next start, on the same port."""
    dsn = own_postgres.create_database('odd "name" / 100%')
    sql.execute(dsn, "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
    pids = [own_postgres.pid, *(child.pid for child in psutil.Process(own_postgres.pid).children())]
    own_postgres.kill()
    assert not any(map(programs.alive, pids))
    own_postgres.start()
    assert sql.rows(dsn, "SELECT count(*) FROM t") == [(1000,)]


def test_postgres_takes_settings_at_restart(own_postgres: PostgresServer) -> None:
    """A setting that needs a restart is in force after it; the data stay."""
    own_postgres.settings["max_connections"] = "33"
    own_postgres.settings["application_name"] = r"it's \ odd"
    own_postgres.restart()
    assert sql.rows(own_postgres.dsn(), "SHOW max_connections") == [("33",)]
    assert sql.rows(own_postgres.dsn(), "SHOW application_name") == [(r"it's \ odd",)]


def test_postgres_in_a_closed_or_deep_directory(tmp_path: Path) -> None:
    """A root that the server's user cannot reach, or that is too deep for a socket, works all the same."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.parent.mkdir(mode=0o700)
    with PostgresServer(deep) as server:
        assert sql.rows(
            f"host={server.socket_dir} port={server.port} user=postgres password={server.password}",
            "SELECT 1",
        )
        places = (server.root, server.socket_dir)
    assert not any(place.exists() for place in places)


@pytest.mark.parametrize("version", [18, 17])
def test_copied_programs_work(servers_root: Path, version: int) -> None:
    """Programs below a closed directory are copied with their libraries, readable by everybody."""
    server = PostgresServer(servers_root / f"copy{version}", version=version)
    server._server_programs = _copy_programs(server.bin_dir, server.root / "programs")
    assert programs.open_to_all(server._server_programs / "postgres")
    with server:
        assert sql.rows(server.dsn(), "SELECT 1") == [(1,)]


def test_postgres_that_cannot_start_says_why(servers_root: Path) -> None:
    """The end of the server's log is in the error."""
    server = PostgresServer(servers_root / "broken", settings={"shared_buffers": "nonsense"})
    with pytest.raises(ProgramError, match=r"(?s)ended while it was starting.*nonsense"):
        server.start()
    server.remove()


def test_tls_is_demanded_and_its_authority_is_private(postgres17_tls: PostgresServer) -> None:
    """Without TLS, or with another authority, there is no connection."""
    assert sql.rows(postgres17_tls.dsn(), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [
        (True,)
    ]
    plain = postgres17_tls.dsn().replace("sslmode=verify-full", "sslmode=disable")
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        sql.rows(plain, "SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        sql.rows(postgres17_tls.dsn().partition("&")[0] + "&sslrootcert=system", "SELECT 1")


def test_a_user_logs_in_with_a_client_certificate_only(postgres17_tls: PostgresServer) -> None:
    """The certificate must be of the authority and carry the user's name."""
    own, own_key = postgres17_tls.client_certificate()
    other, other_key = postgres17_tls.client_certificate("somebody")
    base = postgres17_tls.dsn(user=CERTIFICATE_USER)
    assert sql.rows(f"{base}&sslcert={own}&sslkey={own_key}", "SELECT current_user") == [(CERTIFICATE_USER,)]
    with pytest.raises(psycopg.OperationalError, match="certificate authentication failed"):
        sql.rows(f"{base}&sslcert={other}&sslkey={other_key}", "SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="valid client certificate"):
        sql.rows(base, "SELECT 1")


def test_s3_is_on_loopback_only_and_asks_for_keys(s3_server: S3Server, bucket: str) -> None:
    """Nobody on the network reaches any of its ports, and nobody without keys reads."""
    assert listening_addresses(s3_server.pid) == {"127.0.0.1"}
    assert web.request(f"{s3_server.endpoint}/{bucket}")[0] == 403
    assert s3_server.secret_key not in " ".join(psutil.Process(s3_server.pid).cmdline())


def test_s3_creates_an_object_once(s3_server: S3Server, bucket: str) -> None:
    """Of several conditional writes at the same time exactly one wins."""
    clients = [s3_server.client() for _ in range(4)]

    def wins(number: int, key: str) -> bool:
        try:
            clients[number].put_object(Bucket=bucket, Key=key, Body=b"%d" % number, IfNoneMatch="*")
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in {409, 412}:
                return False
            raise
        return True

    with ThreadPoolExecutor(4) as pool:
        for turn in range(10):
            assert sum(pool.map(wins, range(4), [f"key{turn}"] * 4)) == 1
    for client in clients:
        client.close()


def test_s3_keeps_versions_and_locks(s3_server: S3Server) -> None:
    """A locked version cannot be deleted; a delete without a version leaves it in place."""
    name = f"locked-{secrets.token_hex(4)}"
    s3_server.create_bucket(name, object_lock=True)
    client = s3_server.client()
    until = datetime.now(UTC) + timedelta(hours=1)
    lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
    version = client.put_object(Bucket=name, Key="k", Body=b"1", **lock)["VersionId"]
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(Bucket=name, Key="k", VersionId=version)
    client.delete_object(Bucket=name, Key="k")
    assert client.get_object(Bucket=name, Key="k", VersionId=version)["Body"].read() == b"1"
    client.close()


def test_s3_comes_back_with_its_objects(own_s3: S3Server) -> None:
    """Stop, kill and pause lose nothing, and the address stays."""
    own_s3.create_bucket("kept", versioned=True)
    client = own_s3.client()
    client.put_object(Bucket="kept", Key="k", Body=b"1" * 100_000)
    own_s3.stop()
    with pytest.raises(EndpointConnectionError):
        client.list_buckets()
    own_s3.start()
    own_s3.kill()
    own_s3.start()
    own_s3.pause()
    with pytest.raises(TimeoutError):
        web.request(own_s3.endpoint, timeout=0.3)
    own_s3.resume()
    assert client.get_object(Bucket="kept", Key="k")["ContentLength"] == 100_000
    client.put_object(Bucket="kept", Key="k2", Body=b"2")
    client.close()


def test_s3_speaks_https_with_a_private_authority(s3_server_tls: S3Server) -> None:
    """Clients that trust the authority get in, others do not."""
    s3_server_tls.create_bucket("over-https")
    with pytest.raises(OSError, match="certificate verify failed"):
        web.request(s3_server_tls.endpoint)


def test_bao_token_may_do_what_its_policy_says(bao_server: BaoServer) -> None:
    """And nothing else; the root token is not in the argument list."""
    bao_server.make_transit("demo")
    token = bao_server.make_policy_token({"transit/encrypt/demo": ["update"]})
    headers = {"X-Vault-Token": token}
    body = b'{"plaintext": "YQ==", "context": "YQ=="}'
    encrypt, decrypt = (f"{bao_server.address}/v1/transit/{verb}/demo" for verb in ("encrypt", "decrypt"))
    assert web.request(encrypt, method="POST", body=body, headers=headers)[0] == 200
    assert web.request(decrypt, method="POST", body=body, headers=headers)[0] == 403
    assert listening_addresses(bao_server.pid) == {"127.0.0.1"}
    assert bao_server.root_token not in " ".join(psutil.Process(bao_server.pid).cmdline())


def test_a_stack_that_fails_to_start_leaves_nothing(tmp_path: Path) -> None:
    """The servers that did start are stopped, and the directory is removed."""
    stack = Stack(tmp_path / "stack")
    stack.postgres.settings["port"] = "nonsense"
    with pytest.raises(ProgramError):
        stack.start()
    assert not stack.bao.running
    assert not stack.s3.running
    assert list(tmp_path.iterdir()) == []
