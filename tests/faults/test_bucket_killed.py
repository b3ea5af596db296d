"""Kill -9 in the middle of 10,000 objects: the next run takes over what the killed one stored."""

from __future__ import annotations

import random
import subprocess
import time
from collections import deque
from contextlib import closing

from devstack.s3_proxy import S3Proxy
from dr_toolkit.buckets.client import Bucket
from dr_toolkit.buckets.sending import Sender, Sent
from dr_toolkit.repository.s3_settings import S3Settings
from tests.bucket_site import DRCTL, Site

OBJECTS = 10_000


def fill(server, name: str) -> None:
    """Content of its own for each object, so that no two share a chunk."""
    settings = S3Settings(
        endpoint=server.endpoint, access_key_id=server.access_key, secret_access_key=server.secret_key
    )
    sent: deque[Sent[str]] = deque()
    with closing(Bucket(name, "", settings)) as bucket, Sender(bucket) as sender:
        for number in range(OBJECTS):
            sent.append(sender.write(f"o{number:05}", random.Random(number).randbytes(6000), {}))
            if len(sent) > 200:
                sent.popleft().result()
        for left in sent:
            left.result()


def test_the_next_run_reads_and_sends_only_the_rest(tmp_path, s3_server, bucket):
    """SIGKILL after some packs were stored: what they hold is neither fetched (counted at the proxy) nor sent again, and all is proven. What changed since is read."""
    with S3Proxy(s3_server.endpoint) as proxy:
        site = Site(tmp_path, s3_server, bucket, proxy.endpoint)
        fill(s3_server, bucket)
        packs = site.root / "repository/packs"
        running = subprocess.Popen(
            [DRCTL, "-c", site.config, "backup"], env=site.environment, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and running.poll() is None:
            stored = [path for path in packs.rglob("*") if path.is_file() and "." not in path.name]
            if len(stored) >= 2:
                break
            time.sleep(0.02)
        running.kill()
        running.wait(10)
        assert site.json("snapshots")["snapshots"] == []
        stored = [path for path in packs.rglob("*") if path.is_file() and "." not in path.name]
        held = sum(path.stat().st_size for path in stored)
        assert 0 < held < OBJECTS * 6000
        site.put("o00000", b"written again since")
        del proxy.seen[:]
        taken = site.backup()
        read = [path for method, path, _host in proxy.seen if method == "GET" and "/o" in path]
    at_least = held // 6600
    assert at_least > 3000
    assert f"/{bucket}/o00000" in read
    assert len(read) <= OBJECTS - at_least
    assert len(set(read)) == len(read)
    # Of an object at the end of a pack the footer does not know what it is: it is read again, and not sent again.
    sent = sum(19 if path.endswith("/o00000") else 6000 for path in read)
    assert sent - 6000 * len(stored) <= taken["bytes_new"] <= sent
    assert site.header(taken["id"])["objects"] == OBJECTS
    proof = site.json("verify", "--restore")["results"][0]
    assert (proof["result"], proof["checks"]["objects"]) == ("passed", OBJECTS)
