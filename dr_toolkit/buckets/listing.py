"""A bucket's listing: every page is checked before it is believed, and the whole is complete and sorted before anything is read.

Listings that were empty, cut short or repeated have emptied other tools' targets. So a page must say whether it is the last, pages must
go on with a new token, and no key may come twice. Servers do not agree on an order; rows are sorted by the UTF-8 bytes of their keys in a
temporary file, so that memory does not grow with the bucket.
"""

from __future__ import annotations

import io
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import merge
from itertools import pairwise
from types import TracebackType
from typing import Self

import msgspec

from dr_toolkit.errors import SourceError
from dr_toolkit.words import counted

_CACHE_KIB = 16_384


class Listed(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One object as a listing names it.

    Attributes:
        key: its name, exactly.
        size: bytes.
        etag: without quotes.
        modified: RFC 3339 or HTTP text, as the server gives it.
        version: its id, where the listing says it; ``null`` is what was there before versioning.
    """

    key: str
    size: int
    etag: str
    modified: str
    version: str = ""


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[Listed])


@dataclass(frozen=True, slots=True)
class Page:
    """One answer to ListObjectsV2 (or to ListObjects, whose marker is a token, too).

    Attributes:
        objects: in the server's order.
        truncated: whether it says that more follow; None when it does not say.
        token: with which the next page is asked for.
        count: how many it claims to have; None when it does not say.
        folders: what begins the keys that a delimiter leaves out.
        old: whether it answers the first version of the question.
    """

    objects: tuple[Listed, ...]
    truncated: bool | None
    token: str | None
    count: int | None = None
    folders: tuple[str, ...] = ()
    old: bool = False


def page_problem(page: Page, tokens: set[str]) -> str | None:
    """Why a page cannot be believed, or None.

    Args:
        page: what came.
        tokens: those of the pages before.
    """
    if page.truncated is None:
        return "a page does not say whether it is the last one"
    there = len(page.objects) + len(page.folders)
    if page.count is not None and page.count != there:
        return f"a page claims {counted(page.count, 'object')} and has {there}"
    if page.truncated and not page.token:
        return "a page says that more follow and not how to ask for them"
    if page.truncated and page.token in tokens:
        return "the listing turns in a circle: a continuation token came twice"
    return None


@dataclass(slots=True)
class _Rows:
    """Rows of one listing: where they are in the file, and the last key."""

    blocks: list[tuple[int, int]] = field(default_factory=list)
    last: str = ""


class Listing:
    """A complete listing, sorted by the bytes of the keys. Use as a context manager; the temporary files have no name.

    As long as rows come in that order, which is nearly always, they are appended to a file. Otherwise they are all put into a table.
    Several listings may be filled in at once from several threads, each of keys with a prefix of its own.

    Args:
        where: the bucket, for messages.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._file: io.FileIO | None = None
        self._parts: dict[str, _Rows] = {}
        self._loose: list[Listed] = []
        self._end = 0
        self._lock = threading.Lock()
        self._rows: sqlite3.Connection | None = None
        self.count = self.bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        if self._rows is not None:
            self._rows.close()

    def fill(self, pages: Iterable[Page], prefix: str = "") -> Self:
        """Take all pages, up to the one that says it is the last.

        Args:
            pages: of one listing.
            prefix: what was asked for. No listing that is filled in may have a prefix that begins with another one's.

        Raises:
            SourceError: a page cannot be believed, or the end did not come.
        """
        tokens: set[str] = set()
        for page in pages:
            if (problem := page_problem(page, tokens) or _stray(page, prefix)) is not None:
                raise self._refused(problem)
            self._keep(page.objects, prefix)
            if not page.truncated:
                return self
            tokens.add(page.token or "")
        raise self._refused("it ended without a last page")

    def add(self, objects: Iterable[Listed]) -> None:
        """Take some objects, in memory, whose keys begin with no prefix that is filled in. Not more than once."""
        self._loose = sorted(objects, key=lambda o: o.key)
        self.count += len(self._loose)
        self.bytes += sum(o.size for o in self._loose)
        if any(one.key == other.key for one, other in pairwise(self._loose)):
            raise self._refused("a key came twice")

    def _keep(self, objects: tuple[Listed, ...], prefix: str) -> None:
        with self._lock:
            try:
                self._add(objects, self._parts.setdefault(prefix, _Rows()))
            except (OSError, sqlite3.Error) as error:
                raise SourceError(
                    f"the listing of {self._where} cannot be kept aside: {error}",
                    on=self._where,
                    hint="make room where temporary files are written (TMPDIR)",
                ) from error

    def __iter__(self) -> Iterator[Listed]:
        """All rows, sorted. Several iterations may run at once."""
        rows = self._filed() if self._rows is None else self._tabled()
        return merge(self._loose, rows, key=lambda o: o.key) if self._loose else rows

    def _tabled(self) -> Iterator[Listed]:
        assert self._rows is not None  # noqa: S101  # for the type checker
        rows = self._rows.cursor().execute("SELECT key, size, etag, modified FROM o ORDER BY key")
        for key, size, etag, modified in rows:
            yield Listed(key.decode(), size, etag, modified)

    def _filed(self) -> Iterator[Listed]:
        if self._file is None:
            return
        for prefix in sorted(self._parts):
            for start, length in self._parts[prefix].blocks:
                yield from _DECODER.decode(os.pread(self._file.fileno(), length, start))

    def _add(self, objects: tuple[Listed, ...], part: _Rows) -> None:
        self.count += len(objects)
        self.bytes += sum(o.size for o in objects)
        if self._rows is None and not _follows(objects, part):
            self._to_table()
        if self._rows is not None:
            self._insert(objects)
        elif objects:
            self._append(_ENCODER.encode(objects), part)

    def _append(self, block: bytes, part: _Rows) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # closed by __exit__
        rest = memoryview(block)
        while rest:
            rest = rest[self._file.write(rest) :]
        part.blocks.append((self._end, len(block)))
        self._end += len(block)

    def _to_table(self) -> None:
        self._rows = sqlite3.connect(
            "", isolation_level=None, check_same_thread=False
        )  # one at a time, by the lock
        self._rows.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._rows.execute("PRAGMA journal_mode = OFF")
        self._rows.execute(
            "CREATE TABLE o (key BLOB PRIMARY KEY, size INT, etag TEXT, modified TEXT) WITHOUT ROWID"
        )
        self._insert(self._filed())
        self._parts = {}

    def _insert(self, objects: Iterable[Listed]) -> None:
        assert self._rows is not None  # noqa: S101  # for the type checker
        self._rows.execute("BEGIN")
        try:
            self._rows.executemany(
                "INSERT INTO o VALUES (?, ?, ?, ?)",
                ((o.key.encode(), o.size, o.etag, o.modified) for o in objects),
            )
        except sqlite3.IntegrityError:
            raise self._refused("a key came twice") from None
        finally:
            with suppress(sqlite3.Error):
                self._rows.execute("COMMIT")

    def _refused(self, problem: str) -> SourceError:
        return SourceError(
            f"the listing of {self._where} cannot be believed: {problem}",
            on=self._where,
            hint="run it again; if it stays, look at the server and at proxies before it",
            unaffected="nothing was stored, copied or deleted on its word",
        )


def _follows(objects: tuple[Listed, ...], part: _Rows) -> bool:
    """Whether all of them sort after one another and after the rows before. Python orders text as UTF-8 does."""
    last = part.last
    for o in objects:
        if o.key <= last:
            return False
        last = o.key
    part.last = last
    return True


def _stray(page: Page, prefix: str) -> str | None:
    """Why a page is not what was asked for."""
    if prefix and not all(o.key.startswith(prefix) for o in page.objects):
        return f'a page of "{prefix}" has other keys'
    return None
