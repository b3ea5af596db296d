"""Buckets with versioning: a snapshot is one moment, all versions are kept where asked, and a history comes back in its order."""

from __future__ import annotations

import json
import os
import secrets
import threading

import pytest

from devstack.s3_proxy import S3Proxy, error
from dr_toolkit import errors
from dr_toolkit.buckets.history_restore import action_of
from dr_toolkit.buckets.version_pages import Version, VersionPage, parse
from dr_toolkit.buckets.versions import HISTORY, Versions, path_of
from dr_toolkit.repository.entries import EntryInfo
from tests.bucket_site import HEADERS, Site


@pytest.fixture
def versioned(s3_server):
    """Names of fresh buckets with versioning."""

    def make() -> str:
        name = f"versions-{secrets.token_hex(6)}"
        s3_server.create_bucket(name, versioned=True)
        return name

    return make


def history(site: Site, bucket: str) -> dict[str, list]:
    """Of each key, the oldest first: content and content type, or None for a delete marker."""
    found: dict[str, list] = {}
    rows = []
    for answer in site.client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        rows += [(row, False) for row in answer.get("Versions", ())]
        rows += [(row, True) for row in answer.get("DeleteMarkers", ())]
    rows.sort(
        key=lambda row: (row[0]["Key"], row[0]["VersionId"]), reverse=True
    )  # SeaweedFS's ids sort by time, the newest first
    for row, marker in rows:
        if marker:
            found.setdefault(row["Key"], []).append(None)
            continue
        got = site.client.get_object(Bucket=bucket, Key=row["Key"], VersionId=row["VersionId"])
        found.setdefault(row["Key"], []).append((got["Body"].read(), got["ContentType"]))
    return {key: found[key] for key in sorted(found)}


def write_history(site: Site) -> None:
    """Rewritten, deleted, deleted and written again, never changed, below a folder, and of several ranges."""
    for number in range(3):
        site.put("rewritten", b"content %d" % number, ContentType=f"text/{number}")
    site.put("deleted", b"was here")
    site.client.delete_object(Bucket=site.bucket, Key="deleted")
    site.put("again", b"first", **HEADERS)
    site.client.delete_object(Bucket=site.bucket, Key="again")
    site.put("again", b"second")
    site.put("once", b"once")
    site.put("folder/rewritten", b"one")
    site.put("folder/rewritten", b"")
    site.put("large", os.urandom(9 << 20))
    site.put("large", b"small now")


def test_a_history_comes_back_in_its_order(tmp_path, s3_server, versioned):
    """Every version and delete marker is kept and comes back, oldest first; the report has both ids; what was known is not read again."""
    bucket, target = versioned(), versioned()
    with S3Proxy(s3_server.endpoint) as proxy:
        site = Site(tmp_path, s3_server, bucket, proxy.endpoint, "versions: all")
        write_history(site)
        before = history(site, bucket)
        first = site.backup()
        source = site.header(first["id"])
        assert [source[name] for name in ("objects", "older_versions", "delete_markers")] == [5, 6, 2]
        assert site.json("verify", "--restore")["results"][0]["checks"]["objects"] == 11
        site.put("rewritten", b"content 3", ContentType="text/3")
        site.client.delete_object(Bucket=bucket, Key="once")
        del proxy.seen[:]
        second = site.backup()
        read = [path for method, path, _host in proxy.seen if method == "GET" and "/?" not in path]
        assert [path.split("?")[0] for path in read] == [f"/{bucket}/rewritten"]
        after = history(site, bucket)

        report = tmp_path / "ids.jsonl"
        place = ["restore", "cortex", "--to", f"s3://{target}", "--versions"]
        plan = site.json(*place, str(report), "--snapshot", first["id"], "--dry-run")["plan"]
        assert (plan["versions"]["keys_new"], plan["versions"]["versions"], report.exists()) == (6, 11, False)
        site.json(*place, str(report), "--snapshot", first["id"])
        assert history(site, target) == before
        rows = [json.loads(line) for line in report.read_text().splitlines()]
        ours = {
            row["VersionId"]
            for answer in site.client.get_paginator("list_object_versions").paginate(Bucket=bucket)
            for row in answer["Versions"]
        }
        theirs = {
            row["VersionId"]
            for answer in site.client.get_paginator("list_object_versions").paginate(Bucket=target)
            for row in (*answer["Versions"], *answer["DeleteMarkers"])
        }
        assert {row["target_version"] for row in rows} == theirs
        assert {row["version"] for row in rows if not row["delete_marker"]} <= ours
        assert all(row["modified"] for row in rows)

        # A restore that was broken off goes on: of the second snapshot only what is new is written.
        done = site.json(*place, str(tmp_path / "more.jsonl"), "--snapshot", second["id"])["restored"]
        assert [
            done["versions"][name] for name in ("keys_same", "keys_continued", "versions", "delete_markers")
        ] == [4, 2, 1, 1]
        assert history(site, target) == after
        lines = (tmp_path / "more.jsonl").read_text().splitlines()
        assert (len(lines), sum(json.loads(line)["written"] for line in lines)) == (15, 2)


def test_another_history_is_kept_below(tmp_path, s3_server, versioned):
    """A key that the target has otherwise gets this history on top, after consent; a plain restore of the snapshot brings the objects alone."""
    bucket, target = versioned(), versioned()
    site = Site(tmp_path, s3_server, bucket, extra="versions: all")
    site.put("a", b"one")
    site.put("a", b"two")
    site.client.put_object(Bucket=target, Key="a", Body=b"theirs", ContentType="text/t")
    site.backup()
    place = ["restore", "cortex", "--to", f"s3://{target}", "--versions", str(tmp_path / "ids")]
    assert site.run(*place).returncode == 2  # nobody is there to agree
    site.json(*place, "--yes")
    assert [content for content, _type in history(site, target)["a"]] == [b"theirs", b"one", b"two"]
    plain = tmp_path / "files"
    assert site.json("restore", "cortex", "--to", f"file:{plain}")["restored"]["files"] == 1
    assert (plain / "a").read_bytes() == b"two"
    refused = site.json(*place, code=1)["error"]
    assert "exists" in refused["message"]


def test_versions_need_a_place_that_keeps_them(tmp_path, s3_server, versioned, bucket):
    """A target without versioning is refused before anything is written, and so is a snapshot without history."""
    site = Site(tmp_path, s3_server, versioned(), extra="versions: all")
    site.put("a", b"one")
    site.backup()
    place = ["restore", "cortex", "--yes", "--versions", str(tmp_path / "ids")]
    refused = site.json(*place, "--to", f"s3://{bucket}", code=1)["error"]
    assert "does not keep versions" in refused["message"]
    assert site.content(bucket) == {}
    site.config.write_text(site.config.read_text().replace("versions: all", "versions: latest"))
    site.backup()
    assert "latest versions only" in site.json(*place, code=2)["error"]["message"]
    assert site.run("restore", "cortex", *place[3:], "--to", "file:/nowhere").returncode == 2
    assert site.run(*place, "--exact").returncode == 2


def test_a_snapshot_is_one_moment(tmp_path, s3_server, versioned):
    """What is written, rewritten and deleted after the listing began is not in it: all objects are of one moment, and no content is half of each."""
    # On a busy machine the changes take longer than drctl waits for an answer. It asks again, and must not be done before they are.
    changing = threading.Lock()
    bucket = versioned()
    with S3Proxy(s3_server.endpoint) as proxy:
        site = Site(tmp_path, s3_server, bucket, proxy.endpoint)
        for number in range(5):
            site.put(f"o{number}", b"then %d" % number)
        site.put("large", b"then" * (3 << 20))
        before = site.content()
        changed = []

        def change(_method, path, _headers):
            if "versions=" not in path:
                return
            with changing:
                if not changed:
                    site.put("o0", b"now")
                    site.put("new", b"now")
                    site.client.delete_object(Bucket=bucket, Key="o1")
                    site.put("large", b"now" * (5 << 20))
                    changed.append(path)

        proxy.plan = change
        taken = site.backup()
        assert changed
        source = site.header(taken["id"])
        assert source["objects"] == 6
        assert source["moment"] <= taken["time"]
        site.json("restore", "cortex", "--to", f"s3://{versioned()}", "--yes")
        site.json("restore", "cortex", "--exact", "--yes")
        assert site.content() == before


def test_versions_that_may_not_be_listed(tmp_path, s3_server, versioned):
    """Without s3:ListBucketVersions the latest objects are kept, and a warning says that they are not one moment; all versions are refused."""
    with S3Proxy(s3_server.endpoint) as proxy:
        site = Site(tmp_path, s3_server, versioned(), proxy.endpoint)
        site.put("a", b"one")
        proxy.plan = lambda _m, path, _h: error(403, "AccessDenied") if "versions=" in path else None
        assert "not one moment" in site.backup()["warnings"][0]
        site.config.write_text(
            site.config.read_text().replace("kind: bucket", "kind: bucket\n    versions: all")
        )
        assert "s3:ListBucketVersions" in site.json("backup", code=1)["failures"][0]["hint"]


def test_a_bucket_without_versioning_has_none(tmp_path, s3_server, bucket):
    """versions: all there is a warning, and the objects are kept."""
    site = Site(tmp_path, s3_server, bucket, extra="versions: all")
    site.put("a", b"one")
    taken = site.backup()
    assert "no versioning" in taken["warnings"][0]
    assert site.header(taken["id"])["objects"] == 1
    assert site.json("verify", "--restore")["results"][0]["result"] == "passed"


ROW = Version("k", "1", marker=False, size=1, etag="e", modified="2026-11-24T12:00:00+00:00")


@pytest.mark.parametrize(
    ("pages", "why"),
    [
        ([], "ended without a last page"),
        ([VersionPage((ROW,), True, ("k", "1"))], "ended without a last page"),
        ([VersionPage((ROW,), None, None)], "does not say whether it is the last"),
        ([VersionPage((ROW,), True, None)], "not how to ask"),
        ([VersionPage((), True, ("k", "1")), VersionPage((), True, ("k", "1"))], "circle"),
        ([VersionPage((ROW,), True, ("k", "1")), VersionPage((ROW,), False, None)], "a version came twice"),
        ([VersionPage((Version("k", "", marker=False, size=1, etag="e", modified=ROW.modified),), False, None)], "no id"),
        ([VersionPage((Version(f"{HISTORY}k", "1", marker=False, size=1, etag="e", modified=ROW.modified),), False, None)], "U.10FFFF"),
    ],
)  # fmt: skip
def test_a_listing_of_versions_is_not_believed_blindly(pages, why):
    """The same rules as for a plain listing."""
    with Versions("s3://b") as found, pytest.raises(errors.SourceError, match=why):
        found.fill(pages)


def test_histories_are_named_in_order():
    """Paths of older versions sort by key, then time, then order; no key's history lies within another's, whatever the key."""
    keys = ["a", "a\x01", "a\x01\x01", "a\x01\x02", "a\x012026", "a/", "ab", "ü", "\U0010fffe"]
    times = ["2026-11-24T12:00:00+00:00", "2026-11-24T12:00:00.123000+00:00", "2026-11-24T14:00:00+02:00"]
    paths = [
        path_of(key, time, order)
        for key in sorted(keys, key=str.encode)
        for time in times[:2]
        for order in (0, 9, 10)
    ]
    assert paths == sorted(set(paths), key=str.encode)
    assert path_of("a", times[0], 0) == path_of("a", times[2], 0)
    assert all(len(path_of("\x01" * 1024, times[0], 0).encode()) < 4096 for _once in "1")


def test_the_servers_order_is_kept_and_names_are_decoded():
    """Versions and markers of one second keep the order of the answer; url-encoded names and markers are decoded."""
    page = parse(
        b'<?xml version="1.0"?><ListVersionsResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>'
        b"<NextKeyMarker>a%01+b</NextKeyMarker><NextVersionIdMarker>v</NextVersionIdMarker>"
        b"<DeleteMarker><Key>a%01+b</Key><VersionId>3</VersionId><IsLatest>true</IsLatest><LastModified>2026-11-24T12:00:00.000Z</LastModified></DeleteMarker>"
        b"<Version><Key>a%01+b</Key><VersionId>2</VersionId><ETag>&quot;e&quot;</ETag><Size>7</Size><Owner><ID>x</ID></Owner>"
        b"<LastModified>2026-11-24T12:00:00.000Z</LastModified></Version></ListVersionsResult>"
    )
    assert page.markers == ("a\x01 b", "v")
    assert [(row.key, row.version, row.marker) for row in page.rows] == [
        ("a\x01 b", "3", True),
        ("a\x01 b", "2", False),
    ]
    with Versions("s3://b") as found:
        found.fill([page, VersionPage((), False, None)])
        assert (list(found), found.older_count, found.markers) == ([], 1, 1)
        assert [older.version.version for older in found.older()] == ["2", "3"]
    for broken in (
        b"<a",
        b"<r><Version><Key>k</Key></Version></r>",
        b"<r><Version><Key>k</Key><VersionId>1</VersionId><Size>x</Size></Version></r>",
    ):
        with pytest.raises(ValueError, match=r"XML|no |invalid"):
            parse(broken)


def info(etag: str, size: int = 1, kind: str = "version", **meta) -> EntryInfo:
    return EntryInfo("p", kind, size, {"etag": etag, **meta})


@pytest.mark.parametrize(
    ("infos", "there", "action"),
    [
        ([info("e")], [], "new"),
        ([info("e")], [ROW], "same"),
        ([info("e"), info("f")], [ROW], "goes_on"),
        ([info("f")], [ROW], "on_top"),
        ([info("e", 2)], [ROW], "on_top"),
        ([info("e")], [ROW, ROW], "on_top"),
        ([info("x-2")], [ROW], "same"),
        ([info("", 0, "delete-marker")], [ROW], "on_top"),
        ([info("", 0, changed_while_read=True), info("e")], [ROW], "same"),
    ],
)  # fmt: skip
def test_each_history_gets_its_action(infos, there, action):
    """New, the same, to be gone on with, or on top of another."""
    assert action_of(infos, there) == action
