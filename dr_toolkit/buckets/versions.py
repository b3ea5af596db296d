"""All versions of all objects: a complete, checked listing, cut at one moment.

A bucket with versioning remembers what it was. So a snapshot of it is one moment, although listing takes time: the moment is the last whole
second before the listing began, and of each object the newest version that is not later is the one that counts. Whatever is written or
deleted meanwhile is later. (A server states an upload in parts at the time at which it was begun: one that was completed within the listing may be in or out.)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from types import TracebackType
from typing import Any, Self

from dr_toolkit.buckets.listing import Listed
from dr_toolkit.buckets.version_pages import Version, VersionPage, page_problem
from dr_toolkit.errors import SourceError

HISTORY = "\U0010ffff"
"""How the paths of older versions and delete markers begin in a snapshot: after every key. No key may begin with it."""
_ESCAPED, _END = "\x01\x02", "\x01\x01"
_CACHE_KIB = 16_384


@dataclass(frozen=True, slots=True)
class Older:
    """An older version or a delete marker.

    Attributes:
        path: its name in a snapshot.
        order: its place among those of the same key and time, the oldest first.
        version: what the listing says of it.
    """

    path: str
    order: int
    version: Version


def path_prefix(prefix: str) -> str:
    """How the paths of all older versions of keys below a prefix begin."""
    return HISTORY + prefix.replace("\x01", _ESCAPED)


def path_of(key: str, modified: str, order: int) -> str:
    """The name of an older version in a snapshot: sorted by key, then by time. No two have the same, and none has a key's."""
    moment = datetime.fromisoformat(modified).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return f"{path_prefix(key)}{_END}{moment}{order:06}"


class Versions:
    """A complete listing of versions. Use as a context manager; the temporary file has no name.

    After ``fill`` it stands for a ``Listing`` of the objects of the moment.

    Args:
        where: the bucket, for messages.
        until: what is later than this does not count; None counts everything.
    """

    def __init__(self, where: str, until: datetime | None = None) -> None:
        self._where = where
        self._until = until
        self._rows = sqlite3.connect("", isolation_level=None)
        self._rows.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._rows.execute("PRAGMA journal_mode = OFF")
        for table in (
            "v (key BLOB, n INT, version TEXT, marker INT, size INT, etag TEXT, modified TEXT, PRIMARY KEY (key, n))",
            "ids (key BLOB, version TEXT, PRIMARY KEY (key, version))",
            "o (key BLOB PRIMARY KEY, size INT, etag TEXT, modified TEXT, version TEXT)",
            "h (path BLOB PRIMARY KEY, n INT, key BLOB, version TEXT, marker INT, size INT, etag TEXT, modified TEXT)",
        ):
            self._rows.execute(f"CREATE TABLE {table} WITHOUT ROWID")
        self.count = self.bytes = 0
        self.older_count = self.older_bytes = self.markers = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.close()

    def fill(self, pages: Iterable[VersionPage]) -> Self:
        """Take all pages, up to the one that says it is the last, and sort them out.

        Raises:
            SourceError: a page cannot be believed, or the end did not come.
        """
        seen: set[tuple[str, str]] = set()
        number = 0
        for page in pages:
            if (problem := page_problem(page, seen)) is not None:
                raise self._refused(problem)
            with self._kept():
                number = self._add(page, number)
                if not page.truncated:
                    self._sort_out()
                    return self
            if page.markers is not None:
                seen.add(page.markers)
        raise self._refused("it ended without a last page")

    def __iter__(self) -> Iterator[Listed]:
        """The objects of the moment, sorted by the bytes of their keys. Several iterations may run at once."""
        found = self._rows.cursor().execute("SELECT key, size, etag, modified, version FROM o ORDER BY key")
        for key, size, etag, modified, version in found:
            yield Listed(key.decode(), size, etag, modified, version)

    def older(self) -> Iterator[Older]:
        """All other versions and all delete markers up to the moment, sorted by path."""
        found = self._rows.cursor().execute("SELECT * FROM h ORDER BY path")
        for path, number, key, version, marker, size, etag, modified in found:
            yield Older(
                path.decode(), number, Version(key.decode(), version, bool(marker), size, etag, modified)
            )

    def histories(self) -> Iterator[tuple[str, list[Version]]]:
        """Each key with all that counts of it, the oldest first; sorted by the bytes of the keys."""
        found = self._rows.cursor().execute("SELECT * FROM v ORDER BY key, n DESC")
        for key, rows in groupby(found, key=lambda row: row[0]):
            group = [version for version in map(_version, rows) if self._counts(version)]
            if group:
                yield key.decode(), group

    def _add(self, page: VersionPage, number: int) -> int:
        self._rows.execute("BEGIN")
        try:
            for row in page.rows:
                if row.key.startswith(HISTORY):
                    raise self._refused("a key begins with U+10FFFF, which snapshots use for older versions")
                key = row.key.encode()
                self._rows.execute("INSERT INTO ids VALUES (?, ?)", (key, row.version))
                self._rows.execute(
                    "INSERT INTO v VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (key, number, row.version, row.marker, row.size, row.etag, row.modified),
                )
                number += 1
        except sqlite3.IntegrityError:
            raise self._refused("a version came twice") from None
        finally:
            with suppress(sqlite3.Error):
                self._rows.execute("COMMIT")
        return number

    def _sort_out(self) -> None:
        """Of each key the newest that counts is the object, unless it is a delete marker; the others are its history."""
        self._rows.execute("DROP TABLE ids")
        self._rows.execute("BEGIN")
        for _key, group in self.histories():
            *older, newest = group
            if newest.marker:
                older.append(newest)
            else:
                key = newest.key.encode()
                self._rows.execute(
                    "INSERT INTO o VALUES (?, ?, ?, ?, ?)",
                    (key, newest.size, newest.etag, newest.modified, newest.version),
                )
                self.count += 1
                self.bytes += newest.size
            for order, version in _numbered(older):
                self._add_older(order, version)
        self._rows.execute("COMMIT")

    def _add_older(self, order: int, version: Version) -> None:
        self._rows.execute(
            "INSERT INTO h VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                path_of(version.key, version.modified, order).encode(),
                order,
                version.key.encode(),
                version.version,
                version.marker,
                version.size,
                version.etag,
                version.modified,
            ),
        )
        self.markers += version.marker
        self.older_count += not version.marker
        self.older_bytes += version.size

    def _counts(self, version: Version) -> bool:
        return self._until is None or datetime.fromisoformat(version.modified) < self._until

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise SourceError(
                f"the listing of {self._where} cannot be kept aside: {error}",
                on=self._where,
                hint="make room where temporary files are written (TMPDIR)",
            ) from error

    def _refused(self, problem: str) -> SourceError:
        return SourceError(
            f"the listing of the versions of {self._where} cannot be believed: {problem}",
            on=self._where,
            hint="run it again; if it stays, look at the server and at proxies before it",
            unaffected="nothing was stored, copied or deleted on its word",
        )


def _version(row: Any) -> Version:
    key, _number, version, marker, size, etag, modified = row
    return Version(key.decode(), version, bool(marker), size, etag, modified)


def _numbered(older: Iterable[Version]) -> Iterator[tuple[int, Version]]:
    """Each with its place among those of the same time."""
    for _modified, same in groupby(older, key=lambda version: version.modified):
        yield from enumerate(same)
