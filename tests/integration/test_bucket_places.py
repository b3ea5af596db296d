"""Where buckets are and who may reach them: web identity as in Kubernetes, and targets whose objects are locked."""

from __future__ import annotations

import re
import secrets

from tests.bucket_site import Site
from tests.integration.test_bucket import Moto


def test_web_identity_gives_the_keys(tmp_path):
    """As a pod with a service account's role (IRSA): no keys in the configuration, a token in a file, keys from STS. moto is both STS and S3."""
    server = Moto()
    try:
        server.client().create_bucket(Bucket="irsa")
        site = Site(tmp_path, server, "irsa")
        site.put("a", b"one")
        (tmp_path / "token").write_text("a.token.of-the-cluster")
        site.config.write_text(re.sub(r", access_key_id: .*?SECRET\"", "", site.config.read_text()))
        site.environment = {
            name: value for name, value in site.environment.items() if not name.startswith("AWS_")
        } | {
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/drctl-backup",
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
            "AWS_ENDPOINT_URL_STS": server.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_REGION": "us-east-1",
        }
        assert site.header(site.backup()["id"])["objects"] == 1
        (tmp_path / "token").unlink()
        failure = site.json("backup", code=1)["failures"][0]
        assert "no S3 credentials" in failure["message"]
        assert "AWS_" not in failure["message"]
    finally:
        server.stop()


def test_a_locked_target_keeps_what_it_has(tmp_path, s3_server, bucket):
    """Restoring over locked objects makes new versions; --exact hides what is extra behind a delete marker. Every locked version is still there."""
    target = f"locked-{secrets.token_hex(6)}"
    s3_server.create_bucket(target, object_lock=True)
    site = Site(tmp_path, s3_server, bucket)
    site.client.put_object_lock_configuration(
        Bucket=target,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}},
        },
    )
    before = {}
    for key in ("a", "extra"):
        made = site.client.put_object(Bucket=target, Key=key, Body=b"locked")
        before[key] = made["VersionId"]
    site.put("a", b"from the snapshot")
    site.put("large", b"x" * (17 << 20))
    site.backup()
    done = site.json("restore", "cortex", "--to", f"s3://{target}", "--exact", "--yes")["restored"]
    assert [done["objects"][name] for name in ("new", "replaced", "extra")] == [1, 1, 1]
    assert {key: len(value[0]) for key, value in site.content(target).items()} == {"a": 17, "large": 17 << 20}
    for key, version in before.items():
        got = site.client.get_object(Bucket=target, Key=key, VersionId=version)
        assert got["Body"].read() == b"locked"
