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
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import msgspec

from dr_toolkit.errors import SourceError

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
    """One answer to ListObjectsV2.

    Attributes:
        objects: in the server's order.
        truncated: whether it says that more follow; None when it does not say.
        token: with which the next page is asked for.
        count: how many it claims to have; None when it does not say.
    """

    objects: tuple[Listed, ...]
    truncated: bool | None
    token: str | None
    count: int | None = None


def page_problem(page: Page, tokens: set[str]) -> str | None:
    """Why a page cannot be believed, or None.

    Args:
        page: what came.
        tokens: those of the pages before.
    """
    if page.truncated is None:
        return "a page does not say whether it is the last one"
    if page.count is not None and page.count != len(page.objects):
        return f"a page claims {page.count} objects and has {len(page.objects)}"
    if page.truncated and not page.token:
        return "a page says that more follow and not how to ask for them"
    if page.truncated and page.token in tokens:
        return "the listing turns in a circle: a continuation token came twice"
    return None


class Listing:
    """A complete listing, sorted by the bytes of the keys. Use as a context manager; the temporary files have no name.

    As long as rows come in that order, which is nearly always, they are appended to a file. Otherwise they are all put into a table.

    Args:
        where: the bucket, for messages.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._file: io.FileIO | None = None
        self._blocks: list[tuple[int, int]] = []
        self._end = 0
        self._last = ""
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

    def fill(self, pages: Iterable[Page]) -> Self:
        """Take all pages, up to the one that says it is the last.

        Raises:
            SourceError: a page cannot be believed, or the end did not come.
        """
        tokens: set[str] = set()
        for page in pages:
            if (problem := page_problem(page, tokens)) is not None:
                raise self._refused(problem)
            try:
                self._add(page)
            except (OSError, sqlite3.Error) as error:
                raise SourceError(
                    f"the listing of {self._where} cannot be kept aside: {error}",
                    on=self._where,
                    hint="make room where temporary files are written (TMPDIR)",
                ) from error
            if not page.truncated:
                return self
            tokens.add(page.token or "")
        raise self._refused("it ended without a last page")

    def __iter__(self) -> Iterator[Listed]:
        """All rows, sorted. Several iterations may run at once."""
        if self._rows is None:
            yield from self._filed()
            return
        rows = self._rows.cursor().execute("SELECT key, size, etag, modified FROM o ORDER BY key")
        for key, size, etag, modified in rows:
            yield Listed(key.decode(), size, etag, modified)

    def _filed(self) -> Iterator[Listed]:
        if self._file is None:
            return
        for start, length in self._blocks:
            yield from _DECODER.decode(os.pread(self._file.fileno(), length, start))

    def _add(self, page: Page) -> None:
        self.count += len(page.objects)
        self.bytes += sum(o.size for o in page.objects)
        if self._rows is None and not self._follows(page):
            self._to_table()
        if self._rows is not None:
            self._insert(page.objects)
        elif page.objects:
            self._append(_ENCODER.encode(page.objects))

    def _append(self, block: bytes) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # closed by __exit__
        rest = memoryview(block)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._blocks.append((self._end, len(block)))
        self._end += len(block)

    def _follows(self, page: Page) -> bool:
        """Whether all its rows sort after one another and after the rows before. Python orders text as UTF-8 does."""
        last = self._last
        for o in page.objects:
            if o.key <= last:
                return False
            last = o.key
        self._last = last
        return True

    def _to_table(self) -> None:
        self._rows = sqlite3.connect("", isolation_level=None)
        self._rows.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._rows.execute("PRAGMA journal_mode = OFF")
        self._rows.execute(
            "CREATE TABLE o (key BLOB PRIMARY KEY, size INT, etag TEXT, modified TEXT) WITHOUT ROWID"
        )
        self._insert(self._filed())
        self._blocks = []

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
