"""Pure parts of base backups: the tar stream, WAL segments, and what a server must be to be backed up."""

import io
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dr_toolkit import errors
from dr_toolkit.log import NoProgress
from dr_toolkit.postgres import base_archive, base_checks, base_files, base_manifest, base_slot
from dr_toolkit.postgres.base_checks import BaseFacts
from dr_toolkit.postgres.base_manifest import WalRange
from dr_toolkit.postgres.base_tar import TarStream
from dr_toolkit.repository.entries import EntryInfo

MIB = 1 << 20
GOOD = BaseFacts("replica", 10, 2, 10, 0, True, (), True, 16 * MIB, "postgres", 0)


def archive(*, link: bool = False) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        directory = tarfile.TarInfo("pg_twophase")
        directory.type, directory.mode = tarfile.DIRTYPE, 0o700
        tar.addfile(directory)
        for name, content in (("PG_VERSION", b"18\n"), ("base/1/1259", bytes(range(256)) * 64)):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o600
            tar.addfile(member, io.BytesIO(content))
        if link:
            member = tarfile.TarInfo("pg_tblspc/16400")
            member.type, member.linkname = tarfile.SYMTYPE, "/mnt/space"
            tar.addfile(member)
    return file.getvalue()


def read(data: bytes, *, skip: bool = False) -> list[tuple[str, str, bytes]]:
    stream = TarStream(io.BytesIO(data))
    return [(m.path, m.kind, b"" if skip else b"".join(stream.content())) for m in stream.members()]


def test_members_come_with_their_content():
    """Files and directories, also when content is skipped."""
    expected = [
        ("pg_twophase", "directory", b""),
        ("PG_VERSION", "file", b"18\n"),
        ("base/1/1259", "file", bytes(range(256)) * 64),
    ]
    assert read(archive()) == expected
    assert [m[:2] for m in read(archive(), skip=True)] == [m[:2] for m in expected]


def test_a_stream_cut_anywhere_is_refused():
    """A backup that ends early is no backup, wherever it ends."""
    whole = archive()
    end = len(whole.rstrip(b"\0"))
    for length in [*range(0, end, 509), end]:
        with pytest.raises(errors.SourceError, match="ended before"):
            read(whole[:length])


def test_links_and_foreign_bytes_are_refused():
    """A tablespace, a broken header, and a second archive behind the first."""
    with pytest.raises(errors.SourceError, match="link"):
        read(archive(link=True))
    with pytest.raises(errors.SourceError, match="understood"):
        read(b"\x01" * 512)
    with pytest.raises(errors.SourceError, match="after the end"):
        read(archive() + archive())


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("0/2000028", "0/2000100", ["000000010000000000000002"]),
        ("0/2000028", "0/3000000", ["000000010000000000000002"]),
        ("0/2000028", "0/3000001", ["000000010000000000000002", "000000010000000000000003"]),
        ("0/FF000028", "1/28", ["0000000100000000000000FF", "000000010000000100000000"]),
    ],
)
def test_names_of_segments(start: str, end: str, expected: list[str]):
    """All segments from start to end, across the border of 4 GiB, and none beyond the end."""
    wal = WalRange(1, base_manifest.parse_lsn(start), base_manifest.parse_lsn(end))
    assert list(wal.segments(16 * MIB)) == expected
    sizes = dict.fromkeys(expected, 16 * MIB)
    assert base_manifest.missing_segments([wal], 16 * MIB, sizes) == []
    sizes[expected[-1]] -= 1
    assert base_manifest.missing_segments([wal], 16 * MIB, sizes) == [expected[-1]]
    assert base_manifest.format_lsn(wal.end) == end


def test_a_manifest_without_wal_is_refused():
    """Without a range of WAL nobody knows what recovery needs."""
    head = b'{"PostgreSQL-Backup-Manifest-Version": 2, "Files": [], "WAL-Ranges": ['
    for ranges in (b"", b'{"Timeline": 1, "Start-LSN": "0/2", "End-LSN": "0/2"}', b'{"Timeline": 1}'):
        with pytest.raises(errors.SourceError):
            base_manifest.wal_ranges(head + ranges + b"]}")
    good = head + b'{"Timeline": 3, "Start-LSN": "0/28", "End-LSN": "1/10"}]}'
    assert base_manifest.wal_ranges(good) == [WalRange(3, 0x28, (1 << 32) + 0x10)]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"replication": False}, "REPLICATION"),
        ({"wal_level": "minimal"}, "wal_level"),
        ({"wal_senders": 10}, "max_wal_senders"),
        ({"slots": 10}, "max_replication_slots"),
        ({"tablespaces": ("fast",)}, "fast"),
    ],
)
def test_what_a_server_lacks_is_said(change: dict, word: str):
    """One reason for each thing that is not right, and none for a good server."""
    assert base_checks.problems(GOOD) == []
    values = {name: getattr(GOOD, name) for name in GOOD.__slots__} | change
    [reason] = base_checks.problems(BaseFacts(**values))
    assert word in reason


@pytest.mark.parametrize(
    ("wanted", "free", "usual", "cluster", "most"),
    [
        (5, 100, 7, 1000, 5),
        (None, 100, 7, 1000, 50),
        (None, None, 7, 1000, 250),
        (None, None, 7, 20, 14),
        (None, None, 7, None, 14),
    ],
)
def test_how_much_wal_may_be_held(
    wanted: int | None, free: int | None, usual: int, cluster: int | None, most: int
):
    """What was configured; half of what is free; else what such a server has room for."""
    assert base_slot.most_wal(wanted, free, usual, cluster) == most


class Entries:
    """A ``ScatteredSource`` of given files."""

    def __init__(self, *paths: str, kind: str = "file") -> None:
        self.paths = [*paths, "cluster/global/pg_control"]
        self.kind = kind

    def entries(self, prefix: str = "") -> Iterator[EntryInfo]:
        return (
            EntryInfo(path, self.kind, 3, {"mode": 0o4777}) for path in self.paths if path.startswith(prefix)
        )

    def read(self, path: str) -> Iterator[bytes]:
        yield b"one"

    def deliver(self, path: str, take: Callable[[int, list[bytes]], None]) -> None:
        take(2, [b"e"])
        take(0, [b"o", b"n"])


@pytest.mark.parametrize("path", ["../escaped", "a/../../escaped", "/escaped", "a//b", "./a", ""])
def test_no_path_leads_out_of_the_directory(tmp_path: Path, path: str):
    """What a thief of the write role planted is refused; nothing is written beside the directory."""
    with pytest.raises(errors.Damaged, match="no place"):
        base_files.write_cluster(Entries(f"cluster/{path}"), tmp_path / "data", "s", NoProgress())
    assert {p.name for p in tmp_path.iterdir()} == {"data"}


def test_signals_and_odd_permissions_do_not_come_back(tmp_path: Path):
    """A standby's signal, a pid file and rights for everybody are left out; the control file is there."""
    (tmp_path / "data" / "global").mkdir(parents=True)
    (tmp_path / "data" / base_files.MARKER).write_text('{"snapshot": "s"}')
    names = ("cluster/standby.signal", "cluster/postmaster.pid", "cluster/PG_VERSION")
    assert base_files.write_cluster(Entries(*names), tmp_path / "data", "s", NoProgress()) == 2
    written = {p.name for p in (tmp_path / "data").iterdir()}
    assert written == {"global", "PG_VERSION", "backup_manifest", base_files.MARKER}
    assert (tmp_path / "data" / "PG_VERSION").stat().st_mode & 0o7777 == 0o770


def test_a_snapshot_without_a_control_file_is_no_cluster(tmp_path: Path):
    """It is said, and nothing that could be started is left."""
    source = Entries("cluster/PG_VERSION")
    source.paths.pop()
    with pytest.raises(errors.Damaged, match="control file"):
        base_files.write_cluster(source, tmp_path / "data", "s", NoProgress())


class Files:
    """An ``EntrySource`` of files with content; ``breaks`` fails when it is read, after ``after`` pieces."""

    def __init__(self, files: dict[str, bytes], *, breaks: str = "", after: int = 0) -> None:
        self.files = {f"cluster/{name}": data for name, data in sorted(files.items())}
        self.breaks, self.after = f"cluster/{breaks}", after

    def entries(self, prefix: str = "") -> Iterator[EntryInfo]:
        for path, data in self.files.items():
            kind = "directory" if path.endswith("global") else "file"
            yield EntryInfo(path, kind, len(data), {"mode": 0o600})

    def read(self, path: str) -> Iterator[bytes]:
        if path == "backup_manifest":
            yield b'{"Files": [], "WAL-Ranges": []}'
            return
        for number, start in enumerate(range(0, len(self.files[path]), 1000)):
            if (path, number) == (self.breaks, self.after):
                break
            yield self.files[path][start : start + 1000]
        if path == self.breaks:
            raise errors.Damaged("it does not open", fault="tag")


WHOLE = {
    "PG_VERSION": b"18\n",
    "base": b"x" * 2500,
    "global": b"",
    "global/1": bytes(3 << 20),
    "global/pg_control": b"control",
    "z": b"",
}


def as_archive(source: Files) -> bytes:
    out = io.BytesIO()
    base_archive.write_archive(source, out, datetime(2026, 1, 2, tzinfo=UTC), NoProgress())
    return out.getvalue()


def test_a_cluster_is_a_plain_archive():
    """Everything is in it, what a start needs comes last, and two blocks of zeros end it."""
    data = as_archive(Files(WHOLE | {"standby.signal": b""}))
    with tarfile.open(fileobj=io.BytesIO(data), mode="r|") as tar:
        found = {m.name: (file.read() if (file := tar.extractfile(m)) else b"") for m in tar}
    assert list(found)[-2:] == ["global/pg_control", "backup_manifest"]
    assert {name: data for name, data in found.items() if name != "backup_manifest"} == WHOLE
    assert data.endswith(bytes(1024))


@pytest.mark.parametrize(
    ("breaks", "after"),
    [("PG_VERSION", 0), ("base", 0), ("base", 2), ("global/1", 1), ("global/pg_control", 0)],
)
def test_a_broken_archive_is_known_as_one(breaks: str, after: int):
    """Wherever reading fails, GNU tar and Python refuse the stream, and no control file is in it."""
    out = io.BytesIO()
    with pytest.raises(errors.Damaged):
        base_archive.write_archive(
            Files(WHOLE, breaks=breaks, after=after), out, datetime(2026, 1, 2, tzinfo=UTC), NoProgress()
        )
    data = out.getvalue()
    listed = subprocess.run(["tar", "-t"], input=data, capture_output=True, check=False)
    assert listed.returncode != 0
    assert b"pg_control" not in listed.stdout or breaks == "global/pg_control"
    with pytest.raises(tarfile.ReadError), tarfile.open(fileobj=io.BytesIO(data), mode="r|") as tar:
        for member in tar:
            tar.extractfile(member)
