"""``drctl verify --restore`` of a part: the evidence says exactly what was proved, and damage is found only where it says so."""

from __future__ import annotations

import pytest

from devstack import sql
from tests.integration.test_gate import Site, drop


@pytest.fixture
def site(tmp_path, postgres):
    """A database with a large table, a small one that refers to it, a view, a sequence and a large object; backed up."""
    found = Site(tmp_path, postgres)
    sql.execute(
        found.dsn,
        "CREATE TABLE topics (id int PRIMARY KEY, noise text)",
        "INSERT INTO topics SELECT n, md5(n::text) || md5((-n)::text) FROM generate_series(1, 20000) n",
        "CREATE TABLE alerts (id serial PRIMARY KEY, topic int CONSTRAINT to_topic REFERENCES topics, at timestamp)",
        "COMMENT ON CONSTRAINT to_topic ON alerts IS 'rows that were left out would break it'",
        "INSERT INTO alerts (topic) SELECT n FROM generate_series(1, 300) n",
        "CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM alerts",
        "SELECT lo_from_bytea(0, 'large')",
    )
    found.json("backup")
    yield found
    drop(found)


def verify(site: Site, *options: str, code: int = 0) -> dict:
    [result] = site.json("verify", "console-db", "--restore", *options, code=code)["results"]
    return result


def test_the_evidence_says_what_was_proved_and_what_was_not(site):
    """Some tables, definitions only, and no time at all: each sample is proved as far as it says, and none counts as a proof."""
    part = verify(site, "--tables", "alerts", "--tables", "public.use*")
    proven, rest = part["checks"]["proven"], part["checks"]["not_proven"]
    assert (part["level"], part["result"], part["evidence_signed"]) == ("sample", "passed", True)
    assert (proven["names"], proven["rows"]) == (["public.alerts", "public.users"], 800)
    assert {"public.topics", "public.flyway_schema_history"} == set(rest["names"])
    assert (rest["rows"], rest["large_objects"], rest["foreign_keys"]) == (20001, 1, 1)
    assert "NOT proved: the rows of 2 of 4 tables" in part["notes"][0]
    shape = verify(site, "--schema-only")["checks"]
    assert (
        shape["proven"]["tables"],
        shape["not_proven"]["tables"],
        shape["not_proven"]["foreign_keys"],
    ) == (0, 4, 0)
    hurried = verify(site, "--budget", "1s")["checks"]
    names = [*hurried["proven"]["names"], *hurried["not_proven"]["names"]]
    assert sorted(names) == ["public.alerts", "public.flyway_schema_history", "public.topics", "public.users"]
    whole = verify(site, "--budget", "1h")["checks"]
    assert (whole["not_proven"]["tables"], whole["proven"]["rows"]) == (0, 20801)
    [standing] = site.json("status")["components"]
    assert standing["proven"] is None
    [shown] = site.json("restore")["restorable"]
    assert shown["proven"] is False
    text = site.run("verify", "console-db", "--restore", "--schema-only").stdout
    assert "NOT proved: the rows of 4 of 4 tables" in text


def test_damage_is_found_in_what_a_sample_looks_at(site):
    """The large table's pack is damaged: a sample of others passes and says that it did not look there; one of that table fails."""
    [pack] = [p for p in (site.root / "repository/packs").rglob("*") if p.is_file()]
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1  # most of it is that table
    pack.chmod(0o600)
    pack.write_bytes(content)
    assert verify(site, "--tables", "topics", code=3)["result"] == "failed"
    assert verify(site, "--schema-only")["result"] == "passed"


def test_what_makes_no_sense_is_refused(site):
    """A pattern that fits nothing would prove nothing; a part of a bucket is not offered; options that contradict each other are named."""
    for wrong in (
        ["console-db", "--restore", "--tables", "nothing.*"],
        ["console-db", "--tables", "users"],
        ["console-db", "--restore", "--schema-only", "--budget", "1h"],
        ["console-db", "--data", "--schema-only"],
    ):
        assert site.run("verify", *wrong).returncode == 2, wrong
    site.config.write_text(site.config.read_text() + '  cortex: {kind: bucket, url: "s3://b"}\n')
    refused = site.run("verify", "--restore", "--schema-only")
    assert (refused.returncode, 'of a "bucket"' in refused.stderr) == (2, True)
