"""Verification into a bucket that is made for it: everything that makes an object an object is compared, and nothing stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import closing
from datetime import timedelta

import pytest
from blake3 import blake3

from devstack.s3_proxy import S3Proxy, error
from dr_toolkit.buckets import scratch
from dr_toolkit.buckets.client import Bucket
from dr_toolkit.repository.entries import EntryInfo
from dr_toolkit.repository.s3_settings import S3Settings
from tests.bucket_site import DRCTL, HEADERS, Site
from tests.integration.test_bucket import Moto

PREFIX = "drctl-scratch"
TAGS = "team=data+streams&empty="


@pytest.fixture(scope="module")
def moto():
    server = Moto()
    yield server
    server.stop()


@pytest.fixture(params=["seaweedfs", "moto"])
def site(request, tmp_path, bucket):
    """A site with a few objects of every sort and a scratch bucket, at each of the servers."""
    server = request.getfixturevalue("s3_server" if request.param == "seaweedfs" else "moto")
    if request.param == "moto":
        server.client().create_bucket(Bucket=bucket)
    made = Site(tmp_path, server, bucket, extra=f"scratch: s3://{PREFIX}\n    tags: true")
    made.put("all", b"headers", **HEADERS, Expires="Wed, 21 Oct 2065 07:28:00 GMT", Tagging=TAGS)
    made.put("blocks/1/index", os.urandom(3000), ContentType="application/x-block")
    made.put("blocks/1/empty", b"", Metadata={"a": "1", "b": "two words"})
    made.put("nine-mib", os.urandom(9 << 20), CacheControl="no-store")
    return made


def left(site: Site) -> list[str]:
    """Scratch buckets at the server."""
    names = [one["Name"] for one in site.client.list_buckets()["Buckets"]]
    return [name for name in names if name.startswith(PREFIX)]


def test_a_scratch_bucket_proves_objects_with_their_metadata(site):
    """Sizes, digests, headers, user metadata and tags are compared; the evidence says where; the bucket is gone."""
    site.backup()
    (found,) = site.json("verify", "--restore")["results"]
    assert (found["result"], found["failures"]) == ("passed", [])
    assert found["checks"]["objects"] == 4
    assert found["checks"]["scratch_bucket"].startswith(PREFIX)
    assert left(site) == []


@pytest.mark.parametrize("how", ["refused", "terminated"])
def test_a_scratch_bucket_is_removed_whatever_happens(tmp_path, s3_server, bucket, how):
    """The server refuses an object, or the run is ended in its middle."""
    with S3Proxy(s3_server.endpoint) as proxy:
        site = Site(tmp_path, s3_server, bucket, proxy.endpoint, f"scratch: s3://{PREFIX}")
        for number in range(20):
            site.put(f"o{number:02}", os.urandom(2000))
        site.backup()
        running: list[subprocess.Popen[bytes]] = []

        def plan(method, path, _headers):
            if method != "PUT" or "/o07" not in path:
                return None
            if how == "refused":
                return error(403, "AccessDenied")
            running[0].send_signal(signal.SIGTERM)
            return error(503, "SlowDown")

        proxy.plan = plan
        running.append(
            subprocess.Popen(
                [DRCTL, "-c", site.config, "verify", "--restore"],
                env=site.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        assert running[0].wait(120) != 0
        assert left(site) == []


class Listed:
    """A snapshot's objects, as a proof sees them."""

    def __init__(self, *infos: EntryInfo) -> None:
        self.infos = infos

    def entries(self, prefix: str = ""):
        return iter(info for info in self.infos if info.path.startswith(prefix))

    def read(self, path: str):
        raise AssertionError(path)


def test_every_difference_is_found(moto, monkeypatch):
    """Content, a size, each sort of metadata, tags, an object too few and one too many: a sentence for each. What a killed run left is removed."""

    def info(key: str, content: bytes, **meta) -> EntryInfo:
        return EntryInfo(
            key, "object", len(content), {"etag": "e", "digest": blake3(content).hexdigest(), **meta}
        )

    settings = S3Settings(endpoint=moto.endpoint, access_key_id="any", secret_access_key="any")
    moto.client().create_bucket(Bucket=f"{PREFIX}-left")
    moto.client().put_object(Bucket=f"{PREFIX}-left", Key="x", Body=b"x")
    monkeypatch.setattr(scratch, "LEFT", timedelta(seconds=-60))
    source = Listed(
        info("a", b"right", type="text/x"), info("b", b"wrong"), info("c", b"size"), info("d", b"type", type="text/x"),
        info("e", b"user", user={"a": "1"}), info("f", b"tags", tags={"t": "1"}), info("g", b"gone"),
        info("h", b"torn", changed_while_read=True), info("i", b"cache", cache="no-store"),
    )  # fmt: skip
    with scratch.made(PREFIX, settings) as bucket:
        client = moto.client()
        for key, content, more in (
            ("a", b"right", {"ContentType": "text/x"}), ("b", b"wr0ng", {}), ("c", b"sizes", {}), ("d", b"type", {"ContentType": "text/y"}),
            ("e", b"user", {"Metadata": {"a": "2"}}), ("f", b"tags", {"Tagging": "t=2"}), ("i", b"cache", {}), ("more", b"", {}),
        ):  # fmt: skip
            client.put_object(Bucket=bucket.name, Key=key, Body=content, **more)
        done = scratch.compare(source, bucket)
        assert done.count == 8
        assert sorted(line.split('"')[1] for line in done.failures) == [
            "b",
            "c",
            "d",
            "e",
            "f",
            "g",
            "i",
            "more",
        ]
        assert [
            one["Name"] for one in client.list_buckets()["Buckets"] if one["Name"].startswith(PREFIX)
        ] == [bucket.name]
    with closing(Bucket(bucket.name, "", settings)) as gone, pytest.raises(Exception, match="NoSuchBucket"):
        gone.control("list_objects_v2", Bucket=bucket.name)
