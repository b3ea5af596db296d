"""The S3 store over a real server: the contract, and each failure as the error that it is."""

from __future__ import annotations

import secrets
import subprocess
import sys

import pytest

pytest.register_assert_rewrite("tests.store_contract")

from devstack.s3_proxy import CUT, DROP, S3Proxy, error  # noqa: E402
from dr_toolkit.errors import ConfigError, Damaged, StoreFull, StoreUnreachable  # noqa: E402
from dr_toolkit.repository.opening import open_store  # noqa: E402
from dr_toolkit.repository.s3_settings import S3Settings  # noqa: E402
from dr_toolkit.repository.s3_store import S3Store  # noqa: E402
from tests.store_contract import StoreContract  # noqa: E402


def settings(server, **changes) -> S3Settings:
    values = {
        "endpoint": server.endpoint,
        "access_key_id": server.access_key,
        "secret_access_key": server.secret_key,
        "ca_file": str(server.ca_file) if server.ca_file else None,
    }
    return S3Settings(**(values | changes))


@pytest.fixture
def proxy(s3_server):
    with S3Proxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def through(proxy, s3_server, bucket):
    """A store that goes through the proxy."""
    store = S3Store(
        bucket, "p", settings(s3_server, endpoint=proxy.endpoint), retry_seconds=5, stall_seconds=5
    )
    yield store
    store.close()


class TestS3Store(StoreContract):
    """A bucket and prefix keep the contract."""

    @pytest.fixture
    def store(self, s3_server, bucket):
        store = S3Store(bucket, "some/prefix", settings(s3_server))
        yield store
        store.close()


def test_a_whole_bucket(s3_server, bucket):
    """Without a prefix the bucket itself is the store."""
    store = open_store(f"s3://{bucket}", settings(s3_server))
    store.put("repository.json", b"1")
    store.put("packs/00/x", b"22")
    assert sorted((found.name, found.size) for found in store.list("")) == [
        ("packs/00/x", 2),
        ("repository.json", 1),
    ]
    assert [found["Key"] for found in s3_server.client().list_objects_v2(Bucket=bucket)["Contents"]] == [
        "packs/00/x",
        "repository.json",
    ]
    assert store.describe() == f"s3://{bucket} at {s3_server.endpoint}"


class TestS3StoreWithoutConditions(StoreContract):
    """A server without conditional writes keeps it, but for writers that race."""

    test_racing_writers_of_one_name = None
    test_listing_many = None

    @pytest.fixture
    def store(self, s3_server, bucket):
        store = S3Store(bucket, "p", settings(s3_server), conditional=False)
        yield store
        store.close()

    def test_probe_leaves_nothing(self, store):
        """The store says that names are not protected by the server."""
        assert store.probe_create_only() is False
        assert list(store.list("")) == []


def test_prefixes_do_not_see_each_other(s3_server, bucket):
    """Two repositories in one bucket, one's prefix beginning like the other's, are separate."""
    one, two = (open_store(f"s3://{bucket}/{prefix}", settings(s3_server)) for prefix in ("a", "ab"))
    one.put("x", b"1")
    two.put("x", b"2")
    assert [(found.name, found.size) for found in one.list("")] == [("x", 1)]
    assert two.get("x") == b"2"


def test_tls_with_a_private_authority(s3_server_tls):
    """With its certificate the server is trusted, by the data path and by the control path."""
    name = f"test-{secrets.token_hex(6)}"
    s3_server_tls.create_bucket(name)
    store = open_store(f"s3://{name}/p", settings(s3_server_tls), retry_seconds=2)
    store.put("x", b"1")
    assert store.get("x") == b"1"
    assert store.now()


@pytest.mark.parametrize("other", [False, True])
def test_tls_of_an_unknown_authority_is_refused(s3_server_tls, tmp_path, other):
    """Without its certificate, or with another authority's, nothing is sent, and no time is spent on retries."""
    from devstack.tls import Authority  # noqa: PLC0415

    ca_file = str(Authority(tmp_path / "other").ca_file) if other else None
    store = open_store("s3://bucket/p", settings(s3_server_tls, ca_file=ca_file), retry_seconds=60)
    for call in (
        lambda: store.put("x", b"1"),
        lambda: store.get("x"),
        lambda: list(store.list("")),
        store.now,
    ):
        with pytest.raises(StoreUnreachable, match="certificate"):
            call()


def test_ca_file_that_cannot_be_used(s3_server, tmp_path):
    """A wrong path, or a file that holds no certificate, is a configuration error."""
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("nothing")
    for path in (str(tmp_path / "missing.pem"), str(garbage)):
        with pytest.raises(ConfigError):
            open_store("s3://bucket", settings(s3_server, ca_file=path))


def test_missing_bucket_is_not_a_missing_object(s3_server):
    """Without its bucket a store is unreachable, whatever is asked: never empty, and nothing is "not there"."""
    store = open_store("s3://no-such-bucket/p", settings(s3_server), retry_seconds=2)
    for call in (
        lambda: store.exists("x"),
        lambda: store.head("x"),
        lambda: store.get("x"),
        lambda: store.get_range("x", 0, 1),
        lambda: store.put("x", b"1"),
        lambda: list(store.list("")),
        store.probe_create_only,
    ):
        with pytest.raises(StoreUnreachable) as caught:
            call()
        assert "does not exist" in caught.value.message
        assert "bucket" in caught.value.hint


def test_refused_credentials(s3_server, bucket):
    """A wrong secret is refused at once, and is nowhere in what is said about it."""
    canary = "CANARY-" + secrets.token_hex(8)
    wrong = settings(s3_server, secret_access_key=canary, session_token=canary)
    store = open_store(f"s3://{bucket}/p", wrong, retry_seconds=60)
    for call in (
        lambda: store.put("x", b"1"),
        lambda: store.get("x"),
        lambda: store.head("x"),
        lambda: store.delete("x"),
        lambda: list(store.list("")),
    ):
        with pytest.raises(StoreUnreachable) as caught:
            call()
        assert caught.value.hint
        failure = caught.value
        said = [repr(failure), failure.message, failure.hint, repr(failure.__cause__), str(failure.__cause__)]
        assert canary not in " ".join(said)
    assert canary not in repr(wrong) + repr(store) + str(vars(store)) + store.describe()


def test_server_that_repeats_the_signed_request(through, proxy):
    """Amazon's answer to a wrong signature repeats the session token: such an answer is not kept as the cause."""
    body = b"<Error><Code>SignatureDoesNotMatch</Code><CanonicalRequest>x-amz-security-token:CANARY</CanonicalRequest></Error>"
    proxy.plan = lambda *_: (403, body)
    with pytest.raises(StoreUnreachable) as caught:
        through.get("x")
    assert caught.value.__cause__ is None
    assert "CANARY" not in repr(caught.value)


def test_default_chain_gives_the_keys(s3_server, bucket, monkeypatch):
    """Without keys in the configuration, those of the environment are used, for data and control."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    store = open_store(f"s3://{bucket}/p", settings(s3_server, access_key_id=None, secret_access_key=None))
    store.put("x", b"1")
    assert store.get("x") == b"1"
    assert store.now()


def test_environment_does_not_override_the_configuration(s3_server, bucket, monkeypatch):
    """Keys and endpoints of the environment are not mixed with configured ones."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "OTHER",
        "AWS_SECRET_ACCESS_KEY": "other",
        "AWS_SESSION_TOKEN": "other",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_REGION": "eu-west-1",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "AWS_SKIP_SIGNATURE": "true",
    }.items():
        monkeypatch.setenv(name, value)
    store = open_store(f"s3://{bucket}/p", settings(s3_server), retry_seconds=0)
    store.put("x", b"1")
    assert store.get("x") == b"1"
    assert store.now()


def test_no_credentials_anywhere(monkeypatch, tmp_path):
    """Neither configured keys nor a chain that finds any: said before anything is tried."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(StoreUnreachable, match="no S3 credentials") as caught:
        open_store("s3://bucket/p")
    assert "access_key_id" in caught.value.hint


def test_lost_answer_to_a_write(through, proxy):
    """The write arrived, its answer did not: the second try finds the object, and equal is success."""
    proxy.times(1, DROP, method="PUT")
    through.put("x", b"content")
    assert [method for method, _, _ in proxy.seen] == ["PUT", "PUT", "GET"]
    assert through.get("x") == b"content"


@pytest.mark.parametrize(
    "answer", [error(503, "SlowDown"), error(429, "TooManyRequests"), error(500, "InternalError")]
)
def test_passing_answers_are_tried_again(through, proxy, answer):
    """Throttling and server errors pass, for every kind of request."""
    proxy.times(2, answer, method="PUT")
    through.put("x", b"1")
    for method, call in {
        "GET": lambda: through.get("x"),
        "HEAD": lambda: through.head("x"),
        "DELETE": lambda: through.delete("x"),
    }.items():
        proxy.times(2, answer, method=method)
        call()
    proxy.times(2, answer, method="GET")
    assert list(through.list("")) == []
    proxy.times(2, answer, method="HEAD")
    assert through.now()


def test_cut_answer_is_tried_again(through, proxy):
    """A body that ends early is never given out."""
    data = bytes(range(256)) * 4096
    through.put("x", data)
    proxy.times(1, CUT, method="GET")
    assert through.get("x") == data
    proxy.times(1, CUT, method="GET")
    assert through.get_range("x", 1000, 500_000) == data[1000:501_000]
    proxy.times(1, CUT, method="GET")
    assert through.get_tail("x", 500_000) == (data[-500_000:], len(data))


def test_cut_answers_without_end(through, proxy):
    """A body that always ends early is unreachable, not damage."""
    through.put("x", b"0123456789" * 1000)
    proxy.plan = lambda *_: CUT
    with pytest.raises(StoreUnreachable):
        through.get("x")


def test_cut_listing_is_an_error(through, proxy):
    """A listing whose page ends early raises; it is never a shorter listing."""
    for number in range(20):
        through.put(f"f/{number:02d}", b"")
    proxy.plan = lambda *_: CUT
    with pytest.raises(StoreUnreachable):
        list(through.list("f/"))


@pytest.mark.parametrize("answer", [error(507, "InsufficientStorage"), error(403, "QuotaExceeded")])
def test_full_storage(through, proxy, answer):
    """No space, or a quota, is said as such and not tried again."""
    proxy.plan = lambda *_: answer
    with pytest.raises(StoreFull):
        through.put("x", b"1")
    assert len(proxy.seen) == 1


def test_server_that_does_not_know_conditions(through, proxy):
    """A server that answers 501 to a condition is asked without one, after looking whether the name exists."""

    def plan(method, _path, headers):
        return error(501, "NotImplemented") if method == "PUT" and headers["If-None-Match"] else None

    proxy.plan = plan
    through.put("x", b"1")
    through.put("y", b"2")
    assert [method for method, _, _ in proxy.seen] == ["PUT", "HEAD", "PUT", "HEAD", "PUT"]
    assert (through.get("x"), through.get("y")) == (b"1", b"2")
    assert through.probe_create_only() is False


def test_server_that_ignores_conditions(through, proxy):
    """A server that overwrites in spite of the condition is found out by the probe."""
    proxy.plan = lambda method, _path, _headers: (200, b"") if method == "PUT" else None
    assert through.probe_create_only() is False


def test_truncated_object_is_damage(through, s3_server, bucket):
    """An object that somebody cut short is named with its size."""
    s3_server.client().put_object(Bucket=bucket, Key="p/short", Body=b"12345")
    with pytest.raises(Damaged, match="5 bytes, expected at least 9") as caught:
        through.get_range("short", 2, 7)
    assert caught.value.on == "short"


def test_foreign_objects_do_not_disturb_a_listing(through, s3_server, bucket):
    """Folder markers and odd names that other programs left are not objects of a repository."""
    for key in ("p/", "p/f/", "p/f/with space", "p/f/ä", "other/x"):
        s3_server.client().put_object(Bucket=bucket, Key=key, Body=b"")
    through.put("f/good", b"1")
    assert "f/good" in [found.name for found in through.list("")]
    assert all(found.name in {"f/good", "f"} for found in through.list(""))


def test_virtual_hosted_addressing(proxy, s3_server, monkeypatch):
    """The bucket goes into the host's name; the request's path holds prefix and name only."""
    # As an HTTP proxy, so that no name needs to resolve.
    monkeypatch.setenv("http_proxy", proxy.endpoint)
    monkeypatch.setenv("no_proxy", "")
    there = settings(s3_server, endpoint="http://s3.example.test:9000", addressing="virtual")
    proxy.plan = lambda *_: (200, b"answer")
    S3Store("backups", "p", there, retry_seconds=0).put("a/b", b"1")
    host = "backups.s3.example.test:9000"
    assert proxy.seen == [("PUT", f"http://{host}/p/a/b", host)]


def test_a_broken_listing_goes_on(through, proxy):
    """When a later page fails, the listing goes on where it was, each object once."""
    expected = [f"f/{number:04d}" for number in range(1500)]
    for name in expected:
        through.put(name, b"")
    found = through.list("f/")
    names = [next(found).name]
    proxy.times(3, error(503, "SlowDown"), method="GET")
    names += [one.name for one in found]
    assert names == expected


def test_boto3_is_imported_late(s3_server, bucket):
    """Reading and writing with configured keys do not pay for boto3's import."""
    code = (
        "import sys; from dr_toolkit.repository.opening import open_store, S3Settings;"
        f"s = open_store('s3://{bucket}/p', S3Settings({s3_server.endpoint!r}, 'us-east-1', *sys.stdin.read().split()));"
        "s.put('x', b'1'); assert s.get('x') == b'1' and s.exists('x'); list(s.list('')); s.close();"
        "assert 'boto3' not in sys.modules"
    )
    keys = f"{s3_server.access_key} {s3_server.secret_key}"
    subprocess.run([sys.executable, "-c", code], input=keys, text=True, check=True, timeout=60)
