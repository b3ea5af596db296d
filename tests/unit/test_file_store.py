"""The directory as a store, when it is damaged, full, planted with links, or its writer is killed."""

from __future__ import annotations

import mmap
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dr_toolkit.errors import ConfigError, Damaged, ObjectMissing, StoreConflict, StoreFull, StoreUnreachable
from dr_toolkit.repository.file_store import FileStore
from dr_toolkit.repository.opening import open_store
from dr_toolkit.repository.s3_settings import S3Settings


@pytest.fixture
def root(tmp_path):
    return tmp_path / "repo"


@pytest.fixture
def store(root):
    store = FileStore(str(root), create=True)
    yield store
    store.close()


def files(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def test_modes_do_not_depend_on_the_umask(root):
    """Nobody else may read files or folders, whatever the umask says."""
    before = os.umask(0)
    try:
        FileStore(str(root), create=True).put("packs/00/x", b"1")
    finally:
        os.umask(before)
    for path in (root, root / "packs", root / "packs/00", root / "tmp"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((root / "packs/00/x").stat().st_mode) == 0o600


@pytest.mark.parametrize("shift", [0, 1], ids=["a page's beginning", "beside a page"])
@pytest.mark.parametrize("size", [(1 << 20) - 1, 1 << 20, (3 << 20) + 5])
def test_what_is_written_past_the_page_cache_is_whole(store, root, shift, size):
    """Whole pages go past it, the last part of one through it; and all goes through it where memory lies so that the system refuses."""
    with mmap.mmap(-1, size + shift, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[:] = os.urandom(size + shift)
        with memoryview(memory) as whole, whole[shift:] as content:
            store.put("packs/00/x", content)
            assert (root / "packs/00/x").read_bytes() == content


def test_a_missing_directory_is_not_made(root):
    """Only init makes the directory: a disk that is not mounted must not look like an empty repository."""
    with pytest.raises(StoreUnreachable) as caught:
        FileStore(str(root))
    assert "mounted" in caught.value.hint
    assert not root.exists()


def test_a_root_that_is_a_file(root):
    """A file in place of the directory is said as such."""
    root.write_text("")
    with pytest.raises(StoreUnreachable):
        FileStore(str(root))


def test_a_root_that_was_removed_is_not_empty(store, root):
    """A directory that disappears while it is in use is unreachable; its listing is not empty."""
    store.put("a/x", b"1")
    shutil.rmtree(root)
    for call in (
        lambda: list(store.list("")),
        lambda: store.exists("a/x"),
        lambda: store.put("b", b""),
        store.now,
    ):
        with pytest.raises(StoreUnreachable):
            call()
    assert not root.exists()


def test_leftovers_are_not_listed_and_go_after_a_day(store, root):
    """Temporary files of killed runs are no objects; young ones may belong to a running one, old ones are removed."""
    store.put("x", b"1")
    store.close()
    for name, age in (("young", 3600), ("old", 25 * 3600)):
        path = root / "tmp" / name
        path.write_text("unfinished")
        os.utime(path, (time.time() - age, time.time() - age))
    again = FileStore(str(root))
    assert [found.name for found in again.list("")] == ["x"]
    again.put("y", b"2")
    assert files(root) == ["tmp/young", "x", "y"]


def test_links_are_refused_wherever_they_lead(store, root, tmp_path):
    """A planted symbolic link is damage: neither read, nor written through, nor silently left out of a listing."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    store.put("good/x", b"1")
    (root / "bad").symlink_to(outside)
    (root / "good" / "link").symlink_to(outside / "secret")
    for call in (
        lambda: store.get("bad/secret"),
        lambda: store.put("bad/new", b"1"),
        lambda: store.delete("bad/secret"),
        lambda: store.get("good/link"),
        lambda: store.head("good/link"),
        lambda: store.put("good/link", b"secret"),
        lambda: list(store.list("")),
        lambda: list(store.list("good/")),
        lambda: list(store.list("bad/")),
    ):
        with pytest.raises(Damaged):
            call()
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_the_root_itself_may_be_a_link(root, tmp_path):
    """Where the repository is, is the administrator's choice."""
    FileStore(str(root), create=True).put("x", b"1")
    link = tmp_path / "link"
    link.symlink_to(root)
    assert FileStore(str(link)).get("x") == b"1"


def test_devices_are_refused(store, root):
    """A named pipe in place of an object is damage, and does not make a reader wait."""
    store.put("f/x", b"1")
    os.mkfifo(root / "f" / "pipe")
    for call in (lambda: store.get("f/pipe"), lambda: list(store.list(""))):
        with pytest.raises(Damaged):
            call()


def test_foreign_files_are_not_listed(store, root):
    """What other programs leave under names that no object can have is not given out."""
    store.put("x", b"1")
    (root / "lost+found").mkdir()
    (root / "a file~").write_text("")
    assert [found.name for found in store.list("")] == ["x"]


CHILD = """
import resource, signal, sys
from dr_toolkit.errors import DrctlError
from dr_toolkit.repository.file_store import FileStore
store = FileStore(sys.argv[1])
"""


def child(root, code, **options):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD + code, str(root)], stdout=subprocess.PIPE, text=True, **options
    )


def test_permissions(store, root, tmp_path):
    """What may not be read is unreachable, not missing."""
    store.put("x", b"1")
    # Root may read everything, and so becomes somebody else, who owns nothing.
    for folder in (tmp_path.parent, tmp_path, root):
        folder.chmod(0o755)
    (root / "x").chmod(0)
    code = "os = __import__('os')\nif os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
    code += "try: store.get('x')\nexcept DrctlError as error: print(error.code, '|', error.hint)\n"
    process = child(root, code)
    assert process.communicate(timeout=30)[0].startswith("store-unreachable | check the owner")


def test_file_size_limit_leaves_nothing(store, root):
    """When the system refuses to write on, nothing of the object is left, and smaller ones still go."""
    code = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try: store.put("packs/00/big", bytes(16 << 20))
except DrctlError as error: print(error.code)
store.put("small", b"1")
"""
    process = child(root, code)
    assert process.communicate(timeout=30)[0] == "store-full\n"
    assert process.returncode == 0
    assert files(root) == ["small"]
    with pytest.raises(ObjectMissing):
        store.get("packs/00/big")


@pytest.fixture
def small_disk(tmp_path):
    """A filesystem of four mebibytes, where that is permitted."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here; the file size limit's test shows the same")
    yield place
    subprocess.run(["umount", place], check=True)


def test_full_disk_leaves_nothing(small_disk):
    """On a full disk nothing of the object is left, what was there stays, and freed space can be used."""
    store = FileStore(str(small_disk / "repo"), create=True)
    store.put("a", bytes(3 << 20))
    with pytest.raises(StoreFull) as caught:
        store.put("b", bytes(2 << 20))
    assert "intact" in caught.value.unaffected
    assert files(small_disk / "repo") == ["a"]
    store.delete("a")
    store.put("b", bytes(2 << 20))
    assert store.get("b") == bytes(2 << 20)
    store.close()


def test_killed_writer_leaves_only_whole_objects(store, root):
    """``kill -9`` in the middle of writes, many times: every listed object is whole, and a next writer goes on."""
    code = """
for number in range(10**6):
    store.put(f"packs/{sys.argv[2]}/{number:06d}", bytes([number % 256]) * (1 << 20))
    print(number, flush=True)
"""
    reported = {}
    for round_number in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD + code, str(root), f"{round_number:02d}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        process.stdout.readline()
        time.sleep(0.03 + 0.017 * round_number)
        process.send_signal(signal.SIGKILL)
        lines = process.communicate(timeout=30)[0].split("\n")
        # What follows the last line's end was cut by the kill.
        reported[round_number] = {0, *(int(line) for line in lines[:-1])}
    for found in store.list("packs/"):
        data = store.get(found.name)
        assert data == bytes([int(found.name[-6:]) % 256]) * (1 << 20)
    for round_number, numbers in reported.items():
        for number in numbers:
            assert store.head(f"packs/{round_number:02d}/{number:06d}").size == 1 << 20


def test_two_processes_race_for_one_name(store, root):
    """Of two processes with different content for one name exactly one wins; the other is told."""
    code = """
import time
content = sys.argv[2].encode() * 100_000
time.sleep(max(0, float(sys.argv[3]) - time.time()))
for number in range(50):
    try: store.put(f"race/{number}", content); print(number, "won")
    except DrctlError as error: print(number, error.code)
"""
    start = str(time.time() + 1)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD + code, str(root), who, start], stdout=subprocess.PIPE, text=True
        )
        for who in "AB"
    ]
    results = [
        dict(line.split() for line in racer.communicate(timeout=60)[0].splitlines()) for racer in racers
    ]
    for number in range(50):
        verdicts = [result[str(number)] for result in results]
        assert sorted(verdicts) == ["store-conflict", "won"]
        winner = "AB"[verdicts.index("won")]
        assert store.get(f"race/{number}") == winner.encode() * 100_000


def test_interrupted_put_leaves_nothing(store, root, monkeypatch):
    """A signal's exception in the middle of a write removes the unfinished file."""

    class Stop(BaseException):
        pass

    def stop(descriptor):
        raise Stop

    store.put("y", b"1")
    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(Stop):
        store.put("x", b"1")
    monkeypatch.undo()
    assert files(root) == ["y"]


def test_empty_folders_may_be_tidied_up(store, root):
    """A folder that somebody removed because it was empty is made again."""
    store.put("packs/00/x", b"1")
    store.delete("packs/00/x")
    for folder in ("packs/00", "packs", "tmp"):
        (root / folder).rmdir()
    store.put("packs/00/y", b"2")
    assert files(root) == ["packs/00/y"]


def test_descriptors_are_given_back(store):
    """Neither success nor failure keeps a file open."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(50):
        store.put(f"f/{number}", b"1")
        store.get(f"f/{number}")
        with pytest.raises(StoreConflict):
            store.put(f"f/{number}", b"2")
        with pytest.raises(ObjectMissing):
            store.get("f/nothing/at/all")
        next(store.list("f/"))
        store.now()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 50


@pytest.mark.parametrize(
    "url",
    [
        "/var/lib/drctl",
        "file:relative",
        "file://otherhost/path",
        "file:///",
        "s3:///prefix",
        "s3://bucket/a//b",
        "s3://bucket/a b",
        "s3://bucket/p?x=1",
        "s3://user:pass@bucket/p",
        "gs://bucket",
        "",
    ],
)
def test_impossible_urls(url):
    """What is not the URL of a repository is refused with examples, and a password in it is not repeated."""
    with pytest.raises(ConfigError) as caught:
        open_store(url, S3Settings(access_key_id="a", secret_access_key="b"))
    assert "s3://" in caught.value.hint
    assert "pass@" not in str(caught.value)


def test_file_urls(tmp_path):
    """``file:`` URLs name a directory, percent signs decoded."""
    store = open_store(f"file://{tmp_path}/with%20space", create=True)
    store.put("x", b"1")
    assert (tmp_path / "with space" / "x").read_bytes() == b"1"
    assert open_store(f"file://localhost{tmp_path}/with%20space").exists("x")


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": "minio:9000"},
        {"endpoint": "ftp://minio"},
        {"endpoint": "https://minio/bucket"},
        {"endpoint": "https://user:CANARY@minio"},
        {"access_key_id": "only", "secret_access_key": None},
    ],
)
def test_impossible_s3_settings(changes):
    """Settings that cannot work are refused before anything is sent, without repeating secrets."""
    with pytest.raises(ConfigError) as caught:
        S3Settings(**({"access_key_id": "a", "secret_access_key": "CANARY"} | changes))
    assert "CANARY" not in repr(caught.value) + str(caught.value.hint)


def test_s3_settings_do_not_show_secrets():
    """The settings may be logged."""
    text = repr(S3Settings("https://s3:9000", "us-east-1", "KEYID", "SECRET", "TOKEN"))
    assert "https://s3:9000" in text
    assert not any(word in text for word in ("KEYID", "SECRET", "TOKEN"))
