"""A directory as a store: ``file:///path``.

An object is written to a temporary file under ``tmp/``, synced, linked to its name (which fails if the name exists),
and then the directories are synced. So a power cut or ``kill -9`` leaves the whole object or nothing of it, and an
object that ``put`` reported is on the disk. Large ones go past the page cache where they can (``file_access.write_past``). What killed runs leave under ``tmp/`` is removed when it is older than a
day, by the clock of the filesystem.

Every path is walked from the root's open descriptor without following symbolic links: a repository has none, so one
that somebody planted can lead neither reads nor writes outside.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
from typing import TYPE_CHECKING

from dr_toolkit.errors import Damaged, ObjectMissing, StoreConflict, StoreUnreachable
from dr_toolkit.repository.file_access import make_root, moment, plain, pread, translate, write_past
from dr_toolkit.repository.store import (
    UNFINISHED,
    Buffer,
    ListedObject,
    ObjectFacts,
    check_name,
    check_prefix,
    is_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_LEFTOVER_SECONDS = 24 * 3600


class FileStore:
    """Objects as files below one directory; see ``store.Store`` for what each method promises.

    Args:
        root: the directory, absolute.
        create: make the directory (and its parents) if it is missing. Only ``init`` does: for everybody else a
            missing directory is a disk that is not mounted.
        links: whether to publish by hard links. Where the filesystem turns out to have none, renaming is used, which
            is as atomic but does not refuse an existing name by itself.
    """

    def __init__(self, root: str, *, create: bool = False, links: bool = True) -> None:
        self._path = os.path.realpath(root)
        self._links = links
        self._lock = threading.Lock()
        self._synced: set[str] = set()
        self._swept = False
        with self._translated(None):
            if create:
                make_root(self._path)
            self._root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def put(self, name: str, data: Buffer) -> None:
        """Write, sync, link into place, sync the directory."""
        check_name(name)
        folder, _, base = name.rpartition("/")
        with self._translated(name, writing=True):
            target = self._make_folder(folder)
            try:
                created = self._create(target, base, memoryview(data).cast("B"))
                if not created:
                    self._must_equal(target, base, name, data)
                os.fsync(target)
            finally:
                os.close(target)

    def get(self, name: str) -> bytes:
        """Read the whole file."""
        return self._read(name, lambda size: (0, size))[0]

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Read a part of the file; a file that is too short is damaged."""
        if length == 0:
            return b""
        data, size = self._read(name, lambda _: (offset, length))
        if len(data) != length:
            raise Damaged(
                f'"{name}" has {size} bytes, expected at least {offset + length}',
                fault="truncated",
                on=name,
                hint="the object was truncated: take it from a copy of the repository, or take a new backup",
            )
        return data

    def get_tail(self, name: str, length: int) -> tuple[bytes, int]:
        """Read the end of the file, and tell its size."""
        return self._read(name, lambda size: (max(0, size - length), length))

    def head(self, name: str) -> ObjectFacts:
        """Size and modification time of the file."""
        with self._opened(name) as (_, facts):
            return ObjectFacts(facts.st_size, moment(facts))

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        try:
            self.head(name)
        except ObjectMissing:
            return False
        return True

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """Walk the directories in the order of names; one directory at a time is held in memory."""
        folder, _, beginning = check_prefix(prefix).rpartition("/")
        return self._walk(f"{folder}/" if folder else "", beginning)

    def now(self) -> datetime:
        """The modification time that the filesystem gives to a file written now."""
        with self._translated(None), self._temporary() as (_, _, descriptor):
            os.write(descriptor, b"\0")
            os.fsync(descriptor)
            return moment(os.fstat(descriptor)).replace(microsecond=0)

    def delete(self, name: str) -> None:
        """Remove the file and sync its directory; the directory stays."""
        check_name(name)
        folder, _, base = name.rpartition("/")
        try:
            with self._translated(name), self._folder(folder) as descriptor:
                os.unlink(base, dir_fd=descriptor)
                os.fsync(descriptor)
        except ObjectMissing:
            return

    def probe_create_only(self) -> bool:
        """Whether a second file of the same name is refused by the filesystem."""
        base = secrets.token_hex(16)
        with self._translated(None):
            descriptor = self._make_folder("probe")
            try:
                self._create(descriptor, base, memoryview(b"first"))
                refused = not self._create(descriptor, base, memoryview(b"second"))
                os.unlink(base, dir_fd=descriptor)
            finally:
                os.close(descriptor)
        return refused and self._links

    def describe(self) -> str:
        """The directory as a URL."""
        return f"file://{self._path}"

    def close(self) -> None:
        """Close the root's descriptor."""
        with self._lock:
            root, self._root = self._root, -1
        if root >= 0:
            os.close(root)

    def _create(self, target: int, base: str, data: memoryview) -> bool:
        """Write a synced temporary file and publish it; ``False`` if the name exists."""
        with self._temporary() as (folder, temporary, descriptor):
            self._sweep(folder, os.fstat(descriptor).st_mtime)
            written = write_past(folder, temporary, data)
            while written < len(data):
                written += os.pwrite(descriptor, data[written:], written)
            os.fsync(descriptor)
            return self._publish(folder, temporary, target, base)

    def _publish(self, folder: int, temporary: str, target: int, base: str) -> bool:
        """Give the temporary file its name, unless the name exists."""
        if self._links:
            try:
                os.link(temporary, base, src_dir_fd=folder, dst_dir_fd=target, follow_symlinks=False)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self._links = False
            else:
                return True
        with self._lock:
            with contextlib.suppress(FileNotFoundError):
                os.stat(base, dir_fd=target, follow_symlinks=False)
                return False
            os.rename(temporary, base, src_dir_fd=folder, dst_dir_fd=target)
        return True

    def _must_equal(self, target: int, base: str, name: str, data: Buffer) -> None:
        """Accept the existing file if it has the same content, and make sure of it being on the disk."""
        descriptor = os.open(base, _READ, dir_fd=target)
        try:
            facts = os.fstat(descriptor)
            equal = plain(facts, name) and facts.st_size == memoryview(data).nbytes
            if not equal or pread(descriptor, 0, facts.st_size) != data:
                raise StoreConflict(
                    f'"{name}" exists in {self.describe()} with other content',
                    on=name,
                    unaffected="the existing object is as it was",
                )
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _read(self, name: str, place: Callable[[int], tuple[int, int]]) -> tuple[bytes, int]:
        """Bytes at the offset and of the length that ``place`` finds from the size, and the size."""
        with self._opened(name) as (descriptor, facts):
            offset, length = place(facts.st_size)
            return pread(descriptor, offset, min(length, max(0, facts.st_size - offset))), facts.st_size

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[tuple[int, os.stat_result]]:
        """A plain file, open for reading, and its facts."""
        check_name(name)
        folder, _, base = name.rpartition("/")
        with self._translated(name), self._folder(folder) as parent:
            descriptor = os.open(base, _READ, dir_fd=parent)
            try:
                facts = os.fstat(descriptor)
                if not plain(facts, name):
                    raise FileNotFoundError(errno.ENOENT, "a directory", name)
                yield descriptor, facts
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def _folder(self, folder: str) -> Iterator[int]:
        """A descriptor of a folder, reached without following symbolic links."""
        descriptor = self._open_root()
        try:
            for segment in filter(None, folder.split("/")):
                child = os.open(segment, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = child
            yield descriptor
        finally:
            os.close(descriptor)

    def _make_folder(self, folder: str) -> int:
        """A descriptor of a folder, made where needed.

        Whoever made it, its parent is synced once before this store relies on it: another writer may have made it a
        moment ago and not have come to that yet.
        """
        descriptor = self._open_root()
        try:
            path = ""
            for segment in filter(None, folder.split("/")):
                path = f"{path}/{segment}"
                child = self._make_child(descriptor, segment, path)
                os.close(descriptor)
                descriptor = child
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _make_child(self, parent: int, segment: str, path: str) -> int:
        """A descriptor of a folder in ``parent``, made where needed."""
        if path in self._synced:
            # Somebody may have tidied up empty folders meanwhile.
            with contextlib.suppress(FileNotFoundError):
                return os.open(segment, _FOLDER, dir_fd=parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(segment, 0o700, dir_fd=parent)
        os.fsync(parent)
        self._synced.add(path)
        return os.open(segment, _FOLDER, dir_fd=parent)

    def _open_root(self) -> int:
        """A new descriptor of the root; a root that was removed meanwhile is not an empty one."""
        descriptor = os.dup(self._root)
        if os.fstat(descriptor).st_nlink == 0:
            os.close(descriptor)
            raise StoreUnreachable(f"{self.describe()} was removed while it was in use", on=self.describe())
        return descriptor

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[tuple[int, str, int]]:
        """A new file under ``tmp/``, gone at the end: its folder's descriptor, its name, its own descriptor."""
        folder = self._make_folder(UNFINISHED)
        try:
            name = secrets.token_hex(16)
            descriptor = os.open(name, _CREATE, 0o600, dir_fd=folder)
            try:
                yield folder, name, descriptor
            finally:
                os.close(descriptor)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
        finally:
            os.close(folder)

    def _sweep(self, folder: int, now: float) -> None:
        """Once per store, remove temporary files of runs that were killed more than a day ago."""
        with self._lock:
            if self._swept:
                return
            self._swept = True
        for name in os.listdir(folder):
            # Another run may sweep at the same time, and what we may not remove does no harm.
            with contextlib.suppress(OSError):
                if now - os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime > _LEFTOVER_SECONDS:
                    os.unlink(name, dir_fd=folder)

    def _walk(self, folder: str, beginning: str) -> Iterator[ListedObject]:
        """The objects of one folder whose names start with ``beginning``, and of the folders in it."""
        for base, facts in self._children(folder, beginning):
            if facts is None:
                yield from self._walk(folder + base, "")
            else:
                yield ListedObject(folder + base, facts.st_size, moment(facts))

    def _children(self, folder: str, beginning: str) -> tuple[tuple[str, os.stat_result | None], ...]:
        """What is in one folder in the order of full names: files with their facts, folders with ``/`` and none.

        A folder sorts with its slash: ``a-b`` comes before ``a/b``.
        """
        found: dict[str, os.stat_result | None] = {}
        try:
            with (
                self._translated(folder),
                self._folder(folder) as descriptor,
                os.scandir(descriptor) as entries,
            ):
                for entry in entries:
                    child = f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
                    if child.startswith(beginning) and is_name(folder + entry.name):
                        with contextlib.suppress(FileNotFoundError):
                            facts = entry.stat(follow_symlinks=False)
                            found[child] = facts if plain(facts, folder + entry.name) else None
        except ObjectMissing:
            return ()
        return tuple(sorted(found.items(), key=lambda item: item[0]))

    @contextlib.contextmanager
    def _translated(self, name: str | None, *, writing: bool = False) -> Iterator[None]:
        """Turn the system's errors into the project's."""
        try:
            yield
        except OSError as error:
            raise translate(error, name, self.describe(), writing=writing) from error
