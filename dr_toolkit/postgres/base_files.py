"""Write a snapshot's cluster into an empty directory. What an interrupted run wrote whole is kept by the next one."""

from __future__ import annotations

import json
import os
import pwd
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath

from dr_toolkit.errors import Damaged, TargetError
from dr_toolkit.log import Progress
from dr_toolkit.postgres.base_backup import MANIFEST
from dr_toolkit.postgres.base_overlay import FILES
from dr_toolkit.postgres.base_sums import Checksums, FileSum
from dr_toolkit.postgres.base_write import FileParts
from dr_toolkit.repository.entries import EntryInfo, ScatteredSource

MARKER = ".drctl-restore.json"
"""In a directory that is not whole yet: which snapshot goes there."""
THREADS = 4
_WAITING = 32
_SYNCS = 16
"""At once: each waits for the disk, and the kernel makes one wait of several."""
LAST = FILES + "global/pg_control"
"""Written last: without it no server starts on half a cluster."""
LEFT_OUT = {FILES + name for name in ("standby.signal", "recovery.signal", "postmaster.pid", MARKER)}
"""What the source's own state was, and what would lead a restored server elsewhere."""
_PARTIAL = ".drctl-partial"


def check_directory(directory: Path, snapshot: str) -> None:
    """Refuse a directory that is somebody's, before anything is read.

    Raises:
        TargetError: it holds something else than this snapshot's unfinished restore.
    """
    with _translated(directory):
        if not os.path.lexists(directory):
            return
        if not directory.is_dir():
            raise _taken(directory, "it is no directory")
        if (directory / "postmaster.pid").exists():
            raise _taken(directory, "a server runs there, or did")
        names = sorted(path.name for path in directory.iterdir())
        if names and (found := _marked(directory)) != snapshot:
            raise _taken(
                directory,
                f'the restore of snapshot "{found}" is unfinished there' if found else "it is not empty",
            )


def write_cluster(
    source: ScatteredSource, directory: Path, snapshot: str, progress: Progress, *, read_next: bool = True
) -> int:
    """Write all files, permissions and the manifest. The marker stays until `finish`; `made_durable` brings them to the disk.

    Args:
        source: the snapshot.
        directory: new, empty, or with this snapshot's unfinished restore.
        snapshot: its id.
        progress: told of each file.
        read_next: the files are read right after: they had better be in the page cache.

    Returns:
        How many files there are.

    Raises:
        TargetError: the directory cannot be used.
        Damaged: an entry of the snapshot has an impossible path.
    """
    check_directory(directory, snapshot)
    with _translated(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        (directory / MARKER).write_text(json.dumps({"snapshot": snapshot}))
        sums = Checksums(b"".join(source.read(MANIFEST)))
        count = _write_all(source, directory, progress, sums, direct=not read_next)
        _write_manifest(sums.manifest(), directory / MANIFEST)
    return count


@contextmanager
def made_durable(directory: Path) -> Iterator[None]:
    """What is written comes to the disk while the block runs, and is there at its end. A scratch place can do without.

    Raises:
        TargetError: the disk refuses.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="drctl-durable") as pool:
        coming = pool.submit(_make_durable, directory)
        yield
        with _translated(directory):
            coming.result()


def finish(directory: Path) -> None:
    """The directory is whole: take the marker away."""
    with _translated(directory):
        (directory / MARKER).unlink(missing_ok=True)
        _sync(directory)


def give_to(directory: Path, user: str) -> None:
    """Make ``user`` the owner of everything: PostgreSQL wants to own its data directory."""
    number = pwd.getpwnam(user).pw_uid  # asked once: a cluster has thousands of files
    with _translated(directory):
        os.chown(directory, number, -1)
        for place, directories, files in os.walk(directory):
            for name in (*directories, *files):
                os.chown(f"{place}/{name}", number, -1)


def _write_all(
    source: ScatteredSource, directory: Path, progress: Progress, sums: Checksums, *, direct: bool
) -> int:
    count, last = 0, None
    write = partial(_write_file, progress=progress, sums=sums, direct=direct)
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="drctl-file") as pool:
        try:
            for info in source.entries(FILES):
                if info.path in LEFT_OUT:
                    continue
                target = directory / place_of(info)
                if info.kind == "directory":
                    target.mkdir(exist_ok=True)
                    target.chmod(mode_of(info))
                    continue
                count += 1
                if info.path == LAST:
                    last = info, target
                    continue
                waiting.append(pool.submit(write, source, info, target))
                if len(waiting) > _WAITING:
                    waiting.popleft().result()
            while waiting:
                waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    if last is None:
        raise Damaged("the snapshot has no control file", fault="structure", on=LAST)
    write(source, *last)
    return count


def _write_file(
    source: ScatteredSource,
    info: EntryInfo,
    target: Path,
    *,
    progress: Progress,
    sums: Checksums,
    direct: bool,
) -> None:
    path = info.path.removeprefix(FILES)
    found = FileSum() if sums.wants(path) else None
    if target.exists() and target.stat().st_size == info.size:
        if found is not None:
            source.deliver(info.path, found.add)
            sums.keep(path, found)
        progress.advance(info.size, 1)
        return
    unfinished = target.with_name(target.name + _PARTIAL)
    file = FileParts(unfinished, info.size, direct=direct)

    def take(offset: int, pieces: Iterator[bytes]) -> None:
        counted = pieces if found is None else found.through(offset, pieces)
        progress.advance(file.write(offset, counted))

    try:
        source.deliver(info.path, take)
        file.finish(mode_of(info))
    finally:
        file.close()
    if found is not None:
        sums.keep(path, found)
    unfinished.rename(target)
    progress.advance(0, 1)


def _write_manifest(content: bytes, target: Path) -> None:
    unfinished = target.with_name(target.name + _PARTIAL)
    unfinished.write_bytes(content)
    unfinished.chmod(0o600)
    unfinished.rename(target)


def mode_of(info: EntryInfo) -> int:
    """Permissions of a file or directory: the source's, and never anything for others."""
    mode = info.meta.get("mode")
    default = 0o700 if info.kind == "directory" else 0o600
    return mode & 0o770 if isinstance(mode, int) else default


def place_of(info: EntryInfo) -> PurePosixPath:
    """The place below the directory: a stolen write key must not lead a restore out of it.

    Raises:
        Damaged: it is none, or no file or directory.
    """
    text = info.path.removeprefix(FILES)
    parts = text.split("/")
    if any(part in {"", ".", ".."} for part in parts) or info.kind not in {"file", "directory"}:
        raise Damaged(f'the entry "{info.path}" has no place in a cluster', fault="structure", on=info.path)
    return PurePosixPath(text)


def _make_durable(directory: Path) -> None:
    """Everything is written out at once, then each file's own word is asked."""
    os.sync()
    with ThreadPoolExecutor(_SYNCS, thread_name_prefix="drctl-sync") as pool:
        waiting: deque[Future[None]] = deque()
        for place, _directories, files in os.walk(directory):
            for name in (*files, "."):
                waiting.append(pool.submit(_sync, f"{place}/{name}"))
                if len(waiting) > _SYNCS * _SYNCS:
                    waiting.popleft().result()
        for future in waiting:
            future.result()
    _sync(directory.parent)


def _sync(path: Path | str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _marked(directory: Path) -> str | None:
    try:
        found = json.loads((directory / MARKER).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return found.get("snapshot") if isinstance(found, dict) else None


def _taken(directory: Path, why: str) -> TargetError:
    return TargetError(
        f'"{directory}" cannot take a cluster: {why}',
        on=str(directory),
        hint="name a new or an empty directory",
        unaffected="it was not touched",
    )


@contextmanager
def _translated(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TargetError(
            f'"{error.filename or directory}" cannot be written: {error.strerror}',
            on=str(directory),
            hint="give the same command again when that is solved: what is there stays",
        ) from error
