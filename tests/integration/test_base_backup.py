"""Whole clusters through the command line: backed up by the write role, restored, verified, started, compared with the source."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest

from devstack import programs, sql
from devstack.postgres import PostgresServer
from dr_toolkit import errors
from dr_toolkit.postgres import base_start, connection

DRCTL = Path(sys.executable).with_name("drctl")
newest = pytest.mark.parametrize("source", [18], indirect=True)
"""For what does not depend on the server's version."""


class Site:
    """A configured drctl with one component ``base`` and a repository in a directory."""

    def __init__(self, root: Path, server: PostgresServer) -> None:
        self.root = root
        self.server = server
        self.config = root / "drctl.yaml"
        self.environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "DB": server.password}
        self.config.write_text(f"""
version: 1
repository: {{url: "file://{root}/repository"}}
keys:
  write: {{type: key-file, role: write, path: {root}/write.key}}
  read: {{type: key-file, role: read, path: {root}/read.key}}
components:
  base:
    kind: postgres-base
    connection: {{host: {server.host}, port: {server.port}, database: postgres, user: postgres, password: "env:DB"}}
verify: {{programs: "{server._server_programs}"}}
""")
        for role in ("write", "read"):
            assert self.run("keys", "generate-file", str(root / f"{role}.key")).returncode == 0
        self.json("init")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [DRCTL, "-c", self.config, *arguments],
            env=self.environment, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip

    def give(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """A restore whose answer is content."""
        return subprocess.run(
            [DRCTL, "-c", self.config, "restore", "base", *arguments],
            env=self.environment, capture_output=True, timeout=200, check=False,
        )  # fmt: skip

    def json(self, *arguments: str, code: int = 0) -> dict:
        done = self.run(*arguments, "--output", "json")
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def backup(self, *arguments: str) -> dict:
        """As a CronJob does it: the read key is away."""
        key = self.root / "read.key"
        hidden = key.rename(key.with_suffix(".away"))
        try:
            return self.json("backup", *arguments)["snapshots"][0]
        finally:
            hidden.rename(key)


@pytest.fixture(scope="module", params=[18, 17])
def source(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A server of this module's own with two databases, one with an odd name."""
    version: Literal[18, 17] = request.param
    root = Path(tempfile.mkdtemp(prefix="drctl-base-"))
    root.chmod(0o755)
    with PostgresServer(root / "pg", version=version) as server:
        for name in ("postgres", 'Odd "näme"'):
            dsn = server.dsn(name) if name == "postgres" else server.create_database(name)
            sql.execute(dsn, "CREATE TABLE t (id int PRIMARY KEY, body text)")
            sql.execute(dsn, "INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 60000) g")
        yield server
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory that the server's user can enter, as pytest's own is not."""
    path = Path(tempfile.mkdtemp(prefix="drctl-base-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def site(source: PostgresServer, root: Path) -> Site:
    return Site(root, source)


def content(dsn: str) -> list[tuple]:
    return sql.rows(dsn, "SELECT count(*), sum(id), md5(string_agg(body, '|' ORDER BY id)) FROM t")


def restored_content(site: Site, directory: Path) -> list[list[tuple]]:
    """Start the restored cluster in the source's place, and ask it what the source was asked."""
    server, data = site.server, site.server.data
    server.stop()
    kept = data.rename(data.with_name("data.source"))
    shutil.copytree(directory, data, symlinks=True)
    for path in (data, *data.rglob("*")):
        shutil.chown(path, kept.owner(), kept.group())
    try:
        server.start()
        return [content(server.dsn(name)) for name in ("postgres", 'Odd "näme"')]
    finally:
        server.stop()
        shutil.rmtree(data)
        kept.rename(data)
        server.start()


def test_a_cluster_comes_back_as_it_was(site: Site) -> None:
    """Each snapshot restores to what the server held then; the second stores only what changed."""
    names = ("postgres", 'Odd "näme"')
    before = [content(site.server.dsn(name)) for name in names]
    first = site.backup()
    assert (first["kind"], first["status"], first["parent"]) == ("postgres-base", "good", None)
    sql.execute(site.server.dsn(names[1]), "UPDATE t SET body = 'changed' WHERE id <= 100")
    after = [content(site.server.dsn(name)) for name in names]
    second = site.backup()
    assert second["parent"] == first["id"]
    assert second["bytes_stored"] < first["bytes_stored"] / 2
    for taken, expected in ((first, before), (second, after)):
        place = site.root / taken["id"]
        done = site.json("restore", "base", "--snapshot", taken["id"], "--to", str(place))["restored"]
        assert done["started"] is True
        assert not list(place.glob("**/*drctl*"))
        assert restored_content(site, place) == expected
    rescued(site)


def rescued(site: Site) -> None:
    """Without drctl: what the rescue script extracts is what the server's manifest says, file for file."""
    place = site.root / "rescued"
    words = [
        "extract",
        site.root / "repository",
        "latest:base",
        "--key-file",
        site.root / "read.key",
        "--to",
        place,
    ]
    script = Path(__file__).parents[2] / "rescue" / "drctl_rescue.py"
    subprocess.run([sys.executable, script, *words], check=True, capture_output=True, timeout=120)
    verify = [site.server.bin_dir / "pg_verifybackup", "-m", place / "backup_manifest", place / "cluster"]
    subprocess.run(verify, check=True, capture_output=True, timeout=120)


@newest
def test_a_directory_of_somebody_is_not_touched(site: Site) -> None:
    """A running cluster, a foreign file and another snapshot's unfinished restore are refused, and stay as they are."""
    taken = site.backup()
    place = site.root / "taken"
    place.mkdir()
    (place / "letter.txt").write_text("mine")
    for target in (str(place), str(site.server.data)):
        error = site.json("restore", "base", "--to", target, code=1)["error"]
        assert error["code"] == "target"
    assert [path.name for path in place.iterdir()] == ["letter.txt"]
    (place / "letter.txt").rename(place / ".drctl-restore.json")
    (place / ".drctl-restore.json").write_text(json.dumps({"snapshot": taken["id"] + "x"}))
    assert "unfinished" in site.json("restore", "base", "--to", str(place), code=1)["error"]["message"]
    assert site.json("restore", "base", code=2)["error"]["code"] == "usage"


def test_a_cluster_comes_through_a_pipe(site: Site) -> None:
    """``--tar -``: a plain tar and nothing else on standard output, which ``pg_verifybackup`` and a server accept once it is unpacked."""
    names = ("postgres", 'Odd "näme"')
    expected = [content(site.server.dsn(name)) for name in names]
    site.backup()
    place = site.root / "unpacked"
    place.mkdir(mode=0o700)
    given = site.give("--tar", "-")
    assert given.returncode == 0, given.stderr
    assert b"next: pg_verifybackup" in given.stderr
    subprocess.run(["tar", "-x", "-C", place], input=given.stdout, check=True)
    subprocess.run([site.server.bin_dir / "pg_verifybackup", place], check=True, capture_output=True)
    assert restored_content(site, place) == expected


@newest
def test_a_damaged_snapshot_gives_no_whole_tar(site: Site) -> None:
    """The stream ends with code 3 and in the middle of a file: ``tar`` says so, and no server starts on what it unpacked."""
    site.backup()
    [*_others, largest] = sorted(
        (site.root / "repository" / "packs").rglob("*"), key=lambda path: path.stat().st_size
    )
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    given = site.give("--tar", "-")
    assert given.returncode == 3
    assert b"damaged" in given.stderr or b"does not" in given.stderr
    listed = subprocess.run(["tar", "-t"], input=given.stdout, capture_output=True, check=False)
    assert listed.returncode != 0
    assert b"global/pg_control" not in listed.stdout
    assert site.run("restore", "base", "--tar", "-", "--output", "json").returncode == 2
    assert site.run("restore", "base", "--tar", "-", "--no-start").returncode == 2


@newest
def test_an_interrupted_restore_continues(site: Site) -> None:
    """What is whole stays untouched, half a file is written again, and the result passes ``pg_verifybackup``."""
    taken = site.backup()
    place = site.root / "half"
    site.json("restore", "base", "--to", str(place), "--no-start")
    (place / ".drctl-restore.json").write_text(json.dumps({"snapshot": taken["id"]}))
    (place / "global" / "pg_control").unlink()
    half = place / "base" / "1" / "1259"
    half.write_bytes(half.read_bytes()[:100])
    kept = (place / "PG_VERSION").stat().st_mtime_ns
    assert site.json("restore", "base", "--to", str(place))["restored"]["started"] is True
    assert (place / "PG_VERSION").stat().st_mtime_ns == kept


@newest
def test_a_changed_file_fails_the_restore(site: Site) -> None:
    """``pg_verifybackup`` finds one flipped byte that was there before the restore went on."""
    taken = site.backup()
    place = site.root / "flipped"
    site.json("restore", "base", "--to", str(place), "--no-start")
    (place / ".drctl-restore.json").write_text(json.dumps({"snapshot": taken["id"]}))
    path = place / "base" / "1" / "1259"
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    assert site.json("restore", "base", "--to", str(place), code=3)["error"]["code"] == "verification-failed"


@newest
def test_the_server_must_be_fit(site: Site) -> None:
    """Without REPLICATION nothing is started and the message says why."""
    server = site.server
    sql.execute(server.dsn(), "CREATE ROLE plain LOGIN PASSWORD 'plain'")
    text = site.config.read_text()
    site.config.write_text(text.replace("user: postgres", "user: plain").replace('"env:DB"', '"env:PLAIN"'))
    site.environment["PLAIN"] = "plain"
    try:
        error = site.json("backup", code=1)["failures"][0]
        assert "REPLICATION" in json.dumps(error)
    finally:
        site.config.write_text(text)
        sql.execute(server.dsn(), "DROP ROLE plain")
    assert site.json("snapshots")["snapshots"] == []


@newest
def test_a_role_with_replication_suffices(site: Site) -> None:
    """No superuser: REPLICATION alone reads a whole cluster."""
    server = site.server
    sql.execute(server.dsn(), "CREATE ROLE repl LOGIN REPLICATION PASSWORD 'repl'")
    site.config.write_text(
        site.config.read_text().replace("user: postgres", "user: repl").replace('"env:DB"', '"env:REPL"')
    )
    site.environment["REPL"] = "repl"
    try:
        assert site.backup()["status"] == "good"
        slots = "SELECT count(*) FROM pg_replication_slots"
        # The server ends our session a moment after we are gone.
        assert wait_for(lambda: sql.rows(server.dsn(), slots) == [(0,)]), "our slot is gone"
    finally:
        sql.execute(server.dsn(), "DROP ROLE repl")


def test_damaged_pages_are_kept_and_never_chosen(site: Site) -> None:
    """A block flipped on the server's disk: the snapshot is ``damaged``, is no parent, and is restored only when it is named."""
    good = site.backup()
    server = site.server
    sql.execute(server.dsn(), "CREATE TABLE hurt AS SELECT g FROM generate_series(1, 5000) g")
    [(path,)] = sql.rows(server.dsn(), "SELECT pg_relation_filepath('hurt')")
    checksums = sql.rows(server.dsn(), "SHOW data_checksums") == [("on",)]
    sql.execute(server.dsn(), "CHECKPOINT")
    server.stop()
    if not checksums:
        programs.run(
            [str(server._server_programs / "pg_checksums"), "--enable", "-D", str(server.data)],
            user=server._user,
        )
    try:
        with (server.data / path).open("r+b") as file:
            file.seek(8192 + 4000)
            byte = file.read(1)[0]
            file.seek(8192 + 4000)
            file.write(bytes([byte ^ 0xFF]))
        server.start()
        taken = site.json("backup")["snapshots"][0]
        assert taken["status"] == "damaged"
        assert "damaged pages" in " ".join(taken["warnings"])
        plan = site.json("restore", "base", "--to", str(site.root / "x"), "--dry-run")["plan"]
        assert plan["snapshot"]["id"] == good["id"]
    finally:
        server.start()
        sql.execute(server.dsn(), "DROP TABLE hurt")
    assert site.backup()["parent"] == good["id"]


def test_a_proven_cluster_has_evidence(site: Site) -> None:
    """``verify --restore``: restored into scratch, verified, started, checked, each database read; signed evidence with timings."""
    taken = site.backup()
    [result] = site.json("verify", "--restore")["results"]
    assert (result["result"], result["evidence_signed"]) == ("passed", True), result
    checks = result["checks"]
    assert (checks["pg_verifybackup"], checks["pg_amcheck"]) == (True, True)
    assert checks["databases"] == 3, "postgres, template1, and the odd one"
    assert checks["bytes_read"] > 2 * 60000 * 33
    assert checks["seconds"].keys() >= {"write", "start", "amcheck", "read"}
    [listed] = site.json("snapshots")["snapshots"]
    assert (listed["id"], [e["level"] for e in listed["evidence"]]) == (taken["id"], ["restore"])


@newest
def test_an_index_that_lacks_rows_is_found(site: Site) -> None:
    """All files are right, and yet the content is not: only a start and a look find it."""
    dsn = site.server.dsn()
    sql.execute(dsn, "CREATE TABLE lacking (id int); CREATE INDEX lacking_id ON lacking (id)")
    ready = "UPDATE pg_index SET indisready = %s WHERE indexrelid = 'lacking_id'::regclass"
    try:
        sql.execute(dsn, ready % "false")
        sql.execute(dsn, "INSERT INTO lacking SELECT generate_series(1, 10)")
        sql.execute(dsn, ready % "true")
        site.backup()
        [result] = site.json("verify", "--restore", code=3)["results"]
        assert "lacking_id" in " ".join(result["failures"])
    finally:
        sql.execute(dsn, "DROP TABLE lacking")


@pytest.mark.parametrize(("ahead", "timeline"), [(1 << 40, 0), (0, 1)])
def test_a_short_recovery_is_refused(source: PostgresServer, ahead: int, timeline: int) -> None:
    """A server that has not come to the backup's end, or is on another timeline, is not what was backed up."""
    settings = connection.resolve(
        host=source.host,
        port=source.port,
        database="postgres",
        user="postgres",
        password=source.password,
        sslmode="disable",
    )
    base_start.check_recovery(settings, base_start.Target(1, 1, "postgres", 0))
    time = datetime(2026, 11, 25, 12, tzinfo=UTC)
    with pytest.raises(errors.VerificationFailed, match=r"must reach .* up to 2026-11-25T12:00:00Z"):
        base_start.check_recovery(settings, base_start.Target(1 + ahead, 1 + timeline, "postgres", 0, time))


@pytest.mark.parametrize("victim", ["drctl", "server"])
def test_killed_in_the_middle(site: Site, victim: str) -> None:
    """Kill -9 of drctl or of the server while files are read: no snapshot, no slot that holds WAL, and the next run is good."""
    server, text = site.server, site.config.read_text()
    site.config.write_text(text.replace("kind: postgres-base", "kind: postgres-base\n    max_rate: 1024"))
    running = subprocess.Popen(
        [DRCTL, "-c", site.config, "backup", "--output", "json"],
        env=site.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'backup'"
        assert wait_for(lambda: sql.rows(server.dsn(), streaming) == [(1,)])
        assert sql.rows(server.dsn(), "SELECT temporary FROM pg_replication_slots") == [(True,)]
        if victim == "drctl":
            running.kill()
        else:
            server.kill()
            server.start()
        output, _ = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
        server.start()
    if victim == "server":
        [failure] = json.loads(output)["failures"]
        assert running.returncode in {1, 5}
        assert failure["component"] == "base"
    slots = "SELECT count(*) FROM pg_replication_slots"
    assert wait_for(lambda: sql.rows(server.dsn(), slots) == [(0,)])
    assert site.json("snapshots")["snapshots"] == []
    site.config.write_text(text)
    assert site.backup()["status"] == "good"


def wait_for(holds: Callable[[], bool], seconds: float = 30) -> bool:
    """Whether something holds in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.1)
    return False
