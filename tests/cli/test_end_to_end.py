"""The whole main job through the command line, on real servers: PostgreSQL, S3 and OpenBao."""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from devstack import data, sql
from devstack.bao import BaoServer
from devstack.postgres import PostgresServer
from devstack.s3 import S3Server
from dr_toolkit.cli import main

DRCTL = Path(sys.executable).with_name("drctl")
PLAIN = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}

SNAPSHOT_KEYS = {
    "id", "component", "kind", "time", "parent", "status", "bytes_source", "bytes_stored", "warnings", "evidence",
}  # fmt: skip


@dataclass(frozen=True)
class Site:
    """A configured drctl."""

    config: Path
    secrets: Mapping[str, str]

    def run(self, *arguments: str, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in (PLAIN | dict(self.secrets)).items() if k not in without}
        return subprocess.run(
            [DRCTL, "-c", self.config, *arguments],
            env=environment, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip

    def json(self, *arguments: str, code: int = 0, without: tuple[str, ...] = ()) -> dict:
        done = self.run(*arguments, "--output", "json", without=without)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def filled(postgres: PostgresServer) -> Iterator[str]:
    """A Console-like database of this module's own."""
    dsn = postgres.create_database("console_e2e")
    data.fill_console_like(dsn, scale=0.2)
    yield dsn
    for (name,) in sql.rows(
        postgres.dsn(), "SELECT datname FROM pg_database WHERE datname LIKE 'console_e2e%'"
    ):
        postgres.drop_database(name)


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: PostgresServer,
    s3_server: S3Server,
    bao_server: BaoServer,
    filled: str,
) -> Site:
    """Repository on S3, two Transit keys with a policy each, and a key file as second kind; trust is pinned."""
    root = tmp_path_factory.mktemp("site")
    s3_server.create_bucket("e2e-repository")
    for role in ("write", "read"):
        bao_server.make_transit(f"e2e-{role}")
    both = {"transit/encrypt/e2e-write": ["update"], "transit/decrypt/e2e-write": ["update"]}
    admin = bao_server.make_policy_token(
        both | {"transit/encrypt/e2e-read": ["update"], "transit/decrypt/e2e-read": ["update"]}
    )
    tokens = {
        "WRITE_TOKEN": bao_server.make_policy_token({"transit/decrypt/e2e-write": ["update"]}),
        "READ_TOKEN": bao_server.make_policy_token({"transit/decrypt/e2e-read": ["update"]}),
    }
    secrets = {
        "DB": postgres.password,
        "S3_KEY": s3_server.access_key,
        "S3_SECRET": s3_server.secret_key,
        **tokens,
    }
    found = Site(root / "drctl.yaml", secrets)
    text = f"""
version: 1
repository:
  url: s3://e2e-repository/conduktor
  s3: {{endpoint: "{s3_server.endpoint}", access_key_id: "env:S3_KEY", secret_access_key: "env:S3_SECRET"}}
keys:
  vault-write:
    {{type: vault, role: write, address: "{bao_server.address}", transit_key: e2e-write, auth: {{method: token, token: "env:WRITE_TOKEN"}}}}
  vault-read:
    {{type: vault, role: read, address: "{bao_server.address}", transit_key: e2e-read, auth: {{method: token, token: "env:READ_TOKEN"}}}}
  safe: {{type: key-file, role: read, path: {root}/safe.key}}
components:
  console-db:
    kind: postgres-dump
    check_source: true
    connection: {{host: {postgres.host}, port: {postgres.port}, database: console_e2e, user: postgres, password: "env:DB"}}
"""
    found.config.write_text(text)
    assert found.run("keys", "generate-file", str(root / "safe.key")).returncode == 0
    init = Site(found.config, secrets | {"WRITE_TOKEN": admin, "READ_TOKEN": admin}).json("init")
    assert init["create_only"] is True
    found.config.write_text(text.replace("repository:\n", f'repository:\n  trust: "{init["trust"]}"\n'))
    return found


def content(dsn: str) -> list[tuple]:
    """A fingerprint of what the database holds, by SQL."""
    tables = sql.rows(
        dsn,
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname !~ '^(pg_|information)' ORDER BY 1",
    )
    return [
        (t, *sql.rows(dsn, f"SELECT count(*), md5(string_agg(x::text, '|' ORDER BY x::text)) FROM {t} x")[0])
        for (t,) in tables
    ]


NO_READ = ("READ_TOKEN",)


def test_the_main_job(site: Site, postgres: PostgresServer, filled: str) -> None:
    """Backed up by the write role alone, proven, lost, restored: the content is equal, and the old database is kept."""
    before = content(filled)
    first = site.json("backup", "--point", "before", without=NO_READ)
    [snapshot] = first["snapshots"]
    assert snapshot.keys() >= SNAPSHOT_KEYS
    assert (snapshot["component"], snapshot["kind"], snapshot["parent"]) == (
        "console-db",
        "postgres-dump",
        None,
    )
    second = site.json("backup", without=NO_READ)["snapshots"][0]
    assert second["parent"] == snapshot["id"]
    assert second["bytes_stored"] < snapshot["bytes_stored"] / 20

    for level in ("--quick", "--data", "--restore"):
        [result] = site.json("verify", level)["results"]
        assert (result["result"], result["snapshot"], result["evidence_signed"]) == (
            "passed",
            second["id"],
            True,
        ), result
    listed = site.json("snapshots", without=NO_READ)
    assert [s["id"] for s in listed["snapshots"]] == [snapshot["id"], second["id"]]
    assert {e["level"] for e in listed["snapshots"][1]["evidence"]} == {"quick", "data", "restore"}
    assert listed["points"][0]["name"] == "before"

    sql.execute(filled, "DROP TABLE audit.events CASCADE")
    sql.execute(filled, "UPDATE platform.users SET display_name = 'nobody'")
    assert content(filled) != before
    plan = site.json("restore", "console-db", "--dry-run")["plan"]
    assert plan["replaces"] is True
    done = site.json("restore", "console-db", "--yes")["restored"]
    assert content(filled) == before
    names = {name for (name,) in sql.rows(postgres.dsn(), "SELECT datname FROM pg_database")}
    assert done["kept"] in names


def test_the_write_role_restores_nothing(site: Site) -> None:
    """What a backup job holds can neither open content nor sign evidence."""
    site.json("backup", without=NO_READ)
    no_read = (*NO_READ,)
    key = site.config.with_name("safe.key")
    hidden = key.rename(key.with_suffix(".away"))
    try:
        error = site.json("restore", "console-db", "--to", "console_e2e_stolen", code=1, without=no_read)[
            "error"
        ]
        assert error["code"] == "key-refused"
        assert error["hint"]
        failed = site.json("verify", "--data", code=1, without=no_read)["error"]
        assert failed["code"] == "key-refused"
    finally:
        hidden.rename(key)


def test_the_exact_archive_comes_out(
    site: Site, filled: str, postgres: PostgresServer, tmp_path: Path
) -> None:
    """``--to file:`` gives what pg_dump wrote, readable by pg_restore; an existing file is never replaced."""
    site.json("backup", without=NO_READ)
    path = tmp_path / "console.dump"
    assert site.json("restore", "console-db", "--to", f"file:{path}")["restored"]["files"][0] == str(path)
    listing = subprocess.run(
        [postgres.bin_dir / "pg_restore", "--list", path], capture_output=True, text=True, check=True
    )
    assert "TABLE DATA platform users" in listing.stdout
    assert site.json("restore", "console-db", "--to", f"file:{path}", code=1)["error"]["code"] == "target"
    other = tmp_path / "other.dump"
    other.with_name("other.dump.globals.sql").touch()
    refused = site.json("restore", "console-db", "--to", f"file:{other}", code=1)["error"]
    assert refused["on"] == f"{other}.globals.sql"
    assert not other.exists(), "nothing is written when the second file cannot be"


def test_one_table_comes_back_alone(site: Site, postgres: PostgresServer) -> None:
    """``--table`` restores only that table, into a database that does not have it."""
    dsn = postgres.create_database("console_e2e_one")
    site.json("restore", "console-db", "--table", "public.flyway_schema_history", "--to", "console_e2e_one")
    assert sql.rows(dsn, "SELECT count(*) > 100 FROM public.flyway_schema_history") == [(True,)]


def test_programs_older_than_the_server_are_refused(
    site: Site, postgres17_tls: PostgresServer, tmp_path: Path
) -> None:
    """Both versions are named, nothing is read, and no snapshot is made."""
    older = Site(tmp_path / "older.yaml", site.secrets)
    place = f"programs: {postgres17_tls.bin_dir}, database: console_e2e"
    older.config.write_text(site.config.read_text().replace("database: console_e2e", place))
    before = older.json("snapshots")["snapshots"]
    [failure] = older.json("backup", code=1)["failures"]
    assert "the server is PostgreSQL 18, and pg_dump must be of version 18 or newer" in failure["message"]
    assert re.search(r"found 17\.\d+ in ", failure["message"])
    assert older.json("snapshots")["snapshots"] == before


def test_a_url_of_several_hosts_as_consoles_driver_writes_it(
    site: Site, postgres: PostgresServer, filled: str, tmp_path: Path
) -> None:
    """``jdbc:`` with a dead host before the live primary, by reference: backed up, restored and compared; the password is never shown."""
    hosts = f"{postgres.host}:1,{postgres.host}:{postgres.port}"
    url = (
        f"jdbc:postgresql://{hosts}/console_e2e?user=postgres&password={postgres.password}"
        "&targetServerType=primary&sslmode=prefer&ApplicationName=console"
    )
    several = Site(tmp_path / "hosts.yaml", dict(site.secrets) | {"URL": url})
    text = site.config.read_text()
    several.config.write_text(
        text[: text.index("components:")]
        + 'components:\n  several: {kind: postgres-dump, connection: {url: "env:URL"}}\n'
    )
    backup = several.run("backup", "several", "-vv")
    restore = several.run("restore", "several", "--to", "console_e2e_several")
    assert (backup.returncode, restore.returncode) == (0, 0), backup.stderr + restore.stdout + restore.stderr
    assert "all equal" in restore.stdout
    assert content(postgres.dsn("console_e2e_several")) == content(filled)
    assert postgres.password not in backup.stdout + backup.stderr + restore.stdout + restore.stderr


def test_show_lists_tables_and_differences(site: Site, filled: str) -> None:
    """``show`` needs no read role and names what changed since the parent."""
    site.json("backup", without=NO_READ)
    sql.execute(filled, "UPDATE platform.groups SET name = name || ' (renamed)'")
    taken = site.json("backup", without=NO_READ)["snapshots"][0]
    shown = site.json("show", taken["id"], without=NO_READ)
    assert shown["source"]["flyway"][0]["version"] == "112"
    changed = {c["path"] for c in shown["changes"]}
    assert any(path.endswith("platform/groups") for path in changed)
    assert not any(path.endswith("audit/events") for path in changed)
    nothing = site.json("show", taken["id"], "archive/data/00/nope/", code=1, without=NO_READ)["error"]
    assert nothing["code"] == "nothing-to-do"
    assert taken["id"] in nothing["hint"]


def test_nothing_to_work_on_is_not_a_success(site: Site, tmp_path: Path) -> None:
    """An empty repository makes verify and restore fail, and say so; so does an unknown component, as wrong usage."""
    key = tmp_path / "k.key"
    site.run("keys", "generate-file", str(key))
    text = site.config.read_text().replace("s3://e2e-repository/conduktor", f"file://{tmp_path}/repo")
    lines = [line for line in text.splitlines() if not line.strip().startswith(("trust:", "s3:"))]
    empty = Site(tmp_path / "empty.yaml", site.secrets)
    body = "\n".join(lines)
    start, end = body.index("keys:"), body.index("components:")
    empty.config.write_text(body[:start] + f"keys:\n  k: {{type: key-file, path: {key}}}\n" + body[end:])
    # A key that is not there: nothing is left behind either.
    key.rename(tmp_path / "away")
    assert empty.json("init", code=2)["error"]["on"] == "k"
    assert not (tmp_path / "repo").exists()
    (tmp_path / "away").rename(key)
    empty.json("init")
    assert empty.json("verify", "--quick", code=1)["error"]["code"] == "nothing-to-do"
    assert empty.json("restore", "console-db", "--yes", code=1)["error"]["code"] == "nothing-to-do"
    assert empty.json("verify", "--restore", code=1)["error"]["code"] == "nothing-to-do"
    assert [one["snapshot"] for one in empty.json("restore", code=1)["restorable"]] == [None]
    assert empty.run("restore").returncode == 1
    assert empty.json("status", code=4)["components"][0]["last_good"] is None
    assert empty.json("backup", "nope", code=2)["error"]["code"] == "usage"
    assert empty.json("init", code=2)["error"]["code"] == "usage"


def test_a_live_database_is_not_replaced_without_consent(site: Site) -> None:
    """Without a terminal and without --yes nothing is started."""
    error = site.json("restore", "console-db", code=2)["error"]
    assert "--yes" in error["hint"]


def answered(site: Site, answer: str) -> tuple[int, str]:
    """Restore at a terminal and answer the question; exit code and standard error."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [DRCTL, "-c", site.config, "restore", "console-db"],
        env=PLAIN | dict(site.secrets), stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(follower)
    os.write(leader, f"{answer}\n".encode())
    _out, err = process.communicate(timeout=200)
    os.close(leader)
    return process.returncode, err


def test_clients_are_named_and_ended_only_after_the_typed_name(site: Site, filled: str) -> None:
    """A wrong answer changes nothing and leaves them connected; the right one ends them at the swap."""
    site.json("backup")
    with sql.connect(filled) as client:
        client.execute("SET application_name = 'conduktor-console'")
        code, err = answered(site, "console")
        assert (code, "not confirmed" in err, "nothing was changed" in err) == (1, True, True)
        assert "sessions that will be ended at the swap: 1" in err
        assert "conduktor-console (postgres, 127.0.0.1, pid " in err
        assert client.execute("SELECT 1").fetchone() == (1,)
        code, err = answered(site, "console-db")
        assert code == 0, err
        with pytest.raises(psycopg.OperationalError):
            client.execute("SELECT 1")


@pytest.mark.parametrize("target", ["", "file:", "s3://bucket/x", "a\nb", "x" * 64])
def test_a_target_that_is_none_is_refused_before_anything_is_read(site: Site, target: str) -> None:
    """It is wrong usage, not a restore that fails at its end."""
    error = site.json("restore", "console-db", "--to", target, "--dry-run", code=2)["error"]
    assert (error["code"], error["unaffected"]) == ("usage", "nothing was started")


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--point", "", "--point is empty"),
        ("--snapshot", "", "--snapshot is empty"),
        ("--table", "", "--table is empty"),
        ("--prefix", "", "--prefix is empty"),
        ("--to", "s3://", "names nothing"),
    ],
)
def test_an_option_without_a_value_never_means_that_it_was_not_given(option, value, words, capsys) -> None:
    """``--point "$UNSET"`` must not restore the newest snapshot instead."""
    assert main.run(["restore", "console-db", option, value, "--yes"]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--no-start", "--standby", "--prefix=x", "--diff"])
def test_an_option_of_another_kind_is_refused(site: Site, option: str) -> None:
    """It would be passed over in silence otherwise."""
    assert "for a" in site.json("restore", "console-db", option, "--dry-run", code=2)["error"]["message"]


def test_tls_with_a_private_ca_and_a_client_certificate(
    site: Site, postgres17_tls: PostgresServer, tmp_path: Path
) -> None:
    """``verify-full`` against a private CA, password or client certificate; a wrong CA is refused and nothing is written."""
    dsn = postgres17_tls.create_database("console_tls")
    data.fill_console_like(dsn, scale=0.02)
    sql.execute(
        dsn, "GRANT pg_read_all_data TO cert_user", "ALTER ROLE cert_user SET lo_compat_privileges = on"
    )
    sql.execute(postgres17_tls.dsn("console_tls"), "GRANT USAGE ON SCHEMA public TO cert_user")
    certificate, key = postgres17_tls.client_certificate()
    text = site.config.read_text()
    base = text[: text.index("components:")]
    place = f"host: localhost, port: {postgres17_tls.port}, database: console_tls, sslmode: verify-full, programs: {postgres17_tls.bin_dir}"
    tls = Site(tmp_path / "tls.yaml", dict(site.secrets) | {"DB17": postgres17_tls.password})
    tls.config.write_text(
        base + "components:\n"
        f'  tls-password: {{kind: postgres-dump, connection: {{{place}, sslrootcert: {postgres17_tls.ca_file}, user: postgres, password: "env:DB17"}}}}\n'
        f"  tls-certificate: {{kind: postgres-dump, connection: {{{place}, sslrootcert: {postgres17_tls.ca_file}, user: cert_user, sslcert: {certificate}, sslkey: {key}}}}}\n"
        f'  tls-wrong: {{kind: postgres-dump, connection: {{{place}, sslrootcert: {certificate}, user: postgres, password: "env:DB17"}}}}\n'
    )
    assert len(tls.json("backup", "tls-password")["snapshots"]) == 1
    assert len(tls.json("backup", "tls-certificate")["snapshots"]) == 1
    sql.execute(dsn, "ALTER ROLE cert_user RESET lo_compat_privileges")
    # Up to 18 large objects are not covered by pg_read_all_data: refused plainly, with the way out, never left out.
    without = tls.json("backup", "tls-certificate", code=1)["failures"][0]
    assert "permission denied for large object" in without["message"]
    assert "lo_compat_privileges" in without["hint"]
    refused = tls.run("backup", "tls-wrong")
    assert refused.returncode != 0
    assert "certificate" in refused.stdout + refused.stderr
    assert postgres17_tls.password not in refused.stdout + refused.stderr
