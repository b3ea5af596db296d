"""``drctl pre-upgrade`` and ``drctl post-upgrade`` on real servers: GO only after real restores, NO-GO by damage."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from devstack import data, sql
from devstack.s3_proxy import S3Proxy, error

DRCTL = Path(sys.executable).with_name("drctl")
FLYWAY = """
    CREATE TABLE flyway_schema_history (installed_rank int PRIMARY KEY, version text, description text, installed_on timestamp DEFAULT now(), success boolean);
    INSERT INTO flyway_schema_history VALUES (1, '47', 'alerts', now(), true)
"""


class Site:
    """A configured drctl: a database, and where it is asked for a bucket and the whole cluster."""

    def __init__(
        self, root: Path, postgres, *, user: str = "postgres", password: str | None = None, more: str = ""
    ) -> None:
        self.root, self.postgres, self.database = root, postgres, f"gate_{secrets.token_hex(4)}"
        self.dsn = postgres.create_database(self.database)
        sql.execute(
            self.dsn,
            "CREATE TABLE users (id int PRIMARY KEY, name text)",
            "INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1, 500) n",
            FLYWAY,
        )
        self.config = root / "drctl.yaml"
        self.environment = os.environ | {"DB": password or postgres.password, "ADMIN": postgres.password}
        self.config.write_text(f"""
version: 1
repository: {{url: "file://{root}/repository"}}
keys:
  write: {{type: key-file, role: write, path: {root}/write.key}}
  read: {{type: key-file, role: read, path: {root}/read.key}}
components:
  console-db:
    kind: postgres-dump
    connection: {{host: {postgres.host}, port: {postgres.port}, database: {self.database}, user: {user}, password: "env:DB"}}
    restore_connection: {{user: postgres, password: "env:ADMIN"}}
{more}
""")
        for role in ("write", "read"):
            assert self.run("keys", "generate-file", str(root / f"{role}.key")).returncode == 0
        self.json("init")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [DRCTL, "-c", self.config, *arguments],
            env=self.environment, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip

    def json(self, *arguments: str, code: int = 0) -> dict:
        done = self.run(*arguments, "--output", "json")
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def gate(self, *arguments: str, code: int = 0) -> dict:
        return self.json("pre-upgrade", *arguments, code=code)["gate"]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [DRCTL, "-c", self.config, *arguments, "--log-format", "json", "-v"],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def pins(self) -> int:
        return len(list((self.root / "repository/pins").glob("*")))

    def flip_newest_pack(self) -> None:
        packs = [p for p in (self.root / "repository/packs").rglob("*") if p.is_file()]
        newest = max(packs, key=lambda p: p.stat().st_mtime_ns)
        content = bytearray(newest.read_bytes())
        content[1300] ^= 1
        newest.chmod(0o600)
        newest.write_bytes(content)


@pytest.fixture
def site(tmp_path, postgres):
    found = Site(tmp_path, postgres)
    yield found
    drop(found)


def drop(found: Site) -> None:
    for (name,) in sql.rows(
        found.postgres.dsn(), f"SELECT datname FROM pg_database WHERE datname ~ '^{found.database}'"
    ):
        found.postgres.drop_database(name)


def names(gate: dict) -> list[tuple[str, str | None]]:
    return [(reason["check"], reason["component"]) for reason in gate["reasons"]]


def test_go_rests_on_a_restore_of_every_kind(tmp_path, postgres, s3_server, bucket):
    """A dump, a whole cluster and a bucket are taken, restored and pinned; the report's own command brings the lost database back."""
    more = f"""
  console-base:
    kind: postgres-base
    connection: {{host: {postgres.host}, port: {postgres.port}, database: postgres, user: postgres, password: "env:ADMIN"}}
  cortex:
    kind: bucket
    url: s3://{bucket}
    s3: {{endpoint: "{s3_server.endpoint}", access_key_id: "env:KEY", secret_access_key: "env:SECRET"}}
"""
    site = Site(tmp_path, postgres, more="")
    site.environment |= {"KEY": s3_server.access_key, "SECRET": s3_server.secret_key}
    site.config.write_text(site.config.read_text() + more)
    s3_server.client().put_object(Bucket=bucket, Key="block", Body=b"metrics" * 1000)
    page, xml = tmp_path / "gate.html", tmp_path / "gate.xml"
    gate = site.gate("--point", "before-48", "--keep", "30d", "--report", str(page), "--junit", str(xml))
    assert (gate["go"], gate["reasons"], gate["point"]["name"], site.pins()) == (True, [], "before-48", 1)
    assert {s["component"]: bool(s["lsn"]) for s in gate["snapshots"]} == {
        "console-db": True, "console-base": True, "cortex": False
    }  # fmt: skip
    assert sum(" at LSN " in c["text"] for c in gate["checks"] if c["check"] == "backup") == 2
    proofs = [c for c in gate["checks"] if c["check"] == "proof"]
    assert len(proofs) == 3
    for shown in site.json("snapshots")["snapshots"]:
        assert [(e["level"], e["result"]) for e in shown["evidence"]] == [("restore", "passed")]
    assert_report(page, xml, gate)
    assert_kept(site, gate)
    sql.execute(site.dsn, "DROP TABLE users")
    [back] = [row for row in gate["way_back"] if row["component"] == "console-db"]
    assert back["rto_measured_seconds"] > 0
    words = shlex.split(back["command"])
    assert words[0] == "drctl"
    restored = site.run(*words[1:], "--yes")
    assert restored.returncode == 0, restored.stderr
    assert sql.rows(site.dsn, "SELECT count(*) FROM users") == [(500,)]
    drop(site)


class _Outside(HTMLParser):
    """Collects whatever a page would load from elsewhere, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag in {"script", "link", "img", "iframe"} or any(name in {"src", "href"} for name, _ in attrs):
            self.found.append((tag, attrs))

    def handle_data(self, data):
        self.text.append(data)


def assert_report(page: Path, xml: Path, gate: dict) -> None:
    """The page needs nothing from elsewhere and has the verdict, the ids and the way back; the XML has a case for each check."""
    parser = _Outside()
    parser.feed(page.read_text("utf-8"))
    text = " ".join(parser.text)
    assert (parser.found, " GO " in text, "url(" in page.read_text()) == ([], True, False)
    assert all(row["command"] in text for row in gate["way_back"])
    suite = ET.fromstring(xml.read_text())  # noqa: S314  # our own file
    assert (suite.get("failures"), int(suite.get("tests"))) == ("0", len(gate["checks"]))


def assert_kept(site: Site, gate: dict) -> None:
    """The report can be had again from the repository, in every form, and proves nothing of its own; the page of everything needs nothing from elsewhere."""
    page, xml, whole = site.root / "again.html", site.root / "again.xml", site.root / "whole.html"
    again = site.json("report", "gate", "before-48", "--html", str(page), "--junit", str(xml))
    assert (again["gate"], again["gone"]) == (gate, [])
    assert_report(page, xml, gate)
    found = site.json("report", "--html", str(whole))["report"]
    assert {(c["component"], c["snapshots"], c["proofs_passed"], c["proofs_failed"]) for c in found["components"]} == {
        ("console-db", 1, 1, 0), ("console-base", 1, 1, 0), ("cortex", 1, 1, 0)
    }  # fmt: skip
    assert [(g["go"], g["point"]) for g in found["gates"]] == [(True, gate["point"]["id"])]
    assert [(p["name"], p["proven"]) for p in found["points"]] == [("before-48", True)]
    parser = _Outside()
    parser.feed(whole.read_text("utf-8"))
    assert (parser.found, "PROTECTED" in parser.text, "url(" in whole.read_text()) == ([], True, False)


def test_a_component_that_fails_is_no_go_and_named(site, s3_server):
    """A bucket that is not there: its backup and proof are the first reasons, the other component is proven all the same, nothing is pinned."""
    site.config.write_text(
        site.config.read_text()
        + f'  cortex: {{kind: bucket, url: "s3://gone", s3: {{endpoint: "{s3_server.endpoint}", access_key_id: "env:KEY", secret_access_key: "env:SECRET"}}}}\n'
    )
    site.environment |= {"KEY": s3_server.access_key, "SECRET": s3_server.secret_key}
    xml = site.root / "gate.xml"
    gate = site.gate("--accept", "space", "--junit", str(xml), code=3)
    assert names(gate) == [("proof", "cortex"), ("backup", "cortex"), ("point", None)]
    assert (gate["point"], gate["pinned_until"], site.pins()) == (None, None, 0)
    assert ("proof", "console-db", "ok") in {(c["check"], c["component"], c["state"]) for c in gate["checks"]}
    suite = ET.fromstring(xml.read_text())  # noqa: S314  # our own file
    assert suite.get("failures") == "3"
    shown = site.run("pre-upgrade", "--accept", "space")
    assert (shown.returncode, shown.stdout.splitlines()[0]) == (3, "NO-GO")
    assert "proof of cortex" in shown.stdout.splitlines()[1]


def test_a_damaged_snapshot_is_no_go_naming_the_object(site):
    """A snapshot that is fresh enough to be taken over was damaged since: the restore finds it, and nothing is pinned."""
    taken = site.json("backup")["snapshots"][0]["id"]
    site.flip_newest_pack()
    gate = site.gate("--reuse", "1h", code=3)
    assert gate["snapshots"][0]["id"] == taken
    assert names(gate) == [("proof", "console-db"), ("point", None)]
    assert "packs/" in gate["reasons"][0]["text"]
    assert site.pins() == 0
    again = site.run("report", "gate")
    assert (again.returncode, again.stdout.splitlines()[1]) == (3, "NO-GO")
    assert site.run("report", "gate", "other").returncode == 1


def test_an_old_proof_counts_for_its_own_snapshot_only(site):
    """What is fresh is taken over with its proof; a newer snapshot without one is proven anew, not covered by the older one's."""
    first = site.gate()
    again = site.gate("--reuse", "1h")
    assert [s["id"] for s in again["snapshots"]] == [s["id"] for s in first["snapshots"]]
    assert "signed proof" in next(c["text"] for c in again["checks"] if c["check"] == "proof")
    newer = site.json("backup")["snapshots"][0]["id"]
    third = site.gate("--reuse", "1h")
    assert third["snapshots"][0]["id"] == newer
    assert "restored into scratch" in next(c["text"] for c in third["checks"] if c["check"] == "proof")
    time.sleep(1.1)
    assert site.gate("--reuse", "1s")["snapshots"][0]["id"] != newer


def test_a_locked_table_is_no_go_at_the_deadline(site):
    """A migration that holds a table keeps the dump waiting: the gate ends in time, says so, and leaves no session behind."""
    with sql.connect(site.dsn, autocommit=False) as holder:
        holder.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        holder.execute("LOCK TABLE flyway_schema_history IN SHARE ROW EXCLUSIVE MODE")
        began = time.monotonic()
        gate = site.gate("--deadline", "6s", code=3)
        assert time.monotonic() - began < 60
    assert names(gate) == [
        ("proof", "console-db"),
        ("backup", "console-db"),
        ("point", None),
        ("migrations", "console-db"),
    ]
    assert "deadline of 6 s" in gate["reasons"][0]["text"]
    assert "a migration is running" in gate["reasons"][3]["text"]
    left = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{site.database}'"
    for _ in range(50):
        if sql.rows(site.postgres.dsn(), left) == [(0,)]:
            break
        time.sleep(0.1)
    assert sql.rows(site.postgres.dsn(), left) == [(0,)]


def test_an_ordinary_role_must_say_what_it_cannot_see(tmp_path, postgres):
    """The backup's role sees neither other sessions nor the server's disk: NO-GO, until the checks are accepted by name."""
    role, password = f"gate_role_{secrets.token_hex(3)}", secrets.token_hex(8)
    site = Site(tmp_path, postgres, user=role, password=password)
    data.backup_role(site.dsn, password, name=role)
    gate = site.gate(code=3)
    assert {name for name, _ in names(gate)} == {"transactions", "replication", "space"}
    accepted = site.gate("--accept", "transactions", "--accept", "replication", "--accept", "space")
    assert {row["check"] for row in accepted["accepted"]} == {"transactions", "replication", "space"}
    text = site.run(
        "pre-upgrade",
        "--reuse",
        "1h",
        *[w for n in ("transactions", "replication", "space") for w in ("--accept", n)],
    )
    assert text.stdout.splitlines()[0] == "GO, with 3 accepted"
    sql.execute(site.dsn, f"GRANT pg_read_all_stats TO {role}")
    assert {name for name, _ in names(site.gate("--reuse", "1h", code=3))} == {"space"}
    drop(site)
    sql.execute(postgres.dsn(), f"DROP ROLE {role}")


def test_a_release_that_nobody_looks_at_is_not_fine(site):
    """Asked about a release and a version, the gate says what it cannot know."""
    gate = site.gate("console", "--to-version", "1.48.0", "--dry-run")
    assert (gate["go"], {name for name, _ in names(gate)}) == (None, {"release", "versions"})
    assert (site.json("snapshots")["snapshots"], site.pins()) == ([], 0)
    shown = site.run("pre-upgrade", "--dry-run").stdout
    assert (shown.splitlines()[0], "nothing was changed" in shown) == (
        "so far nothing speaks against it",
        True,
    )


def test_without_the_read_role_there_is_no_go(site):
    """A backup job alone can take the point, and can neither prove nor pin it."""
    (site.root / "read.key").rename(site.root / "read.away")
    gate = site.gate(code=3)
    assert names(gate) == [("proof", "console-db"), ("point", None)]
    assert "pinned" in gate["reasons"][1]["text"]


def test_a_key_that_goes_away_before_the_pin_is_a_reason(site):
    """All was proven some minutes ago, so that the pin is the first to need the key: NO-GO with its report, not an error in its place."""
    assert site.gate()["go"] is True
    key = (site.root / "read.key").rename(site.root / "read.away")
    again = ("--reuse", "1h", "--point", "before")
    gate = site.gate(*again, code=3)
    assert names(gate) == [("point", None)]
    assert "cannot be pinned" in gate["reasons"][0]["text"]
    assert [c["state"] for c in gate["checks"] if c["check"] == "proof"] == ["ok"]
    key.rename(site.root / "read.key")
    proven = site.gate(*again)
    assert (proven["go"], site.pins()) == (True, 2)
    # Two points have the name now; the pinned one is meant, and a third is not made.
    assert site.json("show", "before")["point"]["id"] == proven["point"]["id"]
    refused = site.run("pre-upgrade", *again)
    assert (refused.returncode, proven["point"]["id"] in refused.stderr) == (2, True)


def test_a_point_that_cannot_be_made_is_a_reason(site, s3_server, bucket):
    """The repository refuses the point alone: NO-GO with its report, and what was taken is proven all the same."""
    site.environment |= {"KEY": s3_server.access_key, "SECRET": s3_server.secret_key}
    with S3Proxy(s3_server.endpoint) as proxy:
        s3 = f'{{endpoint: "{proxy.endpoint}", access_key_id: "env:KEY", secret_access_key: "env:SECRET"}}'
        local = re.compile(r"repository: .*")
        site.config.write_text(
            local.sub(f'repository: {{url: "s3://{bucket}/r", s3: {s3}}}', site.config.read_text())
        )
        site.json("init")
        proxy.plan = lambda method, path, _: (
            error(403, "AccessDenied") if method == "PUT" and "/points/" in path else None
        )
        gate = site.gate("--point", "before", code=3)
    assert names(gate) == [("point", None)]
    assert '"before" cannot be made' in gate["reasons"][0]["text"]
    assert [c["state"] for c in gate["checks"] if c["check"] in {"backup", "proof"}] == ["ok", "ok"]
    assert (gate["point"], gate["pinned_until"], len(gate["snapshots"])) == (None, None, 1)


@pytest.mark.parametrize(
    ("number", "stage"), [(signal.SIGKILL, "snapshot taken"), (signal.SIGTERM, "source read")]
)
def test_a_killed_gate_leaves_nothing_but_snapshots(site, number, stage):
    """Killed while it takes, or while it proves: no pin speaks for what was not proven, and the next run says GO."""
    process = site.start("pre-upgrade")
    assert process.stderr is not None
    for line in process.stderr:
        if stage in line:
            process.send_signal(number)
            break
    _out, rest = process.communicate(timeout=60)
    assert process.returncode == (143 if number == signal.SIGTERM else -9), rest
    assert site.pins() == 0
    gate = site.gate()
    assert (gate["go"], site.pins()) == (True, 1)


def test_after_the_upgrade_less_data_is_not_ok(site):
    """More rows are OK; fewer are not, and the way back is printed; a meant loss can be accepted."""
    point = site.gate("--point", "before")["point"]["id"]
    sql.execute(site.dsn, "INSERT INTO users VALUES (501, 'new')", "CREATE TABLE added (x int)")
    good = site.json("post-upgrade", "--point", point)["after"]
    assert (good["ok"], good["way_back"][0]["rto_measured_seconds"] > 0) == (True, True)
    sql.execute(site.dsn, "DELETE FROM users WHERE id < 100")
    bad = site.json("post-upgrade", "--point", "before", code=3)["after"]
    assert names(bad) == [("counts", "console-db")]
    assert "has 402 rows, and had 500" in bad["reasons"][0]["text"]
    shown = site.run("post-upgrade", "--point", "before")
    assert (shown.returncode, shown.stdout.splitlines()[0]) == (3, "NOT OK")
    assert re.search(r"drctl restore console-db --snapshot \d{8}T", shown.stdout)
    assert site.json("post-upgrade", "--point", "before", "--accept", "counts")["after"]["ok"] is True


def test_a_failed_migration_is_not_ok(site):
    """Before the upgrade it is NO-GO, after it NOT OK."""
    site.gate("--point", "before")
    sql.execute(site.dsn, "INSERT INTO flyway_schema_history VALUES (2, '48', 'topics', now(), false)")
    bad = site.json("post-upgrade", "--point", "before", code=3)["after"]
    assert names(bad) == [("migrations", "console-db")]
    assert "version 48 (topics)" in bad["reasons"][0]["text"]
    assert names(site.gate("--reuse", "1h", code=3)) == [("migrations", "console-db")]
