"""Listings of large buckets in parts, and of servers that know only the first version of the question: the same objects as ever."""

from __future__ import annotations

import random
from contextlib import closing
from urllib.parse import urlsplit, urlunsplit

import pytest

from devstack.s3_proxy import Ask, S3Proxy, error
from dr_toolkit import errors
from dr_toolkit.buckets import pages, sharding
from dr_toolkit.buckets.client import Bucket
from dr_toolkit.buckets.listing import Listed, Listing, Page
from dr_toolkit.repository.s3_settings import S3Settings
from tests.bucket_site import Site
from tests.integration.test_bucket import Moto, of

NAMES = [
    *(f"t/a/{block:03x}/{number}" for block in range(40) for number in range(2)), *(f"t/b/{number}/x" for number in range(4)),
    *("t/a/00", "t/a/00-flat", "t/b/zz", "t-", "t", "/lead", "//two", "a//b", "a/", "a", "a b/+", "caf\u00e9/x", "cafe\u0301/x", "%2F/x", "\x01/x", "z"),
]  # fmt: skip


@pytest.fixture(scope="module")
def moto():
    """A server with all names in its bucket ``many``."""
    server = Moto()
    client = server.client()
    client.create_bucket(Bucket="many")
    for name in NAMES:
        client.put_object(Bucket="many", Key=name, Body=of(name))
    yield server
    server.stop()


def opened(endpoint: str, prefix: str = "") -> Bucket:
    return Bucket(
        "many",
        prefix,
        S3Settings(endpoint=endpoint, access_key_id="any", secret_access_key="any"),
        retry_seconds=2.0,
    )


def keys(endpoint: str, prefix: str, expected: int) -> list[str]:
    """What a listing gives, in its order."""
    with closing(opened(endpoint, prefix)) as bucket, Listing(bucket.where) as listing:
        found = [listed.key for listed in sharding.fill(bucket, listing, expected)]
        assert listing.count == len(found)
        return found


def wanted(prefix: str = "") -> list[str]:
    return sorted((name for name in NAMES if name.startswith(prefix)), key=str.encode)


@pytest.mark.parametrize("prefix", ["", "t/", "t/a/", "t/a/0", "a/", "none/"])
def test_a_bucket_in_parts_is_the_whole_bucket(moto, prefix):
    """Folders of every shape beside objects that lie in none: each object once, in order."""
    assert keys(moto.endpoint, prefix, sharding.LARGE) == wanted(prefix) == keys(moto.endpoint, prefix, 0)


def test_a_bucket_with_many_folders_is_asked_for_by_their_first_characters(moto):
    """Not by a request for each."""
    with S3Proxy(moto.endpoint) as proxy:
        assert keys(proxy.endpoint, "t/a/", sharding.LARGE) == wanted("t/a/")
        asked = [path for method, path, _host in proxy.seen if method == "GET"]
    assert sharding.PARTS < len(asked) < 3 * sharding.PARTS


def test_a_part_that_is_cut_or_lies_is_refused(moto):
    """One part without an end, and one with the keys of another."""
    with S3Proxy(moto.endpoint) as proxy:
        for path, problem in (
            (None, "does not say whether it is the last"),
            ("/many?encoding-type=url&list-type=2&prefix=t%2Fb", "has other keys"),
        ):

            def plan(_method, asked, _headers, path=path):
                if "prefix=t%2Fa%2F01" not in asked or "delimiter" in asked:
                    return None
                return Ask(path) if path else (200, b"<ListBucketResult></ListBucketResult>")

            proxy.plan = plan
            with pytest.raises(errors.SourceError, match=problem):
                keys(proxy.endpoint, "t/", sharding.LARGE)


def test_a_part_that_may_not_be_listed_ends_the_listing(moto):
    """A right that is missing for one prefix is no empty folder: the error says what to grant."""
    with S3Proxy(moto.endpoint) as proxy:
        proxy.plan = lambda _m, path, _h: (
            error(403, "AccessDenied") if "prefix=t%2Fa%2F01" in path and "delimiter" not in path else None
        )
        with pytest.raises(errors.SourceError, match="AccessDenied") as refused:
            keys(proxy.endpoint, "t/", sharding.LARGE)
        assert "docs/permissions.md" in (refused.value.hint or "")


def old_server(refuses: bool):
    """How a server answers that knows ListObjects alone: it refuses the second version, or does not look at what it adds."""

    def plan(method, path, _headers):
        parts = urlsplit(path)
        if method != "GET" or "encoding-type" not in parts.query or "versions" in parts.query:
            return None
        if refuses and "list-type" in parts.query:
            return error(501, "NotImplemented")
        kept = [
            part
            for part in parts.query.split("&")
            if not part.startswith(("list-type", "continuation-token", "max-keys"))
        ]
        return Ask(urlunsplit(parts._replace(query="&".join([*kept, "max-keys=20"]))))

    return plan


@pytest.mark.parametrize("refuses", [True, False], ids=["refuses", "ignores"])
@pytest.mark.parametrize("expected", [0, sharding.LARGE], ids=["whole", "parts"])
def test_a_server_with_the_first_version_only(moto, refuses, expected):
    """Every page is asked for by its marker, whole and in parts."""
    with S3Proxy(moto.endpoint) as proxy:
        proxy.plan = old_server(refuses)
        assert keys(proxy.endpoint, "", expected) == wanted()
        assert keys(proxy.endpoint, "t/a/", expected) == wanted("t/a/")
        assert any("marker=" in path for _method, path, _host in proxy.seen)


def test_a_backup_and_a_restore_with_the_first_version_only(tmp_path, moto):
    """Through the command line: everything is kept, nothing is read again, and it comes back."""
    moto.client().create_bucket(Bucket="back")
    with S3Proxy(moto.endpoint) as proxy:
        proxy.plan = old_server(refuses=False)
        site = Site(tmp_path, moto, "many", proxy.endpoint)
        assert site.backup()["entries"] == len(NAMES)
        assert site.backup()["bytes_new"] == 0
        site.json("restore", "cortex", "--to", "s3://back", "--yes")
    assert {key: value[0] for key, value in site.content("back").items()} == {n: of(n) for n in NAMES}


@pytest.mark.parametrize("seed", range(5))
def test_every_folder_has_one_group(seed):
    """However names are spread: each begins with exactly one prefix, no prefix begins with another, and there are not many."""
    made = random.Random(seed)
    folders = sorted(
        {"p/" + "".join(made.choices("ab0é", k=made.randint(1, 9))) + "/" for _ in range(made.randint(70, 900))}
    )  # fmt: skip
    groups = sharding.grouped(folders)
    assert all(sum(folder.startswith(group) for group in groups) == 1 for folder in folders)
    assert groups == sorted(groups)
    assert not any(one != other and one.startswith(other) for one in groups for other in groups)
    assert len(groups) <= 6 * sharding.PARTS


ROW = "<Contents><Key>{}</Key><LastModified>2026-11-24T12:00:00.120Z</LastModified><ETag>{}</ETag><Size>7</Size>{}</Contents>"
PAGE = '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{}<IsTruncated>false</IsTruncated>{}</ListBucketResult>'


@pytest.mark.parametrize(
    "more",
    ["", "<Owner><ID>x</ID></Owner>", "<!-- said -->", "<StorageClass>STANDARD</StorageClass>"],
    ids=["plain", "nested", "comment", "class"],
)
@pytest.mark.parametrize("etag", ["&#34;e&#34;", "&quot;e&quot;", '"e"', "e"])
def test_a_page_reads_the_same_in_every_form(more, etag):
    """Cut out by one expression, or read as XML where rows differ or have more in them."""
    listed = Listed("k<1>", 7, "e", "2026-11-24T12:00:00.120000+00:00")
    plain = Listed("k2", 7, "e", "2026-11-24T12:00:00.120000+00:00")
    rows = ROW.format("k2", etag, more) + ROW.format("k&lt;1&gt;", etag, "")
    assert pages.parse(PAGE.format(rows, "").encode()).objects == (plain, listed)
    rows = ROW.format("k2", etag, more) * 2
    assert pages.parse(PAGE.format("<KeyCount>2</KeyCount>", rows).encode()) == Page(
        (plain, plain), truncated=False, token=None, count=2
    )


@pytest.mark.parametrize("row", [ROW.format("", "e", ""), "<Contents><Key>a</Key></Contents>", "<Contents>"])
def test_a_page_with_less_than_an_object_is_refused(row):
    """No name, no size or time, no end."""
    with pytest.raises(ValueError, match=r"."):
        pages.parse(PAGE.format(row, "").encode())
