"""Writing a catalog: sorted records become pages, pages become a tree, equal pages are shared with the parent.

docs/format.md, section 8. Memory is bounded by one page per level and one catalog object, whatever the number of records.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from dr_toolkit import errors
from dr_toolkit.repository import crypto, layout, records, zstd
from dr_toolkit.repository.keyring import Keyring
from dr_toolkit.repository.records import Index, Key, PageRef, Root, Tree
from dr_toolkit.repository.stretches import Part

PAGE_TARGET = 256
"""One record in so many starts a page: some 64 KiB of content."""
PAGE_CEILING = 256 << 10
OBJECT_TARGET = 4 << 20


class PageSource(Protocol):
    """The parent's tree, as far as the writer needs it."""

    def references(self, level: int) -> Iterator[Index]:
        """References to the tree's pages of ``level``, in key order."""


class PutObject(Protocol):
    """Stores one finished object; may do so in the background."""

    def __call__(self, name: str, data: bytes | bytearray) -> None:
        """Take over ``data``."""


class PageStore:
    """Collects pages into catalog objects.

    Args:
        keyring: gives the catalog key of the current epoch.
        put: stores a finished object.
    """

    def __init__(self, keyring: Keyring, put: PutObject) -> None:
        self._keyring = keyring
        self._put = put
        self._page_key = keyring.derived("page-id")
        self._sealer: crypto.Sealer | None = None
        self._body = bytearray()
        self._object_id = b""
        self.bytes_stored = 0

    def page_id(self, content: bytes) -> bytes:
        """The id of a page."""
        return crypto.keyed_hash(self._page_key, content)

    def add(self, content: bytes, page_id: bytes) -> PageRef:
        """Seal one page into the current object."""
        if self._sealer is None:
            self._open()
        sealer = self._sealer
        assert sealer is not None  # noqa: S101  # for the type checker: _open has just made it
        number, position = sealer.frames, len(self._body) + 4
        frame = sealer.frame(zstd.compress(content, 3))
        self._body += frame
        reference = PageRef(self._object_id, number, position, len(frame) - 4, page_id)
        if len(self._body) >= OBJECT_TARGET:
            self.flush()
        return reference

    def flush(self) -> None:
        """Finish the current object and store it."""
        if self._sealer is None:
            return
        self._body += self._sealer.end()
        self.bytes_stored += len(self._body)
        self._put(layout.catalog_name(self._object_id), self._body)
        self._sealer, self._body = None, bytearray()

    def _open(self) -> None:
        self._object_id = layout.new_object_id()
        epoch = self._keyring.current.epoch
        name = layout.catalog_name(self._object_id)
        self._sealer = crypto.Sealer(
            self._keyring.catalog_key(epoch), self._keyring.identity.repository_id, b"C", epoch, name
        )
        self._body = bytearray(self._sealer.header)


@dataclass(slots=True)
class _Level:
    """The page that is being filled at one level."""

    lines: list[bytes] = field(default_factory=list)
    size: int = 0
    first: tuple[str, int] = ("", -1)
    context: str = ""
    count: int = 0
    pages: int = 0
    parent: Iterator[Index] | None = None
    ahead: Index | None = None


class TreeWriter:
    """Writes one tree from records in ascending order of key.

    Args:
        tree: ``entries`` or ``packs``.
        pages: where new pages go.
        cut_key: decides where pages are cut.
        parent: the parent's tree, whose equal pages are taken over.
    """

    def __init__(
        self, tree: Tree, pages: PageStore, cut_key: bytes, parent: PageSource | None = None
    ) -> None:
        self._tree: Tree = tree
        self._pages = pages
        self._cut_key = cut_key
        self._parent = parent
        self._levels: list[_Level] = []
        self._last: Key | None = None

    def add(self, path: str, offset: int, record: records.Leaf) -> None:
        """Append a leaf record whose key is (path, offset)."""
        key = (path.encode(), offset)
        if self._last is not None and key <= self._last:
            raise errors.SourceError(
                f'the entry "{path}" comes out of order', on=path, unaffected="nothing was committed"
            )
        self._last = key
        context = path if offset != records.BEGIN else ""
        self._append(0, path, offset, context, records.encode(record), 1)

    def extend(self, part: Part) -> None:
        """Append leaf records that lie beside each other in one page of the parent.

        None but the first can begin a page: it would have begun one there. So equal pages come out without a look at each record.
        """
        keys = part.keys()
        path, offset = next(keys)
        key = (path.encode(), offset)
        if self._last is not None and key <= self._last:
            raise errors.SourceError(
                f'the entry "{path}" comes out of order', on=path, unaffected="nothing was committed"
            )
        self._append(0, path, offset, path if offset != records.BEGIN else "", part.lines[0], 1)
        state, rest = self._levels[0], part.lines[1:]
        size = sum(map(len, rest)) + len(rest)
        if state.size + size <= PAGE_CEILING:
            state.lines += rest
            state.size += size
            state.count += len(rest)
        else:
            for line, (path, offset) in zip(rest, keys, strict=True):
                self._append(0, path, offset, path if offset != records.BEGIN else "", line, 1)
        self._last = part.last

    def finish(self) -> Root | None:
        """Close all pages; the root, or None for no records. Pages still have to be flushed."""
        level = 0
        while level < len(self._levels):
            top = level == len(self._levels) - 1
            state = self._levels[level]
            if top and state.pages == 0:
                return Root(level, self._reference(level)) if state.lines else None
            if state.lines:
                self._close(level)
            level += 1
        return None

    def _append(self, level: int, path: str, offset: int, context: str, line: bytes, count: int) -> None:
        if level == len(self._levels):
            self._levels.append(self._new_level(level))
        state = self._levels[level]
        if state.lines and (self._is_cut(level, path, offset) or state.size + len(line) > PAGE_CEILING):
            self._close(level)
        if not state.lines:
            state.first, state.context = (path, offset), context
        state.lines.append(line)
        state.size += len(line) + 1
        state.count += count

    def _new_level(self, level: int) -> _Level:
        return _Level(parent=self._parent.references(level) if self._parent else None)

    def _is_cut(self, level: int, path: str, offset: int) -> bool:
        hashed = crypto.keyed_hash(
            self._cut_key, bytes((level,)) + path.encode() + b"\0" + str(offset).encode()
        )
        return int(struct.unpack(">I", hashed[:4])[0]) < (1 << 32) // PAGE_TARGET

    def _close(self, level: int) -> None:
        state = self._levels[level]
        reference, (path, offset), count = self._reference(level), state.first, state.count
        state.lines, state.size, state.count = [], 0, 0
        state.pages += 1
        record = Index(
            path,
            offset,
            reference.object_id,
            reference.frame,
            reference.offset,
            reference.length,
            reference.page_id,
            count,
        )
        self._append(level + 1, path, offset, "", records.encode(record), count)

    def _reference(self, level: int) -> PageRef:
        """Store the level's page, or take over the parent's if it has the same one."""
        state = self._levels[level]
        head = records.encode_head(level, self._tree, state.context)
        content = b"\n".join([head, *state.lines]) + b"\n"
        page_id = self._pages.page_id(content)
        shared = self._parents_page(state, page_id)
        return shared.reference if shared is not None else self._pages.add(content, page_id)

    @staticmethod
    def _parents_page(state: _Level, page_id: bytes) -> Index | None:
        key = (state.first[0].encode(), state.first[1])
        while state.parent is not None and (state.ahead is None or state.ahead.key < key):
            state.ahead = next(state.parent, None)
            if state.ahead is None:
                state.parent = None
        found = state.ahead
        return found if found is not None and found.key == key and found.page_id == page_id else None
