"""Where buckets are and who may reach them: web identity as in Kubernetes, and targets whose objects are locked."""

from __future__ import annotations

import re
import secrets
import time

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


def test_a_restore_goes_to_another_endpoint_by_name(tmp_path, s3_server, bucket):
    """A place has an endpoint and credentials of its own; the snapshot of a time is found, and a part of it is shown before it is restored."""
    server = Moto()
    try:
        server.client().create_bucket(Bucket="far")
        place = f'far: {{url: "s3://far/back", s3: {{endpoint: "{server.endpoint}", access_key_id: "env:FAR", secret_access_key: "env:FAR"}}}}'
        site = Site(tmp_path, s3_server, bucket, extra=f"places: {{{place}}}", more={"FAR": "any"})
        site.put("blocks/1", b"one", ContentType="text/x")
        site.put("other", b"other", StorageClass="STANDARD_IA")
        first = site.backup()
        site.put("blocks/1", b"rewritten since")
        time.sleep(1)  # snapshots bear whole seconds
        site.backup()
        shown = site.json("show", first["id"], "blocks/")["entries"]
        assert [(one["path"], one["size"]) for one in shown] == [("blocks/1", 3)]
        site.json("restore", "cortex", "--at", first["time"], "--to", f"file:{tmp_path}/files")
        assert (tmp_path / "files/blocks/1").read_bytes() == b"one"
        rows = (tmp_path / "files/%objects.jsonl").read_text()
        assert '"class":"STANDARD_IA"' in rows.replace(": ", ":")
        again = ("restore", "cortex", "--to", "far", "--yes")
        assert site.json(*again)["restored"]["objects"]["new"] == 2
        site.client = server.client()
        assert site.content("far")["back/blocks/1"][0] == b"rewritten since"
        refused = site.json("restore", "cortex", "--to", "nowhere", code=2)["error"]
        assert "places" in refused["hint"]
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
