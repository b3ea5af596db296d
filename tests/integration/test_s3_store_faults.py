"""The S3 store when its server dies, freezes and comes back."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from devstack.s3 import S3Server
from dr_toolkit.errors import StoreUnreachable
from dr_toolkit.repository.s3_settings import S3Settings
from dr_toolkit.repository.s3_store import S3Store


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of this module's own, which the tests may kill."""
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        server.create_bucket("backups")
        yield server


@pytest.fixture
def store_for(server):
    """Makes stores on the server; it runs, unfrozen, before and after each test."""

    def make(prefix, **bounds):
        settings = S3Settings(server.endpoint, "us-east-1", server.access_key, server.secret_key)
        return S3Store("backups", prefix, settings, **bounds)

    server.start()
    yield make
    if server.running:
        server.resume()


def calls(store):
    """Every way to use a store."""
    return {
        "put": lambda: store.put("new", b"x"),
        "get": lambda: store.get("x"),
        "get_range": lambda: store.get_range("x", 0, 1),
        "get_tail": lambda: store.get_tail("x", 1),
        "head": lambda: store.head("x"),
        "exists": lambda: store.exists("x"),
        "list": lambda: list(store.list("")),
        "now": store.now,
        "delete": lambda: store.delete("x"),
        "probe": store.probe_create_only,
    }


def test_server_that_dies_and_comes_back(server, store_for):
    """Writers and readers that meet a dead server wait for it, and then everything is there as it was meant."""
    store = store_for("restart", retry_seconds=60, stall_seconds=10)
    data = {f"packs/{number:02d}": bytes([number]) * 1_000_000 for number in range(40)}
    failed = []

    def write(names):
        try:
            for name in names:
                store.put(name, data[name])
                assert store.get(name) == data[name]
        except BaseException as error:
            failed.append(error)

    names = list(data)
    threads = [threading.Thread(target=write, args=(names[which::2],)) for which in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    server.kill()
    time.sleep(1)
    assert any(thread.is_alive() for thread in threads)
    server.start()
    for thread in threads:
        thread.join(120)
    assert failed == []
    assert {found.name: found.size for found in store.list("packs/")} == {
        name: len(data[name]) for name in names
    }


def test_server_that_is_gone(server, store_for):
    """Every call ends with StoreUnreachable, within the bound, and says what could not be reached."""
    store = store_for("gone", retry_seconds=0.5, stall_seconds=5)
    store.put("x", b"1")
    server.kill()
    try:
        for name, call in calls(store).items():
            began = time.monotonic()
            with pytest.raises(StoreUnreachable) as caught:
                call()
            assert time.monotonic() - began < 10, name
            assert "s3://backups/gone" in caught.value.message
            assert (caught.value.exit_code, caught.value.retry) == (5, True)
    finally:
        server.start()


def test_server_that_freezes(server, store_for):
    """Connections that are taken and never answered end too, reads sooner than writes."""
    patient, store = store_for("frozen"), store_for("frozen", retry_seconds=0.1, stall_seconds=0.5)
    patient.put("x", b"1")  # a server's first object can take it longer than the other store waits
    store.get("x")
    server.pause()
    try:
        for name, call in calls(store).items():
            began = time.monotonic()
            with pytest.raises(StoreUnreachable) as caught:
                call()
            assert time.monotonic() - began < 10, name
            assert "no answer in time" in caught.value.message or name == "now"
    finally:
        server.resume()


def test_a_signal_ends_every_wait(server, store_for):
    """Ctrl-C and SIGTERM are not kept waiting by a server that does not answer."""

    class Stop(BaseException):
        pass

    def stop(_number, _frame):
        raise Stop

    store = store_for("signal", retry_seconds=60, stall_seconds=30)
    before = signal.signal(signal.SIGUSR1, stop)
    server.pause()
    try:
        for name, call in calls(store).items():
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            began = time.monotonic()
            with pytest.raises(Stop):
                call()
            assert time.monotonic() - began < 5, name
    finally:
        server.resume()
        signal.signal(signal.SIGUSR1, before)


def test_server_that_freezes_for_a_moment(server, store_for):
    """A write that stalled is sent again, and is there once, as it was meant."""
    store = store_for("moment", retry_seconds=60, stall_seconds=0.5)
    data = bytes(8 << 20)
    server.pause()
    thread = threading.Thread(target=store.put, args=("x", data))
    thread.start()
    time.sleep(3)
    server.resume()
    thread.join(60)
    assert not thread.is_alive()
    assert store.get("x") == data
