"""Buckets under faults, through the command line: what passes is waited out, what does not is an error, and nothing false is ever stored or deleted."""

from __future__ import annotations

import json
import os
import re
import secrets
from contextlib import closing

import pytest

from devstack.s3_proxy import CUT, DROP, FALSE, FALSE_SENT, RESET, SHORT, STALL, Edit, S3Proxy, error
from dr_toolkit import errors
from dr_toolkit.buckets.client import Bucket
from dr_toolkit.buckets.listing import Listing
from dr_toolkit.buckets.providers import is_cut, states_md5
from dr_toolkit.repository.s3_settings import S3Settings
from tests.bucket_site import Site
from tests.integration.test_replica import ReplicaSite

FAULTS = {
    "throttled": error(503, "SlowDown"), "broken": error(500, "InternalError"), "cut": CUT, "reset": RESET, "short": SHORT, "false": FALSE,
}  # fmt: skip


@pytest.fixture
def proxy(s3_server):
    """A proxy before the server."""
    with S3Proxy(s3_server.endpoint) as made:
        yield made


@pytest.fixture
def site(tmp_path, s3_server, bucket, proxy):
    """A site that reaches its bucket through the proxy, with six small objects and a large one."""
    made = Site(tmp_path, s3_server, bucket, proxy.endpoint)
    for number in range(6):
        made.put(f"o{number}", os.urandom(5000))
    made.put("large", os.urandom(5 << 20))
    return made


def make_bucket(server) -> str:
    name = f"fault-{secrets.token_hex(6)}"
    server.create_bucket(name)
    return name


def settings(server, endpoint: str) -> S3Settings:
    return S3Settings(endpoint=endpoint, access_key_id=server.access_key, secret_access_key=server.secret_key)


def test_a_backup_waits_faults_out(site, proxy):
    """Each fault hits the listing or new objects a few times: a snapshot is taken, and every object in it is what the bucket has."""
    for fault in ("throttled", "broken", "cut", "reset", "short", "false"):
        for number in range(6):
            site.put(f"{fault}{number}", os.urandom(5000))
        proxy.times(
            3, FAULTS[fault], method="GET", part=f"/{fault}" if fault == "false" else f"/{site.bucket}"
        )
        taken = site.backup()
        assert not [w for w in taken["warnings"] if "changed" in w or "deleted" in w], fault
    proxy.calm()
    assert site.json("verify", "--restore")["results"][0]["result"] == "passed"
    plan = site.json("restore", "cortex", "--dry-run")["plan"]["objects"]
    assert (plan["same"], plan["replaced"] + plan["new"]) == (43, 0)


def test_a_restore_waits_faults_out(site, proxy, s3_server):
    """Refusals, lost answers and bytes that change on the way to the server: every object arrives as it was."""
    site.backup()
    before, target = site.content(), make_bucket(s3_server)
    for fault in (FAULTS["throttled"], DROP, FALSE_SENT):
        proxy.times(2, fault, method="PUT")
        site.json("restore", "cortex", "--to", f"s3://{target}", "--yes")
        assert site.content(target) == before
        for key in before:
            site.client.delete_object(Bucket=target, Key=key)


def test_a_replica_waits_faults_out(tmp_path, s3_server, bucket, proxy):
    """Between two endpoints: both reading and writing go wrong a few times, and the replica is the source."""
    target = make_bucket(s3_server)
    site = ReplicaSite(tmp_path, s3_server, bucket, target, far=s3_server, far_endpoint=proxy.endpoint, endpoint=proxy.endpoint)  # fmt: skip
    for fault, method in ((FAULTS["throttled"], "PUT"), (RESET, "GET"), (DROP, "PUT"), (FALSE_SENT, "PUT")):
        for number in range(6):
            site.put(f"{method}{number}{len(fault)}", os.urandom(5000))
        proxy.times(2, fault, method=method)
        assert site.facts()["copied"] == 6
        assert site.content(target) == site.content()
    proxy.calm()
    assert site.facts()["copied"] == 0


def test_silence_ends(s3_server, bucket, proxy):
    """A server that falls silent in the middle of a body is left after a while, and asked again; one that stays silent is an error."""
    s3_server.client().put_object(Bucket=bucket, Key="k", Body=b"x" * 4000)
    with closing(
        Bucket(bucket, "", settings(s3_server, proxy.endpoint), retry_seconds=20, stall_seconds=0.3)
    ) as source:
        with Listing(source.where) as listing:
            listed = next(iter(listing.fill(source.pages())))
        proxy.times(2, STALL, method="GET")
        assert source.read(listed, 0, 4000).content == b"x" * 4000
    with closing(
        Bucket(bucket, "", settings(s3_server, proxy.endpoint), retry_seconds=0, stall_seconds=0.3)
    ) as source:
        proxy.times(100, STALL, method="GET")
        with pytest.raises(errors.SourceUnreachable, match="Timeout"):
            source.read(listed, 0, 4000)


def test_what_stays_broken_is_an_error(s3_server, bucket, proxy):
    """Content that never is what its ETag says is refused, not stored."""
    s3_server.client().put_object(Bucket=bucket, Key="k", Body=b"x" * 4000)
    with closing(Bucket(bucket, "", settings(s3_server, proxy.endpoint), retry_seconds=0.5)) as source:
        with Listing(source.where) as listing:
            listed = next(iter(listing.fill(source.pages())))
        proxy.times(100, FALSE, method="GET")
        with pytest.raises(errors.SourceUnreachable, match="not what its ETag says"):
            source.read(listed, 0, 4000)


def test_a_forbidden_prefix_ends_the_run(site, proxy):
    """No snapshot is made that lacks what may not be read; the error names the object. With the right given, the next run has all."""
    site.put("secret/1", b"forbidden")
    proxy.plan = lambda _m, path, _h: error(403, "AccessDenied") if "/secret/" in path else None
    failure = site.json("backup", code=1)["failures"][0]
    assert (failure["on"], "docs/permissions.md" in failure["hint"]) == ("secret/1", True)
    assert site.json("snapshots")["snapshots"] == []
    proxy.calm()
    assert site.header(site.backup()["id"])["objects"] == 8


def chain(site: Site, server) -> list[str]:
    """Let the site take keys from a program, as the default chain knows it; each look for keys adds a line to the file that is returned."""
    looks = site.root / "looks"
    looks.touch()
    program = site.root / "keys.sh"
    document = {"Version": 1, "AccessKeyId": server.access_key, "SecretAccessKey": server.secret_key, "Expiration": "2099-01-01T00:00:00Z"}  # fmt: skip
    program.write_text(f"#!/bin/sh\necho look >> {looks}\necho '{json.dumps(document)}'\n")
    program.chmod(0o700)
    (site.root / "aws").write_text(f"[default]\ncredential_process = {program}\n")
    site.config.write_text(re.sub(r", access_key_id: .*?SECRET\"", "", site.config.read_text()))
    site.environment = {
        name: value for name, value in site.environment.items() if not name.startswith("AWS_")
    }
    site.environment |= {"AWS_CONFIG_FILE": str(site.root / "aws"), "AWS_EC2_METADATA_DISABLED": "true"}
    return looks


def test_keys_that_expire_are_renewed(site, proxy, s3_server):
    """The server says in the middle of a run that the keys are too old: the default chain is asked again, and the run goes on."""
    looks = chain(site, s3_server)
    asked = []

    def plan(method, path, _headers):
        asked.append(path)
        fresh = len(looks.read_text().splitlines()) > 1
        return error(400, "ExpiredToken") if len(asked) > 4 and not fresh else None

    proxy.plan = plan
    # The program gives the same name for the key each time, so the run must look at nothing but the answer.
    site.backup()
    assert len(looks.read_text().splitlines()) == 2
    proxy.calm()
    assert site.json("verify", "--restore")["results"][0]["checks"]["objects"] == 7


def test_keys_that_cannot_be_renewed_are_an_error(site, proxy):
    """Keys by reference are what they are: an expired one is said at once, with the next step."""
    proxy.plan = lambda _m, path, _h: error(400, "ExpiredToken") if path.endswith("/o3") else None
    failure = site.json("backup", code=1)["failures"][0]
    assert "renew the credentials" in failure["hint"]


# -- listings that lie: docs/buckets.md names where each has cost somebody data -------------------------------------------


def short_pages(client, bucket: str, size: int) -> list[bytes]:
    """The pages of a listing, as S3 would give them with a small page size."""
    keys = client.list_objects_v2(Bucket=bucket)["Contents"]
    pages = []
    for start in range(0, len(keys), size):
        last = start + size >= len(keys)
        rows = "".join(
            f"<Contents><Key>{k['Key']}</Key><LastModified>{k['LastModified'].isoformat()}</LastModified>"
            f"<ETag>{k['ETag']}</ETag><Size>{k['Size']}</Size></Contents>"
            for k in keys[start : start + size]
        )
        more = "" if last else f"<NextContinuationToken>t{start + size}</NextContinuationToken>"
        pages.append(
            f'<?xml version="1.0"?><ListBucketResult><Name>{bucket}</Name><KeyCount>{len(keys[start : start + size])}</KeyCount>'
            f"<IsTruncated>{str(not last).lower()}</IsTruncated>{more}{rows}</ListBucketResult>".encode()
        )
    return pages


def serve(proxy: S3Proxy, pages: list[bytes], order: list[int]) -> None:
    """Answer the listing's requests with these pages, in this order."""
    left = list(order)
    proxy.plan = lambda method, path, _h: (200, pages[left.pop(0)]) if method == "GET" and "list-type=2" in path and left else None  # fmt: skip


EMPTY = b'<?xml version="1.0"?><ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>'
BARE = b'<?xml version="1.0"?><ListBucketResult></ListBucketResult>'


def without_first(page: bytes) -> bytes:
    """One object less, and the count fits."""
    less = re.sub(rb"<Contents>.*?</Contents>", b"", page, count=1)
    return re.sub(
        rb"<KeyCount>(\d+)</KeyCount>", lambda m: b"<KeyCount>%d</KeyCount>" % (int(m[1]) - 1), less
    )


def test_a_page_that_repeats(site, proxy):
    """Objects that come twice: the listing is refused, and no snapshot is made."""
    pages = short_pages(site.client, site.bucket, 3)
    serve(proxy, pages, [0, 0, 1, 2])
    failure = site.json("backup", code=1)["failures"][0]
    assert "came twice" in failure["message"]
    assert site.json("snapshots")["snapshots"] == []


def test_rclone_7972_a_page_that_is_skipped(site, proxy):
    """A page with three of seven objects is left out, and nothing in the listing shows it: the objects themselves are asked for, and are there."""
    site.backup()
    pages = short_pages(site.client, site.bucket, 3)
    pages[0] = pages[0].replace(b"t3", b"t6")
    serve(proxy, pages, [0, 2])
    failure = site.json("backup", code=1)["failures"][0]
    assert re.search(r'it lacks "o\d", which is there', failure["message"])
    assert len(site.json("snapshots")["snapshots"]) == 1
    proxy.calm()
    assert site.header(site.backup()["id"])["kept"] == 7


@pytest.fixture(scope="module")
def mirror(tmp_path_factory, s3_server):
    """A replica of seven objects, whose both sides are reached through proxies; everything may be deleted."""
    with S3Proxy(s3_server.endpoint) as near, S3Proxy(s3_server.endpoint) as far:
        source, target = make_bucket(s3_server), make_bucket(s3_server)
        made = ReplicaSite(
            tmp_path_factory.mktemp("mirror"), s3_server, source, target,
            far=s3_server, far_endpoint=far.endpoint, endpoint=near.endpoint, extra='max_delete: "100%"\n    max_change: 100',
        )  # fmt: skip
        made.near, made.far = near, far
        yield made


@pytest.fixture
def mirrored(mirror):
    """The same, up to date."""
    mirror.near.calm()
    mirror.far.calm()
    there = mirror.content()
    for number in range(7):
        if f"o{number}" not in there:
            mirror.put(f"o{number}", b"content %d" % number)
    mirror.json("backup")
    return mirror


def test_mc_4047_an_empty_source_listing(mirrored):
    """minio/mc mirror --remove emptied its target when the source's listing came back empty. Here the objects are asked for first, whatever max_delete allows."""
    mirrored.near.plan = lambda _m, path, _h: (
        (200, EMPTY) if f"/{mirrored.bucket}?" in path or f"/{mirrored.bucket}/?" in path else None
    )
    failure = mirrored.json("backup", code=1)["failures"][0]
    assert "cannot be believed" in failure["message"]
    mirrored.near.calm()
    assert mirrored.content(mirrored.target) == mirrored.content()


def test_rclone_6582_a_listing_that_drops_one_entry(mirrored):
    """A single object is left out of a page: far below every limit, and still not deleted."""
    mirrored.near.plan = lambda method, path, _h: (
        Edit(without_first) if method == "GET" and "list-type=2" in path else None
    )
    failure = mirrored.json("backup", code=1)["failures"][0]
    assert 'it lacks "o0", which is there' in failure["message"]
    mirrored.near.calm()
    assert mirrored.content(mirrored.target) == mirrored.content()


def test_gphotosdl_16_a_source_that_suddenly_lists_almost_nothing(mirrored):
    """59,579 files were deleted because a source came up without them. With the default limit nothing is deleted, code 3; the objects really are gone here."""
    text = mirrored.config.read_text()
    mirrored.config.write_text(text.replace('max_delete: "100%"', ""))
    for number in range(6):
        mirrored.client.delete_object(Bucket=mirrored.bucket, Key=f"o{number}")
    assert "6 of 7" in mirrored.facts(3)["withheld"][0]
    assert len(mirrored.content(mirrored.target)) == 7
    mirrored.config.write_text(text)


@pytest.mark.parametrize(
    "answer", [BARE, error(404, "NoSuchKey")[1], b""], ids=["bare", "an error as 200", "nothing"]
)
def test_restic_4612_an_error_is_not_an_empty_list(mirrored, answer):
    """An answer that is no listing was taken for "no files". Here it has no end, so it is none; nothing is deleted and no snapshot is made."""
    mirrored.near.plan = lambda method, path, _h: (
        (200, answer) if method == "GET" and "list-type=2" in path else None
    )
    before = len(mirrored.json("snapshots")["snapshots"])
    assert mirrored.run("backup").returncode in {1, 5}
    assert len(mirrored.json("snapshots")["snapshots"]) == before
    mirrored.near.calm()
    assert mirrored.content(mirrored.target) == mirrored.content()


def test_volsync_1211_an_empty_source_does_not_age_the_good_out(site, s3_server):
    """An unreachable bucket fails. One that really is empty is kept with an alarm, code 3; the snapshot before it stays the way back, and a restore says so."""
    good = site.backup()
    for key in site.content():
        site.client.delete_object(Bucket=site.bucket, Key=key)
    site.json("backup", code=3)
    site.json("backup")  # nothing changed since: no new alarm, and the first one is still told
    stock = site.json("snapshots")["snapshots"]
    assert [bool(s["warnings"]) for s in stock] == [False, True, False]
    restored = site.json("restore", "cortex", "--snapshot", good["id"], "--yes")["restored"]
    assert restored["objects"]["new"] == 7
    refused = site.json("restore", "cortex", "--at", "2020-01-01T00:00:00Z", "--yes", code=3)["error"]
    assert refused["code"] == "snapshot-missing"


def test_mc_5139_removing_an_old_version_leaves_the_live_object(tmp_path, s3_server):
    """A mirror that propagates deletions touches no object that is live: a delete by name on a versioned replica leaves all versions, and nothing deletes by version."""
    source, target = (f"mc5139-{secrets.token_hex(4)}" for _ in "12")
    for name in (source, target):
        s3_server.create_bucket(name, versioned=True)
    site = ReplicaSite(tmp_path, s3_server, source, target, extra='max_delete: "100%"')
    site.put("k", b"old")
    site.put("k", b"live")
    site.put("gone", b"gone")
    site.facts()
    old = site.client.list_object_versions(Bucket=source, Prefix="k")["Versions"][-1]["VersionId"]
    site.client.delete_object(Bucket=source, Key="k", VersionId=old)
    site.client.delete_object(Bucket=source, Key="gone")
    assert site.facts()["deleted"] == 1
    assert list(site.content(target)) == ["k"]
    assert site.content(target)["k"][0] == b"live"
    assert len(site.client.list_object_versions(Bucket=target, Prefix="gone")["Versions"]) == 1


def test_s5cmd_852_what_is_not_deleted_is_said(mirrored):
    """A delete flag that silently did nothing, with exit code 0: here the record says how many were deleted, and a refusal fails the run."""
    for number in range(2):
        mirrored.client.delete_object(Bucket=mirrored.bucket, Key=f"o{number}")
    mirrored.far.times(100, error(403, "AccessDenied"), method="DELETE")
    assert mirrored.run("backup").returncode == 1
    assert len(mirrored.content(mirrored.target)) == 7
    mirrored.far.calm()
    assert mirrored.facts()["deleted"] == 2
    assert len(mirrored.content(mirrored.target)) == 5


@pytest.mark.parametrize(
    ("etag", "headers", "expected"),
    [
        ("d41d8cd98f00b204e9800998ecf8427e", {}, True),
        ("d41d8cd98f00b204e9800998ecf8427e", {"x-amz-server-side-encryption": "AES256"}, True),
        ("d41d8cd98f00b204e9800998ecf8427e", {"x-amz-server-side-encryption": "aws:kms"}, False),
        ("d41d8cd98f00b204e9800998ecf8427e", {"x-amz-server-side-encryption": "aws:kms:dsse"}, False),
        ("d41d8cd98f00b204e9800998ecf8427e", {"x-amz-server-side-encryption-customer-algorithm": "AES256"}, False),
        ("d41d8cd98f00b204e9800998ecf8427e-2", {}, False),
        ("", {}, False),
    ],
)  # fmt: skip
def test_an_etag_is_only_sometimes_a_digest(etag, headers, expected):
    """Uploads in parts and encryption under keys of KMS or of the client make it something else."""
    assert states_md5(etag, headers) is expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (EMPTY, False),
        (BARE, False),
        (EMPTY[:-5], True),
        (EMPTY[:60], True),
        (b"", False),
        (b"<Error><Code>x", False),
    ],
)
def test_a_listing_that_is_cut_is_asked_for_again(content, expected):
    """One that begins and does not end may come whole next time; what is no listing is refused at once."""
    assert is_cut(content) is expected


def test_what_goes_or_changes_while_it_is_read_is_said(site, proxy):
    """Gone before its first byte: left out. Rewritten then: as it is now. Gone or rewritten between its ranges: recorded as such, with no content."""
    old, new = os.urandom(13 << 20), os.urandom(13 << 20)
    for key in ("gone-later", "torn"):
        site.put(key, old)
    done = set()

    def once(key: str, write: bytes | None) -> None:
        if key in done:
            return
        done.add(key)
        if write is None:
            site.client.delete_object(Bucket=site.bucket, Key=key)
        else:
            site.put(key, write)

    def plan(method, path, headers):
        key, third = path.rpartition("/")[2], "bytes=8388608-" in headers.get("Range", "")
        if method == "GET" and key in {"o0", "o1"}:
            once(key, None if key == "o0" else b"rewritten")
        elif key in {"gone-later", "torn"} and third:
            once(key, None if key == "gone-later" else new)

    proxy.plan = plan
    taken = site.backup()
    assert taken["warnings"] == [
        '1 object was deleted while the backup ran, and is not in it: "o0"',
        '2 objects were changed while they were read, and cannot be restored from this snapshot: "gone-later", "torn"',
    ]
    proxy.calm()
    assert "gone-later (changed while it was read: not restorable)" in site.run("show", taken["id"]).stdout
    restored = site.run("restore", "cortex", "--to", f"file:{site.root}/out", "--yes")
    assert (restored.returncode, '"gone-later", "torn"' in restored.stdout) == (0, True)
    there = {path.name: path.read_bytes() for path in (site.root / "out").glob("[!%]*")}
    assert there == {key: content for key, (content, _meta) in site.content().items() if key != "torn"}
    assert site.header(site.backup()["id"])["objects"] == 7
    assert site.json("verify", "--restore")["results"][0]["checks"]["objects"] == 7


def test_an_upload_that_fails_twice_shows_the_first_failure(site, proxy, s3_server):
    """The server refuses a part, and then refuses to forget the others: the error is about the part, and a warning names the upload that is left."""
    site.put("in-parts", os.urandom(17 << 20))
    site.backup()

    def plan(method, path, _headers):
        if method == "PUT" and "partNumber=2" in path:
            return error(403, "QuotaExceeded")
        return error(403, "AccessDenied") if method == "DELETE" else None

    proxy.plan = plan
    target = make_bucket(s3_server)
    failed = site.run(
        "restore", "cortex", "--prefix", "in-parts", "--to", f"s3://{target}", "--yes", "--output", "json"
    )
    failure = json.loads(failed.stdout)["error"]
    assert "QuotaExceeded" in failure["message"]
    assert "AccessDenied" not in failure["message"]
    left = site.client.list_multipart_uploads(Bucket=target)["Uploads"][0]["UploadId"]
    assert "unfinished upload" in failed.stderr
    assert left in failed.stderr
