"""The doctor on a repository in a bucket: Object Lock, a recipient that does not work, a source that is away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

DRCTL = Path(sys.executable).with_name("drctl")


@pytest.fixture
def site(s3_server, tmp_path):
    """Makes a bucket, a repository in it, and runs the doctor."""

    class Site:
        def __init__(self) -> None:
            self.bucket, self.client = f"doctor-{uuid.uuid4().hex[:8]}", s3_server.client()
            self.environment = os.environ | {"KEY": s3_server.access_key, "SECRET": s3_server.secret_key}
            self.config = tmp_path / "drctl.yaml"

        def make(self, **options) -> None:
            self.client.create_bucket(Bucket=self.bucket, **options)
            s3 = f'{{endpoint: "{s3_server.endpoint}", access_key_id: "env:KEY", secret_access_key: "env:SECRET"}}'
            self.config.write_text(f"""
version: 1
repository: {{url: s3://{self.bucket}/r, s3: {s3}}}
keys:
  w: {{type: key-file, role: write, path: w.key}}
  r: {{type: key-file, role: read, path: r.key}}
components:
  cortex: {{kind: bucket, url: s3://{self.bucket}-source, s3: {s3}}}
""")
            for key in ("w", "r"):
                assert self.run("keys", "generate-file", str(tmp_path / f"{key}.key")).returncode == 0
            assert self.run("init").returncode == 0

        def run(self, *arguments: str):
            command = [str(DRCTL), "-c", str(self.config), *arguments]
            return subprocess.run(
                command, env=self.environment, capture_output=True, text=True, timeout=120, check=False
            )

        def findings(self, code: int):
            done = self.run("doctor", "--output", "json")
            assert done.returncode == code, done.stdout + done.stderr
            return json.loads(done.stdout)["findings"]

    return Site()


def test_a_bucket_without_object_lock_is_a_warning_and_a_source_that_is_away_fails(site):
    """Both in one run: one part that fails hides no other. And a recipient that no longer works is found alone."""
    site.make()
    found = site.findings(1)
    assert any(one["level"] == "warning" and "Object Lock is off" in one["what"] for one in found)
    assert [one["on"] for one in found if one["level"] == "failed"] == [f"s3://{site.bucket}-source"] or any(
        f"{site.bucket}-source" in one["what"] for one in found if one["level"] == "failed"
    )
    site.client.create_bucket(Bucket=f"{site.bucket}-source")
    found = site.findings(0)
    assert (
        sum(1 for one in found if one["area"] == "keys" and one["level"] == "ok" and "unwraps" in one["what"])
        == 2
    )
    (site.config.parent / "r.key").unlink()
    assert site.run("keys", "generate-file", str(site.config.parent / "r.key")).returncode == 0
    failed = [one for one in site.findings(1) if one["level"] == "failed"]
    assert [one["on"] for one in failed] == ["r"], failed
    assert site.run("backup", "--dry-run").returncode == 0


def test_a_bucket_that_locks_at_birth_is_fine(site):
    """The default retention is read as the server tells it."""
    site.make(ObjectLockEnabledForBucket=True)
    site.client.create_bucket(Bucket=f"{site.bucket}-source")
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    site.client.put_object_lock_configuration(
        Bucket=site.bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    found = site.findings(0)
    assert any(one["level"] == "ok" and "COMPLIANCE, 1 day)" in one["what"] for one in found)
    assert any("Kafka topics" in one["what"] for one in found)
