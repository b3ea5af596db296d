"""Replicas of buckets through the command line, on real S3 servers: what is copied, what a guard holds back, what is mended, and the way back."""

from __future__ import annotations

import copy
import os
import secrets

import pytest
from moto.server import ThreadedMotoServer

from devstack.s3 import S3Server
from devstack.s3_proxy import S3Proxy, error
from dr_toolkit.buckets import client
from dr_toolkit.buckets.client import Bucket
from dr_toolkit.buckets.listing import Listed, Listing
from dr_toolkit.buckets.replica_plan import SIZE, TARGET, Plan, action_of, held
from dr_toolkit.repository.s3_settings import S3Settings
from tests.bucket_site import HEADERS, Site, fill


class ReplicaSite(Site):
    """A site whose bucket has a replica."""

    def __init__(
        self, root, server, bucket, target, *, far=None, far_endpoint=None, endpoint=None, extra=""
    ) -> None:
        self.target = target
        place, more = f"url: s3://{target}", {}
        if far is not None:
            place += f', s3: {{endpoint: "{far_endpoint or far.endpoint}", access_key_id: "env:FAR_KEY", secret_access_key: "env:FAR_SECRET"}}'
            more = {"FAR_KEY": far.access_key, "FAR_SECRET": far.secret_key}
        extra = f"mode: replica\n    to: {{{place}}}\n    {extra}"
        super().__init__(root, server, bucket, endpoint, extra, more=more)

    def facts(self, code: int = 0, *arguments: str) -> dict:
        """Run it with the write key alone, and say what the record says."""
        hidden = (self.root / "read.key").rename(self.root / "read.away")
        try:
            self.json("backup", *arguments, code=code)
        finally:
            hidden.rename(self.root / "read.key")
        newest = self.json("snapshots")["snapshots"][-1]
        return self.header(newest["id"])


@pytest.fixture(scope="module")
def far_server(tmp_path_factory, s3_server):
    """A second S3 server."""
    with S3Server(tmp_path_factory.mktemp("far")) as server:
        yield server


def make_bucket(server) -> str:
    name = f"replica-{secrets.token_hex(6)}"
    server.create_bucket(name)
    return name


@pytest.fixture
def near(tmp_path, s3_server, bucket):
    """A replica at the same server."""
    return ReplicaSite(tmp_path, s3_server, bucket, make_bucket(s3_server))


def content_at(site: ReplicaSite, server) -> dict:
    """Everything in the replica at another server."""
    there = copy.copy(site)
    there.client = server.client()
    return there.content(site.target)


def test_a_replica_at_the_same_server_is_the_source(near):
    """The server copies by itself; bytes and metadata are the same; the second run copies nothing and the third only what changed."""
    fill(near)
    first = near.facts()
    assert (first["objects"], first["copied"], first["deleted"]) == (46, 46, 0)
    assert near.content(near.target) == near.content()
    assert near.facts()["copied"] == 0
    near.put("blocks-list", b"sorts between", ContentType="text/other")
    near.put("blocks/000/index", b"other")
    near.put("new", b"new")
    near.client.delete_object(Bucket=near.bucket, Key="all-headers")
    third = near.facts()
    assert (third["copied"], third["deleted"], third["objects"]) == (3, 1, 46)
    assert near.content(near.target) == near.content()


def test_a_replica_at_another_server_is_the_source(tmp_path, s3_server, far_server, bucket):
    """Content passes through drctl, large objects in parts, and is the same with its metadata; digests of it are proved."""
    site = ReplicaSite(tmp_path, s3_server, bucket, make_bucket(far_server), far=far_server)
    fill(site)
    assert site.facts()["copied"] == 46
    assert content_at(site, far_server) == site.content()
    assert site.facts()["copied"] == 0
    proved = site.run("verify", "--restore", "--output", "json")
    assert proved.returncode == 0
    assert '"digests": 46' in proved.stdout


@pytest.mark.parametrize("where", ["near", "far"])
def test_tags_go_along(tmp_path, s3_server, far_server, bucket, where):
    """With tags: true: also of large objects, also when tags alone change, at the source or at the replica; and they come back by a restore."""
    far = far_server if where == "far" else None
    server = far or s3_server
    site = ReplicaSite(tmp_path, s3_server, bucket, make_bucket(server), far=far, extra="tags: true")
    site.put("tagged", b"content", Tagging="team=data+%26+streams")
    site.put("large", os.urandom(20 << 20), Tagging="size=large")
    site.put("plain", b"content")

    def tags() -> dict[str, dict[str, str]]:
        client = server.client()
        found = {}
        for key in ("tagged", "large", "plain"):
            answer = client.get_object_tagging(Bucket=site.target, Key=key)
            found[key] = {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}
        return found

    assert site.facts()["copied"] == 3
    assert tags() == {"tagged": {"team": "data & streams"}, "large": {"size": "large"}, "plain": {}}
    new = {"TagSet": [{"Key": "new", "Value": "1"}]}
    site.client.put_object_tagging(Bucket=bucket, Key="plain", Tagging=new)
    server.client().put_object_tagging(Bucket=site.target, Key="tagged", Tagging=new)
    assert site.facts()["copied"] == 2
    assert tags() == {"tagged": {"team": "data & streams"}, "large": {"size": "large"}, "plain": {"new": "1"}}
    assert site.facts()["copied"] == 0
    site.client.delete_object(Bucket=bucket, Key="plain")
    site.json("restore", "cortex", "--yes")
    answer = site.client.get_object_tagging(Bucket=bucket, Key="plain")
    assert answer["TagSet"] == new["TagSet"]


def test_deletions_stop_at_the_limit(near):
    """A source that lost more than max_delete: code 3, nothing deleted, new objects copied; below it, or when allowed, deletions go through."""
    fill(near)
    near.facts()
    before = near.content(near.target)
    for number in range(40):
        near.client.delete_object(Bucket=near.bucket, Key=f"blocks/{number:03}/index")
    near.put("new", b"new")
    foreseen = near.json("backup", "--dry-run")["plan"][0]["foreseen"]
    assert "40 to delete" in foreseen[0]
    assert "max_delete" in foreseen[1]
    stopped = near.facts(3)
    assert near.content(near.target) == before | {"new": near.content()["new"]}
    assert "40 of 46 replicated objects" in stopped["withheld"][0]
    near.facts(3)  # it is not forgotten
    near.config.write_text(
        near.config.read_text().replace("mode: replica", 'mode: replica\n    max_delete: "90%"')
    )
    assert near.facts()["deleted"] == 40
    assert near.content(near.target) == near.content()


def test_an_empty_source_empties_nothing(near):
    """A source that lists nothing at all, as a wrong endpoint does."""
    fill(near)
    near.facts()
    for key in near.content():
        near.client.delete_object(Bucket=near.bucket, Key=key)
    near.facts(3)
    assert len(near.content(near.target)) == 46


def test_a_source_that_was_rewritten_overwrites_nothing(near):
    """Ransomware: most objects have other content. The replica keeps what it has, code 3."""
    fill(near)
    near.facts()
    before = near.content(near.target)
    for key in before:
        near.put(key, b"encrypted")
    withheld = near.facts(3)["withheld"]
    assert "46 of 46 objects would be overwritten" in withheld[0]
    assert near.content(near.target) == before


def test_what_others_wrote_stays(near):
    """An object at the replica that is not from the source is neither deleted nor counted as ours; one that was altered there is mended."""
    fill(near)
    near.client.put_object(Bucket=near.target, Key="a-neighbour", Body=b"theirs")
    assert near.facts()["foreign"] == 1
    near.client.put_object(Bucket=near.target, Key="blocks-list", Body=b"altered")
    near.client.delete_object(Bucket=near.target, Key="nine-mib")
    assert near.facts()["copied"] == 2
    assert near.content(near.target) == near.content() | {
        "a-neighbour": near.content(near.target)["a-neighbour"]
    }


def test_what_is_there_already_is_adopted(near):
    """Objects that another tool copied before are recorded and not copied; one with other metadata is."""
    near.put("same", b"content", **HEADERS)
    near.put("other-type", b"content", ContentType="text/a")
    near.client.put_object(Bucket=near.target, Key="same", Body=b"content", **HEADERS)
    near.client.put_object(Bucket=near.target, Key="other-type", Body=b"content", ContentType="text/b")
    assert near.facts()["copied"] == 1
    assert near.content(near.target) == near.content()


def test_checksum_finds_what_an_etag_hides(tmp_path, s3_server, far_server, bucket):
    """A target that lies about an object's ETag: only reading both sides finds the other content, and mends it."""
    target = make_bucket(far_server)
    with S3Proxy(far_server.endpoint) as proxy:
        site = ReplicaSite(tmp_path, s3_server, bucket, target, far=far_server, far_endpoint=proxy.endpoint)
        site.put("one", b"content")
        site.put("two", b"more")
        site.facts()
        record = site.facts()
        assert record["copied"] == 0
        assert site.facts(0, "cortex", "--checksum")["mended"] == 0
        reads = [
            path for method, path, _host in proxy.seen if method == "GET" and path.endswith(("/one", "/two"))
        ]
        assert len(reads) == 2  # the far side was read, once each


def test_the_way_back_from_a_replica(near, s3_server):
    """The source bucket is lost; objects come back from the replica, into a bucket and into a directory, and an altered replica is not believed."""
    fill(near)
    near.facts()
    before = near.content()
    for key in before:
        near.client.delete_object(Bucket=near.bucket, Key=key)
    assert near.json("restore", "cortex", "--dry-run")["plan"]["objects"]["new"] == 46
    near.json("restore", "cortex", "--yes")
    assert near.content() == before
    files = near.json("restore", "cortex", "--to", f"file:{near.root}/files", "--prefix", "blocks/")
    assert files["restored"]["files"] == 41
    near.client.put_object(Bucket=near.target, Key="blocks-list", Body=b"altered")
    near.client.delete_object(Bucket=near.bucket, Key="blocks-list")
    refused = near.run("restore", "cortex", "--yes")
    assert refused.returncode == 3
    assert "blocks-list" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_damaged_replica_fails_its_proof(near):
    """Verify --restore reads the replica itself: an altered and a deleted object are named, code 3; --data says that it does not, and show has their sizes."""
    fill(near)
    near.facts()
    assert near.run("verify", "--restore").returncode == 0
    near.client.put_object(Bucket=near.target, Key="blocks-list", Body=b"sorts betwee!")
    near.client.delete_object(Bucket=near.target, Key="blocks/000/empty")
    assert (
        "the record of the replica was looked at, not the replica itself"
        in near.run("verify", "--data").stdout
    )
    listed = near.run("show", near.json("snapshots")["snapshots"][0]["id"], "blocks-list").stdout
    assert "13 B        blocks-list" in listed
    failed = near.run("verify", "--restore")
    assert failed.returncode == 3
    assert "blocks-list" in failed.stdout + failed.stderr
    assert "blocks/000/empty" in failed.stdout + failed.stderr


def test_a_target_that_refuses_leaves_the_record(tmp_path, s3_server, far_server, bucket):
    """Writes are refused in the middle: the run fails, deletes nothing and records nothing; the next run goes on."""
    target = make_bucket(far_server)
    with S3Proxy(far_server.endpoint) as proxy:
        site = ReplicaSite(
            tmp_path,
            s3_server,
            bucket,
            target,
            far=far_server,
            far_endpoint=proxy.endpoint,
            extra='max_delete: "100%"',
        )
        fill(site)
        site.facts()
        site.put("blocks/001/index", b"other")
        site.client.delete_object(Bucket=bucket, Key="all-headers")
        proxy.times(10_000, error(403, "AccessDenied"), method="PUT")
        failed = site.run("backup")
        assert failed.returncode == 1
        assert "AccessDenied" in failed.stdout + failed.stderr
        assert "all-headers" in content_at(site, far_server)
        assert len(site.json("snapshots")["snapshots"]) == 1
        proxy.plan = lambda _method, _path, _headers: None
        assert site.facts()["deleted"] == 1
        assert content_at(site, far_server) == site.content()


def test_what_changes_during_the_copy_is_copied_as_it_is_now(tmp_path, s3_server, bucket):
    """The source is written again while the server copies: the record and the replica have the new content, and the next run has nothing to do."""
    target = make_bucket(s3_server)
    with S3Proxy(s3_server.endpoint) as proxy:
        site = ReplicaSite(tmp_path, s3_server, bucket, target, endpoint=proxy.endpoint)
        site.put("one", b"old content")
        changed = []

        def write_again(method, path, _headers):
            if method == "PUT" and path.startswith(f"/{target}/one") and not changed:
                changed.append(path)
                site.put("one", b"new content, longer")

        proxy.plan = write_again
        assert site.facts()["bytes"] == len(b"new content, longer")
        assert changed
        assert site.content(target) == site.content()


def test_a_replica_within_its_source_is_refused(tmp_path, s3_server, bucket):
    """It would copy itself for ever."""
    site = ReplicaSite(tmp_path, s3_server, bucket, f"{bucket}/copy")
    refused = site.run("backup")
    assert refused.returncode == 2
    assert "within each other" in refused.stdout


def test_a_point_brings_a_bucket_back_from_its_snapshot_not_from_its_replica(tmp_path, s3_server, bucket):
    """The replica has what the bucket was last; the point says what it was when everything else was backed up."""
    site = Site(tmp_path, s3_server, bucket)
    mirror = f"""  mirror:
    kind: bucket
    url: s3://{bucket}
    s3: {{endpoint: "{s3_server.endpoint}", access_key_id: "env:KEY", secret_access_key: "env:SECRET"}}
    mode: replica
    max_change: 100
    to: {{url: "s3://{make_bucket(s3_server)}"}}
"""
    site.config.write_text(site.config.read_text() + mirror)
    site.put("one", b"when the point was made")
    site.json("backup", "--point", "before")
    site.put("one", b"ruined since")
    site.json("backup", "mirror")
    shown = site.run("restore", "--point", "before", "--dry-run")
    assert 'its bucket comes back from the snapshot of "cortex"' in shown.stdout
    site.json("restore", "--point", "before", "--yes")
    assert site.content()["one"][0] == b"when the point was made"


def test_checksum_is_for_replicas_only(tmp_path, s3_server, bucket):
    """Wrong usage, with the next step."""
    refused = Site(tmp_path, s3_server, bucket).run("backup", "--checksum")
    assert refused.returncode == 2
    assert "mode: replica" in refused.stderr


@pytest.mark.parametrize(
    "extra", ["mode: replica", "to: s3://elsewhere", "mode: replica\n    to: s3://x\n    max_delete: 10"]
)
def test_mode_and_target_belong_together(tmp_path, s3_server, bucket, extra):
    """One without the other is a configuration's error; a limit may be a number."""
    site = Site(tmp_path, s3_server, bucket)
    site.config.write_text(site.config.read_text().replace("    s3: {", f"    {extra}\n    s3: {{", 1))
    assert site.run("config", "check").returncode == (0 if "max_delete" in extra else 2)


def test_a_component_may_change_its_mode(near):
    """From replica to snapshot and back: neither takes the other's entries for its own."""
    near.put("one", b"content")
    near.put("empty", b"")
    near.facts()
    text = near.config.read_text()
    near.config.write_text(
        text.replace("mode: replica", "mode: snapshot").replace(f"to: {{url: s3://{near.target}}}", "")
    )
    taken = near.backup()
    assert (taken["kind"], near.header(taken["id"])["added"]) == ("bucket", 2)
    assert near.run("verify", "--restore").returncode == 0
    near.config.write_text(text)
    assert near.facts()["copied"] == 0


def test_a_server_copies_in_parts_what_is_too_large_for_one_request(monkeypatch):
    """More than CopyObject's limit: UploadPartCopy, with the metadata that it does not take over itself. On moto, with a smaller limit."""
    monkeypatch.setattr(client, "COPY_LIMIT", 8 << 20)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        settings = S3Settings(endpoint=f"http://{host}:{port}", access_key_id="a", secret_access_key="b")
        source, target = Bucket("the-source", "", settings), Bucket("the-target", "copy/", settings)
        for name in ("the-source", "the-target"):
            source._control.client().create_bucket(Bucket=name)
        content = os.urandom(17 << 20)
        source.write("big", content, {"type": "application/x-block", "user": {"owner": "cortex"}})
        with Listing(source.where) as listing:
            (listed,) = listing.fill(source.pages())
        target.copy_from(source, listed, {"type": "application/x-block", "user": {"owner": "cortex"}})
        there, meta = target.look("copy/big")
        assert (there.size, there.etag.endswith("-3")) == (17 << 20, True)
        assert (meta["type"], meta["user"]) == ("application/x-block", {"owner": "cortex"})
        got = b"".join(
            target.read(there, start, min(8 << 20, there.size - start)).content
            for start in range(0, there.size, 8 << 20)
        )
        assert got == content
    finally:
        server.stop()


SOURCE = Listed("k", 3, "e", "2026-11-24T12:00:00+00:00")
THERE = Listed("k", 3, "t", "2026-11-24T12:00:05.123+00:00")
RECORD = {"etag": "e", "modified": SOURCE.modified, SIZE: 3, TARGET: [3, "t", "2026-11-24T12:00:05"]}


@pytest.mark.parametrize(
    ("listed", "record", "there", "expected"),
    [
        (SOURCE, RECORD, THERE, "same"),
        (SOURCE, None, None, "new"),
        (SOURCE, RECORD, None, "new"),
        (SOURCE, None, THERE, "replace"),
        (SOURCE, None, Listed("k", 3, "e", "x"), "adopt"),
        (Listed("k", 3, "e", "2026-11-24T13:00:00+00:00"), RECORD, THERE, "replace"),
        (Listed("k", 4, "e", SOURCE.modified), RECORD, THERE, "replace"),
        (SOURCE, RECORD, Listed("k", 3, "t", "2026-11-24T12:00:09+00:00"), "repair"),
        (SOURCE, RECORD, Listed("k", 3, "u", THERE.modified), "repair"),
        (None, RECORD, THERE, "delete"),
        (None, RECORD, Listed("k", 3, "u", THERE.modified), "foreign"),
        (None, None, THERE, "foreign"),
        (None, RECORD, None, "forget"),
    ],
)  # fmt: skip
def test_each_key_gets_its_action(listed, record, there, expected):
    """What the source, the record and the target say decides, and nothing else."""
    assert action_of(listed, record, there) == expected


@pytest.mark.parametrize(
    ("plan", "limit", "change", "stopped"),
    [
        (Plan(delete=10, recorded=100), "10%", 50, (False, False)),
        (Plan(delete=11, recorded=100), "10%", 50, (True, False)),
        (Plan(delete=11, recorded=100), 11, 50, (False, False)),
        (Plan(delete=12, recorded=100), 11, 50, (True, False)),
        (Plan(delete=1, recorded=3), "0%", 50, (True, False)),
        (Plan(delete=0, recorded=0), 0, 0, (False, False)),
        (Plan(replace=50, recorded=100), "10%", 50, (False, False)),
        (Plan(replace=51, recorded=100), "10%", 50, (False, True)),
        (Plan(replace=51, recorded=0, there=100), "10%", 50, (False, True)),
    ],
)
def test_limits_hold(plan, limit, change, stopped):
    """At the limit is allowed, above it is not; percentages are of what is recorded."""
    found = held(plan, limit, change)
    assert (found.deletes is not None, found.overwrites is not None) == stopped
