"""Buckets through the command line, on a real S3 server: snapshots, what is carried forward, restores, proof, guards, odd names, faults."""

from __future__ import annotations

import json
import os
import random
import secrets
import subprocess
import threading
import time
import urllib.parse
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from devstack.s3_proxy import CUT, S3Proxy, error
from dr_toolkit import errors
from dr_toolkit.buckets import facts
from dr_toolkit.buckets.client import Bucket
from dr_toolkit.buckets.failures import Changed
from dr_toolkit.buckets.listing import Listed, Listing, Page, page_problem
from dr_toolkit.buckets.merging import mass_change
from dr_toolkit.buckets.part_sizes import part_size
from dr_toolkit.repository.s3_settings import S3Settings
from tests.bucket_site import DRCTL, HEADERS, Site, fill


@pytest.fixture
def site(tmp_path, s3_server, bucket):
    return Site(tmp_path, s3_server, bucket)


@pytest.fixture
def other_bucket(s3_server):
    name = f"other-{secrets.token_hex(6)}"
    s3_server.create_bucket(name)
    return name


def test_a_bucket_comes_back_as_it_was(site, other_bucket):
    """Bytes and metadata of every object come back into another bucket; a second restore copies nothing, also where an ETag is of other parts."""
    fill(site)
    before = site.content()
    taken = site.backup()
    assert (taken["kind"], taken["status"], site.header(taken["id"])["objects"]) == ("bucket", "good", 46)
    assert before["all-headers"][1] == {**HEADERS, "ExpiresString": "Wed, 21 Oct 2065 07:28:00 GMT"}
    done = site.json("restore", "cortex", "--to", f"s3://{other_bucket}", "--yes")["restored"]
    assert done["objects"]["new"] == 46
    assert site.content(other_bucket) == before
    again = site.json("restore", "cortex", "--to", f"s3://{other_bucket}", "--yes")["restored"]["objects"]
    assert (again["new"], again["replaced"], again["same"], again["bytes"]) == (0, 0, 46, 0)
    etag = site.client.head_object(Bucket=other_bucket, Key="several-parts")["ETag"]
    site.client.put_object(
        Bucket=other_bucket, Key="several-parts", Body=b"x" * len(before["several-parts"][0])
    )
    assert (
        site.json("restore", "cortex", "--to", f"s3://{other_bucket}", "--yes")["restored"]["objects"][
            "replaced"
        ]
        == 1
    )
    assert site.client.head_object(Bucket=other_bucket, Key="several-parts")["ETag"] == etag


def test_tags_are_kept_and_their_changes_seen(tmp_path, s3_server, bucket, other_bucket):
    """With tags: true: tags come back, also of an object of several parts; a change of tags alone is in the next snapshot, with no content read."""
    tags = {"team": "data & streams", "Größe": "ü=1", "empty": ""}
    with S3Proxy(s3_server.endpoint) as proxy:
        site = Site(tmp_path, s3_server, bucket, proxy.endpoint, "tags: true")
        encoded = urllib.parse.urlencode(tags)
        site.put("tagged", b"content", Tagging=encoded)
        site.put("large", os.urandom(20 << 20), Tagging="size=large")
        site.put("plain", b"content")
        first = site.backup()["id"]
        site.client.put_object_tagging(
            Bucket=bucket, Key="plain", Tagging={"TagSet": [{"Key": "new", "Value": "tag"}]}
        )
        site.client.delete_object_tagging(Bucket=bucket, Key="large")
        del proxy.seen[:]
        second = site.backup()["id"]
        assert [
            path
            for method, path, _host in proxy.seen
            if method == "GET" and path.endswith(("/tagged", "/large", "/plain"))
        ] == []

    def restored(snapshot: str) -> dict[str, dict[str, str]]:
        place = ["--to", f"s3://{other_bucket}/{snapshot}", "--snapshot", snapshot, "--yes"]
        site.config.write_text(site.config.read_text().replace(proxy.endpoint, s3_server.endpoint))
        site.json("restore", "cortex", *place)
        found = {}
        for key in ("tagged", "large", "plain"):
            answer = site.client.get_object_tagging(Bucket=other_bucket, Key=f"{snapshot}/{key}")
            found[key] = {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}
        return found

    assert restored(first) == {"tagged": tags, "large": {"size": "large"}, "plain": {}}
    assert restored(second) == {"tagged": tags, "large": {}, "plain": {"new": "tag"}}
    assert site.run("verify", "--restore").returncode == 0


def test_what_is_unchanged_is_not_read_again(tmp_path, s3_server, bucket):
    """The second run asks for the one changed object only, stores little, and both snapshots restore to their own state."""
    with S3Proxy(s3_server.endpoint) as proxy:
        site = Site(tmp_path, s3_server, bucket, proxy.endpoint)
        fill(site)
        first, before = site.backup(), site.content()
        site.put("blocks/007/index", b"new")
        site.client.delete_object(Bucket=bucket, Key="blocks-list")
        site.put("added", b"added")
        proxy.seen.clear()
        second, after = site.backup(), site.content()
        read = sorted(
            path.split("?")[0]
            for method, path, _host in proxy.seen
            if method == "GET" and "/?" not in path and "list-type" not in path
        )
        for taken, expected in ((first, before), (second, after)):
            done = site.run("restore", "cortex", "--snapshot", taken["id"], "--exact", "--yes")
            assert done.returncode == 0, done.stderr
            assert site.content() == expected
        source = site.header(second["id"])
    assert read == [f"/{bucket}/added", f"/{bucket}/blocks/007/index"]
    assert (second["parent"], second["bytes_source"] > 17 << 20) == (first["id"], True)
    assert second["bytes_stored"] < 100_000
    assert [source[n] for n in ("kept", "added", "rewritten", "gone")] == [44, 1, 1, 1]


def test_verification_restores_and_signs(site):
    """Proof by restore reads every object back; a flipped bit in a pack fails it and names the object."""
    fill(site)
    site.backup()
    result = site.json("verify", "--restore")["results"][0]
    assert (result["result"], result["checks"]["objects"]) == ("passed", 46)
    pack = max(
        (site.root / "repository/packs").rglob("*"), key=lambda path: path.is_file() and path.stat().st_size
    )
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    assert site.json("verify", "--restore", code=3)["results"][0]["result"] == "failed"


def test_live_objects_are_replaced_only_when_agreed(site):
    """Overwriting and deleting need the component's name or --yes; extra objects stay unless --exact."""
    site.put("a", b"one")
    site.put("b", b"two")
    site.backup()
    site.put("a", b"damaged")
    site.put("extra", b"mine")
    refused = site.run("restore", "cortex")
    assert (refused.returncode, "nobody is there to confirm" in refused.stderr) == (2, True)
    assert site.content()["a"][0] == b"damaged"
    plan = site.run("restore", "cortex", "--exact", "--dry-run").stdout
    assert "1 is replaced" in plan
    assert "1 object is only there and is DELETED" in plan
    site.json("restore", "cortex", "--yes")
    assert {key: value[0] for key, value in site.content().items()} == {
        "a": b"one",
        "b": b"two",
        "extra": b"mine",
    }
    site.json("restore", "cortex", "--exact", "--yes")
    assert sorted(site.content()) == ["a", "b"]


def test_exact_never_empties_a_bucket(site):
    """A prefix that the snapshot does not have is a mistake, not an order to delete."""
    site.put("a/1", b"one")
    site.backup()
    site.put("typo/1", b"live")
    failure = site.json("restore", "cortex", "--prefix", "typo/", "--exact", "--yes", code=3)["error"]
    for target in ((), ("--to", f"file:{site.root}/typo")):
        nothing = site.json("restore", "cortex", "--prefix", "typo/", "--yes", *target, code=1)["error"]
        assert (nothing["code"], nothing["unaffected"]) == ("nothing-to-do", "nothing was started")
    assert failure["code"] == "guard-tripped"
    assert "typo/1" in site.content()


def test_a_directory_takes_every_name(site):
    """Names that would escape or collide get safe places, a prefix limits, and the index keeps key and metadata."""
    for key in ("x/a", "x/a/b", "x/100%", "y/other"):
        site.put(key, key.encode(), ContentType="text/x")
    site.backup()
    place = site.root / "files"
    done = site.json("restore", "cortex", "--prefix", "x/", "--to", f"file:{place}")["restored"]
    assert done["files"] == 3
    rows = [json.loads(line) for line in (place / "%objects.jsonl").read_text().splitlines()]
    assert {row["key"]: (place / row["file"]).read_bytes().decode() for row in rows} == {
        k: k for k in ("x/a", "x/a/b", "x/100%")
    }
    assert all(row["type"] == "text/x" for row in rows)
    assert site.json("restore", "cortex", "--to", f"file:{place}", code=1)["error"]["code"] == "target"


def test_losing_most_objects_is_loud(site):
    """More than max_change gone or rewritten: a snapshot is taken, the run ends with 3, and the one before is still there."""
    for number in range(10):
        site.put(f"o{number}", b"content %d" % number)
    first = site.backup()
    for number in range(6):
        site.client.delete_object(Bucket=site.bucket, Key=f"o{number}")
    done = site.json("backup", code=3)
    assert "6 of 10 objects are gone" in json.dumps(done)
    listed = site.json("snapshots")["snapshots"]
    assert listed[0]["id"] == first["id"]
    assert len(listed) == 2
    assert "6 of 10" in site.header(listed[1]["id"])["mass_change"]  # retention keeps the one before
    assert "mass_change" not in site.header(first["id"])
    plan = site.json("restore", "cortex", "--dry-run")["plan"]
    assert "6 of 10 objects are gone" in plan["warnings"][0]
    assert site.json("restore", "cortex", "--snapshot", first["id"], "--dry-run")["plan"]["warnings"] == []
    for number in range(6, 10):
        site.put(f"o{number}", b"encrypted %d" % number)
    assert "4 of 4 objects were rewritten" in json.dumps(site.json("backup", code=3))


@pytest.mark.parametrize(
    "fault", [error(503, "SlowDown"), error(500, "InternalError"), CUT], ids=["throttled", "broken", "cut"]
)
def test_passing_faults_are_waited_out(tmp_path, s3_server, bucket, fault):
    """Throttling, server errors and bodies that end early are tried again, and the content is whole."""
    with S3Proxy(s3_server.endpoint) as proxy:
        site = Site(tmp_path, s3_server, bucket, proxy.endpoint)
        site.put("big", os.urandom(5 << 20))
        for number in range(5):
            site.put(f"o{number}", os.urandom(5000))
        proxy.times(3, fault, method="GET")
        site.backup()
    assert site.json("verify", "--restore")["results"][0]["result"] == "passed"


def test_tls_with_a_private_authority(tmp_path, s3_server_tls):
    """Content goes over TLS that trusts ca_file and nothing else: without it nothing is read."""
    name = f"tls-{secrets.token_hex(6)}"
    s3_server_tls.create_bucket(name)
    s3_server_tls.client().put_object(Bucket=name, Key="a", Body=b"one")
    site = Site(tmp_path, s3_server_tls, name)
    site.backup()
    s3_server_tls.client().delete_object(Bucket=name, Key="a")
    site.json("restore", "cortex", "--yes")
    assert site.content()["a"][0] == b"one"
    (tmp_path / "other").mkdir()
    untrusting = Site(tmp_path / "other", s3_server_tls, name, ca=False)
    failure = untrusting.json("backup", code=5)["failures"][0]
    assert "certificate" in failure["message"]


def test_killed_in_the_middle(tmp_path, s3_server, bucket):
    """SIGKILL while objects are stored leaves no snapshot; the next run stores only what the killed one had not, and is proven."""
    rate = 56  # many more than are asked for at once, so that a whole pack is stored before the block
    with S3Proxy(s3_server.endpoint) as proxy:
        site = Site(tmp_path, s3_server, bucket, proxy.endpoint)
        for number in range(rate):
            site.put(f"o{number:03}", os.urandom(1 << 20))
        asked: list[str] = []
        blocked = threading.Event()

        def plan(method, path, _headers):
            if method == "GET" and "/o" in path:
                asked.append(path)
                if len(asked) > 52:
                    blocked.wait(60)

        proxy.plan = plan
        running = subprocess.Popen(
            [DRCTL, "-c", site.config, "backup"], env=site.environment, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        packs = site.root / "repository/packs"
        while time.monotonic() < deadline and not [
            p for p in packs.rglob("*") if p.is_file() and "." not in p.name
        ]:
            time.sleep(0.05)
        running.kill()
        running.wait(10)
        blocked.set()
        proxy.plan = lambda _m, _p, _h: None
        assert site.json("snapshots")["snapshots"] == []
        taken = site.backup()
    assert taken["bytes_source"] == rate << 20
    assert taken["bytes_new"] <= (rate - 14) << 20
    assert site.json("verify", "--restore")["results"][0]["result"] == "passed"


def test_the_runbook_brings_an_emptied_bucket_back(site):
    """Every command of runbooks/bucket-lost.md, in order, after the bucket was emptied and something foreign was left there."""
    for number in range(5):
        site.put(f"blocks/{number}", b"content %d" % number)
    before = site.content()
    site.backup()
    after = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1))
    for key in before:
        site.client.delete_object(Bucket=site.bucket, Key=key)
    site.put("ransom-note", b"pay")
    text = (Path(__file__).parents[2] / "runbooks/bucket-lost.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("drctl ")]
    assert len(lines) >= 10
    place, plans = site.root / "blocks", []
    for line in lines:
        words = line.replace("2026-11-23T08:00:00Z", after).replace("/var/tmp/blocks", str(place)).split()[1:]
        done = site.run(*words)
        allowed = {0, 3} if words[0] == "backup" else {0}
        assert done.returncode in allowed, f"{line}: {done.stdout}{done.stderr}"
        if "--dry-run" in words:
            plans.append(done.stdout)
    assert "0 objects are new there, 0 are replaced, 5 are the same" in plans[-1]
    assert site.content() == before
    assert (place / "blocks/3").read_bytes() == b"content 3"


def test_refusals_say_what_to_do(tmp_path, s3_server, bucket):
    """A forbidden object, a bucket that is not there and wrong keys are errors with a next step, and no snapshot is made."""
    with S3Proxy(s3_server.endpoint) as proxy:
        site = Site(tmp_path, s3_server, bucket, proxy.endpoint)
        site.put("allowed", b"1")
        site.put("secret/1", b"2")
        proxy.plan = lambda _m, path, _h: error(403, "AccessDenied") if "/secret/" in path else None
        failure = site.json("backup", code=1)["failures"][0]
        assert (failure["on"], "docs/permissions.md" in failure["hint"]) == ("secret/1", True)
        proxy.plan = lambda _m, _p, _h: error(404, "NoSuchBucket")
        assert "create the bucket" in site.json("backup", code=1)["failures"][0]["hint"]
    assert site.json("snapshots")["snapshots"] == []


def settings(server, **changes) -> S3Settings:
    return S3Settings(
        **(
            {
                "endpoint": server.endpoint,
                "access_key_id": server.access_key,
                "secret_access_key": server.secret_key,
            }
            | changes
        )
    )


def test_never_half_of_each(s3_server, bucket):
    """A range of an object that was written again since the listing is refused, not mixed."""
    client = s3_server.client()
    client.put_object(Bucket=bucket, Key="k", Body=b"a" * 100)
    source = Bucket(bucket, "", settings(s3_server))
    with Listing(source.where) as listing:
        listed = next(iter(listing.fill(source.pages())))
    client.put_object(Bucket=bucket, Key="k", Body=b"b" * 100)
    with pytest.raises(Changed):
        source.read(listed, 50, 50)
    client.delete_object(Bucket=bucket, Key="k")
    with pytest.raises(Changed):
        source.read(listed, 0, 50)
    assert source.head("k") is None
    source.close()


class Moto:
    """A server that takes every name as it is, which SeaweedFS does not."""

    access_key, secret_key = "any", "any"

    def __init__(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        self.endpoint = "http://{}:{}".format(*self._server.get_host_and_port())

    def client(self):
        return boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any")  # fmt: skip

    def stop(self) -> None:
        self._server.stop()


def of(name: str) -> bytes:
    """Content of its own for each name."""
    return random.Random(name).randbytes(3000)


def test_no_two_names_become_one(tmp_path):
    """Names that clients, URLs and file systems like to change are listed, read, restored and written as files, each as itself."""
    names = [
        "/lead", "a//b", "a/b", "a/", "a", "..", "../up", "a/../b", ".", "./a", " ", " lead and trail ", "tab\tend", "\x01\x7f",
        "caf\u00e9", "cafe\u0301", "%2F", "%2f", "+", "a+b", "a b", "?q=1&x", "#h", "\\", "\"'<&>", "\u00fc" * 512, "x" * 300 + "/y", "x" * 299 + "z/y",
    ]  # fmt: skip
    server = Moto()
    try:
        for bucket in ("names", "copy"):
            server.client().create_bucket(Bucket=bucket)
        site = Site(tmp_path, server, "names")
        for name in names:
            site.put(name, of(name))
        site.backup()
        assert site.json("restore", "cortex", "--to", "s3://copy", "--yes")["restored"]["objects"][
            "new"
        ] == len(names)
        assert {key: value[0] for key, value in site.content("copy").items()} == {n: of(n) for n in names}
        assert site.json("backup")["snapshots"][0]["bytes_new"] == 0
        place = tmp_path / "deep/files"
        site.json("restore", "cortex", "--to", f"file:{place}")
        rows = [json.loads(line) for line in (place / "%objects.jsonl").read_text().splitlines()]
        assert {row["key"]: (place / row["file"]).read_bytes() for row in rows} == {n: of(n) for n in names}
        assert len([path for path in place.rglob("*") if path.is_file()]) == len(names) + 1
        assert [path.name for path in place.parent.iterdir()] == ["files"]
    finally:
        server.stop()


def page(
    *keys: str, truncated: bool | None = False, token: str | None = None, count: int | None = None
) -> Page:
    return Page(tuple(Listed(key, 1, "e", "m") for key in keys), truncated, token, count)


@pytest.mark.parametrize(
    ("pages", "why"),
    [
        ([], "ended without a last page"),
        ([page("a", truncated=True, token="t")], "ended without a last page"),
        ([page("a", truncated=None)], "does not say whether it is the last"),
        ([page("a", truncated=True)], "not how to ask"),
        ([page("a", count=2)], "claims 2 objects and has 1"),
        ([page("a", truncated=True, token="t"), page("b", truncated=True, token="t"), page("c")], "circle"),
        ([page("a", "b", truncated=True, token="t"), page("b", "c")], "a key came twice"),
    ],
)
def test_a_listing_is_not_believed_blindly(pages, why):
    """Each way in which a listing was found to lie elsewhere is refused before anything is done on its word."""
    with Listing("s3://b") as listing, pytest.raises(errors.SourceError, match=why):
        listing.fill(pages)


def test_a_listing_in_any_order_comes_out_sorted():
    """Servers that list folders first give the same snapshot; the order is that of the keys' bytes."""
    with Listing("s3://b") as listing:
        listing.fill([page("b/1", "b-1", truncated=True, token="t"), page("ä", "a")])
        assert [o.key for o in listing] == ["a", "b-1", "b/1", "ä"]
        assert listing.count == 4
    assert page_problem(page("a"), set()) is None


@pytest.mark.parametrize(("before", "gone", "rewritten", "trips"), [(0, 0, 0, False), (10, 5, 0, False), (10, 6, 0, True), (10, 0, 6, True), (1, 1, 0, True)])  # fmt: skip
def test_mass_change(before, gone, rewritten, trips):
    """More than half gone or rewritten trips; half does not."""
    assert (mass_change(before, gone, rewritten, 50) is not None) is trips


def test_five_terabytes_fit_into_ten_thousand_parts():
    """The plan of part sizes holds at S3's limits."""
    for size in (17 << 20, 160 << 30, 5 << 40):
        part = part_size(size)
        assert -(-size // part) <= 10_000
        assert 5 << 20 <= part <= 5 << 30
    assert (part_size(5 << 40) >> 20, -(-(5 << 40) // part_size(5 << 40))) == (525, 9987)
    assert facts.for_put({"type": "t", "user": {"a": "b"}}) == {"ContentType": "t", "Metadata": {"a": "b"}}
