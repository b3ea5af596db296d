"""``drctl status``: against real snapshots and real proofs, and its judgement alone."""

from __future__ import annotations

import secrets
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.test_bucket import Site


@pytest.fixture
def make(tmp_path, s3_server):
    """Makes a site with objectives."""

    def made(objectives: str) -> Site:
        name = f"status-{secrets.token_hex(6)}"
        s3_server.create_bucket(name)
        site = Site(tmp_path, s3_server, name, extra=f"objectives: {objectives}")
        site.put("a", b"one")
        return site

    return made


def missed(site: Site, code: int) -> list[str]:
    return site.json("status", code=code)["components"][0]["missed"]


def test_objectives_are_met_only_by_proof(make):
    """Nothing stored, then nothing proven, are misses with code 4; a passed restore makes it good, and its time is the measured RTO."""
    site = make("{rpo: 1h, rto: 10m}")
    assert missed(site, 4) == ["there is no good snapshot"]
    taken = site.backup()
    assert missed(site, 4) == ["no restore was ever proven, so the RTO is unknown"]
    site.json("verify", "--restore")
    file = site.root / "drctl.prom"
    found = site.json("status", "--metrics", str(file))["components"][0]
    assert (found["last_good"], found["proven"], found["missed"], found["rpo_seconds"]) == (
        taken["id"],
        taken["id"],
        [],
        3600.0,
    )
    assert 0 < found["rto_measured_seconds"] < 600
    families = {f.name: f.samples[0] for f in text_string_to_metric_families(file.read_text())}
    assert families["drctl_restore_measured_seconds"].value == found["rto_measured_seconds"]
    assert families["drctl_objectives_missed"].labels == {"component": "cortex", "kind": "bucket"}
    assert "ok" in site.run("status").stdout


def test_an_old_snapshot_misses_the_rpo(make):
    """Time alone makes an objective missed."""
    site = make("{rpo: 1s}")
    site.backup()
    time.sleep(2.5)
    assert missed(site, 4) == ["the last good snapshot is older than the RPO allows"]
    shown = site.run("status")
    assert (shown.returncode, "MISSED: cortex" in shown.stdout, "next: drctl backup" in shown.stdout) == (
        4,
        True,
        True,
    )


def test_what_failed_its_proof_is_not_good_enough(make):
    """A restore that fails after one that passed is a miss, although the older proof still counts as what surely comes back."""
    site = make("{rpo: 1h}")
    first = site.backup()
    site.json("verify", "--restore")
    site.put("b", bytes(range(256)) * 40)
    site.backup()
    packs = sorted(
        (p for p in (site.root / "repository/packs").rglob("*") if p.is_file()),
        key=lambda p: p.stat().st_mtime,
    )
    data = bytearray(packs[-1].read_bytes())
    data[1300] ^= 1
    packs[-1].chmod(0o600)
    packs[-1].write_bytes(data)
    site.json("verify", "--data", code=3)
    assert missed(site, 4) == ["the last verification of the stored data failed"]
    site.json("verify", "--quick")
    assert missed(site, 4) == ["the last verification of the stored data failed"]
    assert "data FAILED" in site.run("snapshots").stdout
    site.json("verify", "--restore", code=3)
    found = site.json("status", code=4)["components"][0]
    assert (found["proven"], found["missed"]) == (first["id"], ["the last verification by restore failed"])


def test_a_missing_snapshot_is_code_3(make):
    """Damage weighs more than an objective."""
    site = make("{rpo: 1h}")
    first = site.backup()
    site.put("b", b"two")
    site.backup()
    header = next(p for p in (site.root / "repository/snapshots").rglob("*") if first["id"] in p.name)
    header.unlink()
    found = site.json("status", code=3)["components"][0]
    assert first["id"] in found["problems"][0]
