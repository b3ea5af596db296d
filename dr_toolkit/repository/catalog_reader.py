"""Reading a catalog: pages by reference, records in order, only the pages that are needed (docs/format.md, section 8)."""

from __future__ import annotations

import hmac
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from dr_toolkit import errors
from dr_toolkit.repository import crypto, layout, records, zstd
from dr_toolkit.repository.entries import EntryInfo
from dr_toolkit.repository.keyring import Keyring
from dr_toolkit.repository.records import (
    Begin,
    Extent,
    Finish,
    Index,
    Key,
    Leaf,
    PackUse,
    Page,
    PageRef,
    Root,
    Tree,
    Zeros,
)
from dr_toolkit.repository.store import Store

CACHED_PAGES = 16
"""Decoded pages kept in memory, some 200 records each: thousands of small entries are read one by one from the same page."""
HELD = 20_000
"""Records of one entry that are held in memory at most, some 10 MB; an entry of over a gigabyte has more, and is walked through."""
CACHED_OBJECTS = 4
"""Whole catalog objects (some 4 MiB each) kept in memory: pages are mostly read in order."""


class Pages:
    """Fetches pages by reference and checks them. Safe to use from several threads."""

    def __init__(self, store: Store, keyring: Keyring) -> None:
        self._store = store
        self._keyring = keyring
        self._page_key = keyring.derived("page-id")
        self._cache: OrderedDict[bytes, tuple[bytes, crypto.Opener]] = OrderedDict()
        self._pages: OrderedDict[PageRef, Page] = OrderedDict()
        self._lock = threading.Lock()

    def page(self, reference: PageRef) -> Page:
        """The page that ``reference`` names.

        Raises:
            ObjectMissing, Damaged, UnknownFormat: the object is gone, does not open, or is not that page.
        """
        with self._lock:
            found = self._pages.get(reference)
            if found is not None:
                self._pages.move_to_end(reference)
                return found
        page = self._decoded(reference)
        with self._lock:
            self._pages[reference] = page
            while len(self._pages) > CACHED_PAGES:
                self._pages.popitem(last=False)
        return page

    def _decoded(self, reference: PageRef) -> Page:
        body, opener = self._object(reference.object_id)
        name = layout.catalog_name(reference.object_id)
        end = reference.offset + reference.length
        if end > len(body) or reference.length > crypto.FRAME_LIMIT + crypto.TAG_SIZE:
            raise errors.Damaged(f'"{name}" ends before a page that is in it', fault="truncated", on=name)
        content = zstd.decompress(
            opener.frame(reference.frame, body[reference.offset : end]), records.PAGE_LIMIT, name
        )
        if not hmac.compare_digest(crypto.keyed_hash(self._page_key, content), reference.page_id):
            raise errors.Damaged(f'a page of "{name}" is not the one that is named', fault="page-id", on=name)
        return records.decode_page(content, name)

    def check_object(self, object_id: bytes) -> None:
        """Open every frame of a catalog object, and its end."""
        name = layout.catalog_name(object_id)
        body, opener = self._object(object_id)
        crypto.open_all_frames(body, opener, name)

    def _object(self, object_id: bytes) -> tuple[bytes, crypto.Opener]:
        with self._lock:
            found = self._cache.get(object_id)
            if found is not None:
                self._cache.move_to_end(object_id)
                return found
        name = layout.catalog_name(object_id)
        body = self._store.get(name)
        epoch = crypto.parse_header(body[: crypto.HEADER_SIZE], b"C", name)
        opener = crypto.Opener(
            body[: crypto.HEADER_SIZE],
            self._keyring.catalog_key(epoch, name),
            self._keyring.identity.repository_id,
            b"C",
            name,
        )
        with self._lock:
            self._cache[object_id] = (body, opener)
            while len(self._cache) > CACHED_OBJECTS:
                self._cache.popitem(last=False)
        return body, opener


class Extents:
    """The extents of one entry that has too many to be held: they are read whenever they are walked through.

    Args:
        tree: of the snapshot.
        path: of an entry that is there.
    """

    def __init__(self, tree: TreeReader, path: str) -> None:
        self._tree, self._path = tree, path

    def __iter__(self) -> Iterator[Extent | Zeros]:
        return self._tree.extents(self._path) or iter(())


class TreeReader:
    """Reads one tree of a snapshot.

    Args:
        pages: the page fetcher.
        root: from the header; None for an empty tree.
        tree: which of the two; a page of the other is damage.
    """

    def __init__(self, pages: Pages, root: Root | None, tree: Tree) -> None:
        self._pages = pages
        self._root = root
        self._tree = tree

    def references(self, level: int) -> Iterator[Index]:
        """References to the pages of ``level``, in key order. The root itself is one only of its own level."""
        if self._root is None or level > self._root.level:
            return
        if level == self._root.level:
            page = self._page(self._root.page, level)
            path, offset = next(iter(records.keys(page.records, page.context)))
            ref = self._root.page
            yield Index(
                path.decode(), offset, ref.object_id, ref.frame, ref.offset, ref.length, ref.page_id, 0
            )
            return
        yield from self._descend(self._root.page, self._root.level, level, None)

    def leaves(self, start: Key | None = None) -> Iterator[tuple[str, Leaf]]:
        """(path, record) from the first record whose key is at least ``start``, in order."""
        last: Key | None = None
        for page in self._leaf_pages(start, None):
            for record, key in zip(page.records, records.keys(page.records, page.context), strict=True):
                if last is not None and key <= last:
                    raise _out_of_order()
                last = key
                if (start is None or key >= start) and not isinstance(record, Index):
                    yield key[0].decode(), record

    def entries(self, prefix: str = "") -> Iterator[EntryInfo]:
        """Entries whose path starts with ``prefix``; pages that hold only extents are skipped unread."""
        wanted = prefix.encode()
        start = (wanted, records.BEGIN) if prefix else None
        opened: Begin | None = None
        inside: bool | None = None if prefix else False
        last: Key | None = None
        for page in self._leaf_pages(start, _only_extents):
            inside = bool(page.context) if inside is None else inside
            for record, key in zip(page.records, records.keys(page.records, page.context), strict=True):
                if inside == isinstance(record, Begin) or (last is not None and key <= last):
                    raise _out_of_order()
                last, inside = key, not isinstance(record, Finish)
                if isinstance(record, Begin):
                    if key[0] > wanted and not key[0].startswith(wanted):
                        return
                    opened = record if key[0].startswith(wanted) else None
                elif isinstance(record, Finish) and opened is not None:
                    yield EntryInfo(opened.path, opened.kind, record.size, record.meta)
                    opened = None
        if inside:
            raise errors.Damaged(
                "the last entry of a catalog does not end", fault="structure", on="the snapshot's catalog"
            )

    def extents(self, path: str) -> Iterator[Extent | Zeros] | None:
        """The extents of one entry, or None when there is no such entry. Coverage is checked while iterating."""
        walk = self.leaves((path.encode(), records.BEGIN))
        first = next(walk, None)
        if first is None or not isinstance(first[1], Begin) or first[0] != path:
            return None
        return covered(path, walk)

    def whole_entries(
        self, start: str = "", *, most: int = HELD
    ) -> Iterator[tuple[EntryInfo, Iterable[Extent | Zeros]]]:
        """Entries with their extents, in order of path, from ``start`` to the end. Those of one with over ``most`` are read again when they are asked for."""
        walk = self.leaves((start.encode(), records.BEGIN) if start else None)
        for path, record in walk:
            if not isinstance(record, Begin):
                raise _out_of_order()
            extents: list[Extent | Zeros] = []
            finish: list[Finish] = []

            def until_finish(
                walk: Iterator[tuple[str, Leaf]] = walk, finish: list[Finish] = finish
            ) -> Iterator[tuple[str, Leaf]]:
                for found, inner in walk:
                    if isinstance(inner, Finish):
                        finish.append(inner)
                    yield found, inner

            following = covered(path, until_finish())
            extents.extend(islice(following, most))
            many = False
            for _extent in following:
                many = True
            info = EntryInfo(path, record.kind, finish[0].size, finish[0].meta)
            yield info, Extents(self, path) if many else extents

    def leaf_pages(self, start: Key | None = None) -> Iterator[Page]:
        """All pages with records, in order, from the one with ``start`` on. That one follows the other is for the caller to check."""
        return self._leaf_pages(start, None)

    def packs(self) -> Iterator[PackUse]:
        """The records of a packs tree."""
        for _path, record in self.leaves():
            if isinstance(record, PackUse):
                yield record

    def objects(self) -> Iterator[PageRef]:
        """References to all pages of the tree, the root first."""
        if self._root is None:
            return
        yield self._root.page
        for level in range(self._root.level):
            for index in self.references(level):
                yield index.reference

    def _leaf_pages(
        self, start: Key | None, skip: Callable[[Key, Key | None], bool] | None
    ) -> Iterator[Page]:
        if self._root is None:
            return
        if self._root.level == 0:
            yield self._page(self._root.page, 0)
            return
        for index in self._descend(self._root.page, self._root.level, 0, start, skip):
            yield self._page(index.reference, 0, index)

    def _descend(
        self,
        ref: PageRef,
        level: int,
        to: int,
        start: Key | None,
        skip: Callable[[Key, Key | None], bool] | None = None,
        expect: Index | None = None,
    ) -> Iterator[Index]:
        found = [r for r in self._page(ref, level, expect).records if isinstance(r, Index)]
        for position, index in enumerate(found):
            following = found[position + 1].key if position + 1 < len(found) else None
            if start is not None and following is not None and following <= start:
                continue
            if skip is not None and skip(index.key, following):
                continue
            if level - 1 == to:
                yield index
            else:
                yield from self._descend(index.reference, level - 1, to, start, skip, index)

    def _page(self, reference: PageRef, level: int, expect: Index | None = None) -> Page:
        page = self._pages.page(reference)
        first = next(iter(records.keys(page.records, page.context)))
        wrong = page.level != level or page.tree != self._tree
        if wrong or (expect is not None and (first, page.count) != (expect.key, expect.records)):
            name = layout.catalog_name(reference.object_id)
            raise errors.Damaged(f'a page of "{name}" is not where it belongs', fault="structure", on=name)
        return page


def _out_of_order() -> errors.Damaged:
    return errors.Damaged(
        "a catalog's records are out of order", fault="structure", on="the snapshot's catalog"
    )


def _only_extents(first: Key, following: Key | None) -> bool:
    """Whether a page that starts at ``first`` and ends before ``following`` holds nothing but extents of one entry."""
    return following is not None and first[1] >= 0 and following[1] >= 0 and first[0] == following[0]


def covered(path: str, walk: Iterator[tuple[str, Leaf]]) -> Iterator[Extent | Zeros]:
    """The extents that follow an entry's first record, checked to cover the size that its last record states."""
    position = 0
    for found, record in walk:
        if found == path and isinstance(record, Finish):
            if record.size != position:
                raise errors.Damaged(f'the extents of "{path}" do not cover it', fault="structure", on=path)
            return
        if found != path or not isinstance(record, Extent | Zeros) or record.offset != position:
            raise errors.Damaged(
                f'the extents of "{path}" do not follow each other', fault="structure", on=path
            )
        if isinstance(record, Extent) and record.start + record.length > record.chunk_length:
            raise errors.Damaged(f'an extent of "{path}" is beyond its chunk', fault="structure", on=path)
        position += record.length
        yield record
    raise errors.Damaged(f'the entry "{path}" does not end', fault="structure", on=path)
