"""What comes after an answer never hides it: files beside it, evidence, a point; and who throws the answer away hears of failures."""

from __future__ import annotations

import secrets

import pytest

from tests.bucket_site import Site


@pytest.fixture(scope="module")
def site(tmp_path_factory, s3_server) -> Site:
    """Two components, of which one has no bucket; one snapshot."""
    name = f"answers-{secrets.token_hex(6)}"
    s3_server.create_bucket(name)
    lost = f'lost: {{kind: bucket, url: "s3://nowhere-{name}", s3: {{endpoint: "{s3_server.endpoint}", access_key_id: "env:KEY", secret_access_key: "env:SECRET"}}}}'
    found = Site(
        tmp_path_factory.mktemp("answers"), s3_server, name, extra=f"objectives: {{rto: 1h}}\n  {lost}"
    )
    found.put("a", b"one")
    return found


def test_a_file_that_cannot_be_written_hides_no_answer(site):
    """The answer is printed, its code wins over that of the file, and the file's error is told in words."""
    absent = str(site.root / "absent" / "file")
    done = site.run("status", "--metrics", absent)
    assert done.returncode == 4
    assert "there is no good snapshot" in done.stdout
    assert f'"{absent}" cannot be written: No such file or directory' in done.stderr
    assert site.json("status", "--metrics", absent, code=4)["components"]
    done = site.run("report", "--html", absent)
    assert (done.returncode, "there is no good snapshot" in done.stdout) == (1, True)


def test_the_gate_looks_for_its_files_before_it_begins(site):
    """A report that would have no place after an hour is wrong usage now."""
    error = site.json("pre-upgrade", "--report", str(site.root / "absent" / "gate.html"), code=2)["error"]
    assert "is no directory" in error["message"]
    assert error["unaffected"] == "nothing was started"


def test_a_failed_component_is_told_on_standard_error_once(site):
    """Cron mails what comes there: a line for what failed, none for what did not, and nothing twice with -v or in JSON."""
    for options, times in ((), 1), (("-v",), 1), (("--output", "json"), 0):
        done = site.run("backup", *options)
        assert done.returncode == 1
        told = [line for line in done.stderr.splitlines() if "lost" in line and "trust" not in line]
        assert len(told) == times, done.stderr
    assert site.run("backup", "cortex").stderr.count("drctl:") == 0
    assert "no point was made" not in done.stdout, "none was asked for"


def test_a_point_that_cannot_be_made_hides_no_snapshot(site):
    """The snapshots are there, and the answer has their heads; the point's failure is one of its lines."""
    points = site.root / "repository" / "points"
    if points.exists():
        points.rmdir()
    points.write_text("in the way")
    try:
        done = site.json("backup", "cortex", "--point", "before", code=1)
    finally:
        points.unlink()
    assert [s["component"] for s in done["snapshots"]] == ["cortex"]
    assert done["point"] is None
    assert [f["component"] for f in done["failures"]] == ["point before"]


def test_a_read_key_that_is_away_hides_no_damage(site):
    """A quick verification needs the write key alone; that its evidence cannot be signed is a warning, and what it found is the answer."""
    site.json("backup", "cortex", "--full")
    away = (site.root / "read.key").rename(site.root / "read.away")
    packs = list((site.root / "repository" / "packs").rglob("*"))
    lost = max((p for p in packs if p.is_file()), key=lambda p: p.stat().st_mtime)
    kept = lost.rename(site.root / "kept")
    try:
        done = site.run("verify", "cortex", "--quick")
    finally:
        kept.rename(lost)
        away.rename(site.root / "read.key")
    assert done.returncode == 3, done.stderr
    assert "FAILED  cortex" in done.stdout
    assert "evidence not stored" in done.stderr
    assert "drctl: cortex: quick failed" in done.stderr
