"""``kill -9`` of drctl at every stage of a backup: nothing is lost, nothing half-written is seen, nothing is left running."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from devstack.s3 import S3Server
from devstack.s3_proxy import DROP, S3Proxy
from tests.faults.conftest import s3_block
from tests.faults.site import Run, Site, Source


def packs(site: Site) -> int:
    return len(site.objects("packs"))


def just_started(run: Run, _site: Site) -> None:
    """The run began; nothing is stored yet."""
    run.until_event("started")


def first_pack(run: Run, site: Site) -> None:
    """One pack is stored, more are being made."""
    run.until(lambda: packs(site), "first pack")


def in_the_middle(run: Run, site: Site) -> None:
    """The source stands still, and drctl waits for more of it."""
    run.until(lambda: packs(site), "first pack")
    run.program("pg_dump").suspend()
    time.sleep(0.3)


def source_read(run: Run, _site: Site) -> None:
    """Everything was read; the last packs and the catalog are on their way."""
    run.until_event("source read")


STAGES = [just_started, first_pack, in_the_middle, source_read]


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_first_backup_leaves_nothing_but_packs(site: Site, full_size: int, stage) -> None:
    """No snapshot is listed; the next backup takes over the packs that are there, sends only the rest, and verifies."""
    run = site.start("backup", config=site.write_config)
    stage(run, site)
    run.kill()
    assert run.wait().code == -signal.SIGKILL
    there = sum(path.stat().st_size for path in site.objects("packs"))
    assert there > 0 or stage is just_started
    made = site.is_as_good_as_before([])
    assert made["bytes_stored"] + there < full_size * 1.05
    assert made["bytes_new"] < made["bytes_source"] or stage is just_started


def test_a_killed_second_backup_leaves_the_first(site: Site) -> None:
    """With a snapshot there already: it stays the only one, verifies, and the next backup compares with it."""
    first = site.backup()["id"]
    run = site.start("backup", "--full", config=site.write_config)
    in_the_middle(run, site)
    run.kill()
    run.wait()
    made = site.is_as_good_as_before([first])
    assert made["parent"] == first
    assert made["bytes_stored"] < made["bytes_source"] / 100


def test_a_killed_backup_leaves_no_password_behind(site: Site) -> None:
    """The password of the database is in no file any more when drctl was killed while ``pg_dump`` ran."""
    run = site.start("backup", config=site.write_config)
    in_the_middle(run, site)
    run.kill()
    run.wait()
    site.leaves_no_credentials()


OBJECT_OF_STAGE = {"first pack": "/packs/", "first catalog": "/catalogs/", "commit": "/snapshots/"}


class Trap:
    """Kills drctl when it puts the first object of a folder: before the object is there, or after, without an answer."""

    def __init__(self, folder: str, *, after: bool) -> None:
        self.run: Run | None = None
        self._folder = folder
        self._after = after
        self._lock = threading.Lock()

    def plan(self, method: str, path: str, _headers: object) -> object:
        """As the proxy asks."""
        with self._lock:
            run = self.run
            if run is None or method != "PUT" or self._folder not in path:
                return None
            if self._after:
                return DROP
            os.kill(run.pid, signal.SIGKILL)
            self.run = None
        return (503, b"")

    def catch(self, site: Site, proxy: S3Proxy) -> int:
        """Run a backup into the trap."""
        proxy.plan = self.plan
        self.run = run = site.start("backup", config=site.write_config)
        if self._after:
            run.until(lambda: len(headers_asked_again(proxy)), "a request for the header")
            run.kill()
        return run.wait().code


def headers_asked_again(proxy: S3Proxy) -> list[str]:
    """Headers whose creation was asked for and whose answer was dropped: the second request is drctl's next attempt."""
    return [path for method, path, _host in proxy.seen if method == "PUT" and "/snapshots/" in path][1:]


@pytest.mark.parametrize("stage", OBJECT_OF_STAGE)
def test_a_backup_killed_before_an_object_is_there(
    new_s3_site: Callable[..., Site], s3_server: S3Server, small_source: Source, stage: str
) -> None:
    """Killed with a request under way that never arrives: no snapshot, and the next backup adopts what is there."""
    with S3Proxy(s3_server.endpoint) as proxy:
        site = new_s3_site(s3_server, small_source, endpoint=proxy.endpoint)
        assert Trap(OBJECT_OF_STAGE[stage], after=False).catch(site, proxy) == -signal.SIGKILL
    site.use(s3_block(s3_server.endpoint))
    made = site.is_as_good_as_before([])
    if stage == "commit":
        assert made["bytes_stored"] < made["bytes_source"] / 20


def test_a_backup_killed_after_its_commit_has_a_snapshot(
    new_s3_site: Callable[..., Site], s3_server: S3Server, small_source: Source
) -> None:
    """The header arrived and its answer did not: the snapshot is there, verifies, and is the next one's parent."""
    with S3Proxy(s3_server.endpoint) as proxy:
        site = new_s3_site(s3_server, small_source, endpoint=proxy.endpoint)
        assert Trap(OBJECT_OF_STAGE["commit"], after=True).catch(site, proxy) == -signal.SIGKILL
    site.use(s3_block(s3_server.endpoint))
    (committed,) = site.ids()
    assert site.is_as_good_as_before([committed])["parent"] == committed
