"""Faults of catalog objects, pages and records."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from backports import zstd

from dr_toolkit.repository import crypto
from tests.vectors.bases import Base, Fault, records_of, uses_of
from tests.vectors.faults_documents import header_of, removed, replaced
from tests.vectors.forge import Catalog, Chunk, Forge, b64, catalog_name, fixed, flip, page

CATALOG = catalog_name(fixed("plain catalog first", 16))


def faults(_made: dict[str, Base]) -> Iterator[Fault]:
    """All of them."""
    yield from _objects()
    yield from _pages()
    yield from _trees()
    yield from _records()
    yield from _order()
    yield from _packs()


def chunks_of(forge: Forge) -> list[Chunk]:
    """The chunks of the base, found in its packs' footers (in the order in which ``put_chunks`` made them)."""
    made = random.Random("chunks")
    contents = [
        [b"PGDMP toc", made.randbytes(200), made.randbytes(200), fixed("private") + b"CREATE ROLE a;\n"]
    ]
    contents.append([b"tail " * 40, made.randbytes(70)])
    chunks = []
    for label, group in zip("ab", contents, strict=True):
        pack_id = fixed(f"plain pack {label}", 16)
        name = f"packs/{pack_id.hex()[:2]}/{pack_id.hex()}"
        body = forge.objects[name]
        size = int.from_bytes(body[-12:-8])
        catalog_key = forge.epochs[1].catalog[:32]
        rows = json.loads(
            crypto.open_payload(body[-12 - size : -12], catalog_key, forge.repository_id, b"F", name)
        )["frames"]
        offset = 1248
        for number, (content, row) in enumerate(zip(group, rows, strict=True)):
            chunks.append(Chunk(content, forge.chunk_id(content), pack_id, number, offset, row[2]))
            offset += row[2]
    return chunks


def catalog(fill: Callable[[Forge, Catalog, list[Chunk]], Any]) -> Callable[[Forge], None]:
    """Another catalog, and a header that names it; ``fill`` returns the entries' root, or a dict of header fields."""

    def damage(forge: Forge) -> None:
        made, chunks = forge.catalog("other"), chunks_of(forge)
        header = header_of(forge)
        found = fill(forge, made, chunks)
        trees = found if isinstance(found, dict) else {"entries": found}
        if "packs" not in trees:
            trees["packs"] = made.tree("packs", uses_of(forge, chunks[:5]), per_page=1)
        made.finish()
        del forge.objects[CATALOG]
        forge.put_header(header | {"entry_count": made.begun} | trees)

    return damage


def leaf(
    lines: Callable[[list[Chunk]], Sequence[Any]], tree: str = "entries", context: str = "", level: int = 0
) -> Callable[[Forge], None]:
    """A catalog of one page with these records."""
    return catalog(lambda _f, made, chunks: [level, made.add(page(level, tree, context, lines(chunks)))])


def entry(
    *records: Callable[[list[Chunk]], Any], size: int | None = None, rest: bool = True
) -> Callable[[Forge], None]:
    """A catalog of one page: an entry made of ``records``, then (so that both packs are used) the base's own entries."""

    def lines(chunks: list[Chunk]) -> list[Any]:
        made = [record(chunks) for record in records]
        total = sum(r[2] for r in made if r[0] in "xz") if size is None else size
        return [["e", "a", "x"], *made, ["f", total, {}], *(records_of(chunks) if rest else [])]

    return leaf(lines)


def raw(content: Callable[[bytes], bytes]) -> Callable[[Forge], None]:
    """A catalog of one page whose content is rewritten."""

    def fill(_forge: Forge, made: Catalog, chunks: list[Chunk]) -> list[Any]:
        return [0, made.add(content(page(0, "entries", "", records_of(chunks))))]

    return catalog(fill)


def _objects() -> Iterator[Fault]:
    def rewritten(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Forge], None]:
        def damage(forge: Forge) -> None:
            key = forge.epochs[1].catalog[:32]
            opener = crypto.Opener(forge.objects[CATALOG][:76], key, forge.repository_id, b"C", CATALOG)
            frames = crypto.open_all_frames(forge.objects[CATALOG], opener, CATALOG)
            forge.objects[CATALOG] = b"".join(change(forge.seal("C", CATALOG, frames)))

        return damage

    yield Fault("catalog-sealed-again", "ok", "the same pages under another salt", rewritten(lambda p: p))
    yield Fault("catalog-missing", "missing", "a catalog object is gone", removed(CATALOG))
    yield Fault(
        "catalog-truncated", "truncated", "cut off before the root", replaced(CATALOG, lambda b: b[:300])
    )
    yield Fault("catalog-before-end", "truncated", "the end frame is cut off", rewritten(lambda p: p[:-1]))
    yield Fault(
        "catalog-trailing", "trailing", "a byte after the end frame", replaced(CATALOG, lambda b: b + b"\0")
    )
    yield Fault(
        "catalog-page-altered", "authentication", "a bit of a page", replaced(CATALOG, lambda b: flip(b, 90))
    )
    yield Fault(
        "catalog-commitment",
        "commitment",
        "a bit of the commitment",
        replaced(CATALOG, lambda b: flip(b, 60)),
    )
    yield Fault(
        "catalog-version-2", "version", "version 2", replaced(CATALOG, lambda b: b[:7] + b"\2" + b[8:])
    )
    yield Fault(
        "catalog-epoch",
        "missing",
        "an epoch without a key file",
        replaced(CATALOG, lambda b: b[:11] + b"\7" + b[12:]),
    )

    def exchange(forge: Forge) -> None:
        other = forge.catalog("other")
        other.add(b"x")
        other.finish()
        forge.objects[CATALOG] = forge.objects.pop(other.name)

    yield Fault("catalog-moved", "commitment", "another catalog object under this name", exchange)

    def reordered(_forge: Forge, made: Catalog, chunks: list[Chunk]) -> list[Any]:
        reference = made.add(page(0, "entries", "", records_of(chunks)))
        return [0, [reference[0], reference[1] + 1, *reference[2:]]]

    yield Fault(
        "catalog-frame-number", "authentication", "a reference with another frame number", catalog(reordered)
    )


def _pages() -> Iterator[Fault]:
    def other_id(_forge: Forge, made: Catalog, chunks: list[Chunk]) -> list[Any]:
        return [0, made.add(page(0, "entries", "", records_of(chunks)), page_id=bytes(32))]

    yield Fault("page-id", "page-id", "a page that is not the one that is named", catalog(other_id))

    def framed(frame: Callable[[bytes], bytes]) -> Callable[[Forge], None]:
        def fill(_forge: Forge, made: Catalog, chunks: list[Chunk]) -> list[Any]:
            content = page(0, "entries", "", records_of(chunks))
            return [0, made.add(content, frame=frame(content))]

        return catalog(fill)

    unsized = {zstd.CompressionParameter.content_size_flag: 0}
    yield Fault(
        "page-no-size",
        "structure",
        "a page's zstd frame without its size",
        framed(lambda c: zstd.compress(c, options=unsized)),
    )
    yield Fault(
        "page-zstd-trailing",
        "trailing",
        "bytes after a page's zstd frame",
        framed(lambda c: zstd.compress(c) + b"\0"),
    )
    yield Fault(
        "page-bomb", "structure", "a page of more than 1 MiB", framed(lambda _: zstd.compress(bytes(1 << 21)))
    )
    large = raw(lambda c: c.replace(b'"q":1', b'"q":"' + b" " * (1 << 20) + b'"'))
    yield Fault("page-too-large", "structure", "a page of more than 1 MiB of JSON", large)
    for name, expect, why, change in (
        ("empty", "structure", "a page without records", lambda c: c.partition(b"\n")[0] + b"\n"),
        ("nothing", "structure", "a page without content", lambda _: b""),
        ("no-last-lf", "structure", "without the last LF", lambda c: c[:-1]),
        ("empty-line", "structure", "an empty line at the end", lambda c: c + b"\n"),
        ("two-on-a-line", "structure", "two records on a line", lambda c: c.replace(b"]\n[", b"],[")),
        ("head-first", "structure", "the first line is a record", lambda c: c.partition(b"\n")[2]),
        ("head-longer", "structure", "a first line with a fifth field", lambda c: c.replace(b',""]\n', b',"",1]\n', 1)),
        ("head-other", "structure", "a first line that is not page", lambda c: c.replace(b'["page"', b'["leaf"', 1)),
        ("tree-unknown", "version", "an unknown tree", lambda c: c.replace(b'"entries"', b'"links"', 1)),
        ("duplicate", "structure", "a name twice in metadata", lambda c: c.replace(b'"q":1', b'"q":1,"q":1')),
        ("fraction", "ok", "metadata may hold any number", lambda c: c.replace(b'"q":1', b'"q":1.5')),
        ("bad-utf-8", "structure", "bytes that are not UTF-8", lambda c: c.replace("ü".encode(), b"\xfc")),
        ("escapes", "ok", "escapes are JSON, too", lambda c: c.replace("ü".encode(), b"\\u00fc")),
    ):  # fmt: skip
        yield Fault(f"page-{name}", expect, why, raw(change))


def _trees() -> Iterator[Fault]:
    yield Fault(
        "page-context", "structure", "a context where the first record is e", leaf(records_of, context="a")
    )
    yield Fault("page-level", "structure", "a leaf that says level 1", leaf(records_of, level=1))
    as_packs = catalog(lambda f, made, _: [0, made.add(page(0, "packs", "", uses_of(f, chunks_of(f)[:5])))])
    yield Fault("page-other-tree", "structure", "the packs tree as the entries", as_packs)
    higher = catalog(lambda _f, made, chunks: [1, made.add(page(0, "entries", "", records_of(chunks)))])
    yield Fault("root-level", "structure", "a root of another level than the header says", higher)

    def index(
        change: Callable[[list[list[Any]]], list[list[Any]]], expect_level: int = 1
    ) -> Callable[[Forge], None]:
        def fill(_forge: Forge, made: Catalog, chunks: list[Chunk]) -> list[Any]:
            rows = change(made.leaves("entries", records_of(chunks)))
            return [expect_level, made.add(page(expect_level, "entries", "", rows))]

        return catalog(fill)

    yield Fault("index-flat", "ok", "one index page over all leaves", index(lambda r: r))
    yield Fault(
        "index-out-of-order",
        "structure",
        "index records out of order",
        index(lambda r: [r[0], r[2], r[1], *r[3:]]),
    )
    yield Fault(
        "index-duplicate", "structure", "a leaf referred to twice", index(lambda r: [r[0], r[0], *r[1:]])
    )
    yield Fault(
        "index-hole",
        "structure",
        "a leaf in the middle of an entry left out",
        index(lambda r: [r[0], r[1], *r[3:]]),
    )
    yield Fault(
        "index-other-key",
        "structure",
        "a first key that is not the leaf's",
        index(lambda r: [[*r[0][:1], "archive", *r[0][2:]], *r[1:]]),
    )
    yield Fault(
        "index-count",
        "structure",
        "another number of records below",
        index(lambda r: [[*r[0][:8], 9], *r[1:]]),
    )
    yield Fault("index-count-0", "structure", "no records below", index(lambda r: [[*r[0][:8], 0], *r[1:]]))
    yield Fault(
        "index-longer",
        "structure",
        "an index record with one more field",
        index(lambda r: [[*r[0], 1], *r[1:]]),
    )
    yield Fault(
        "index-fields",
        "structure",
        "the reference as an array",
        index(lambda r: [[*r[0][:3], r[0][3:8], r[0][8]], *r[1:]]),
    )
    yield Fault("index-two-levels-down", "structure", "a leaf below a page of level 2", index(lambda r: r, 2))
    yield Fault(
        "index-mixed", "structure", "a leaf record in an index page", index(lambda r: [*r, ["f", 0, {}]])
    )
    yield Fault(
        "index-offset-minus-2",
        "structure",
        "an offset of -2",
        index(lambda r: [[*r[0][:2], -2, *r[0][3:]], *r[1:]]),
    )
    yield Fault("leaf-with-index", "structure", "an index record in a leaf", catalog(leaf_with_index))
    deep = catalog(
        lambda _f, made, chunks: made.grow("entries", made.leaves("entries", records_of(chunks), 1))
    )
    yield Fault("index-one-record-a-page", "ok", "one record in each page", deep)


def leaf_with_index(_forge: Forge, made: Catalog, chunks: list[Chunk]) -> list[Any]:
    """A leaf whose last record is an index record."""
    rows = made.leaves("entries", records_of(chunks))
    return [0, made.add(page(0, "entries", "", [*records_of(chunks), ["i", "zz", *rows[0][2:]]]))]


def _records() -> Iterator[Fault]:
    whole = lambda c: c[5].extent(0)  # noqa: E731
    yield Fault("extent-whole", "ok", "an entry of one extent", entry(whole))
    for name, why, record in (
        ("gap-first", "the first extent begins at 1", lambda c: c[5].extent(1)),
        ("length-0", "an extent of no bytes", lambda c: c[5].extent(0, length=0)),
        ("beyond-chunk", "it ends beyond the chunk", lambda c: c[5].extent(0, 1, 70)),
        ("start-beyond", "it starts beyond the chunk", lambda c: c[5].extent(0, 500, 1)),
        ("chunk-over-8-mib", "a chunk of more than 8 MiB", lambda c: c[5].extent(0, chunk_length=(8 << 20) + 1)),
        ("chunk-length", "the frame holds fewer bytes than the chunk length", lambda c: c[5].extent(0, chunk_length=71)),
        ("chunk-length-less", "the frame holds more bytes than the chunk length", lambda c: c[5].extent(0, length=69, chunk_length=69)),
        ("chunk-id-short", "a chunk id of 31 bytes", lambda c: c[5].extent(0, chunk_id=b64(bytes(31)))),
        ("pack-id-short", "a pack id of 15 bytes", lambda c: c[5].extent(0, pack=b64(bytes(15)))),
        ("negative-start", "a negative start", lambda c: c[5].extent(0, start=-1)),
        ("negative-frame", "a negative frame number", lambda c: c[5].extent(0, frame=-1)),
        ("frame-65536", "a frame number of 2^16", lambda c: c[5].extent(0, frame=1 << 16)),
        ("in-header", "a frame inside the pack's header", lambda c: c[5].extent(0, frame_offset=1247)),
        ("negative-offset", "a negative place of the frame", lambda c: c[5].extent(0, frame_offset=-1)),
        ("frame-of-a-tag", "a frame of 16 bytes", lambda c: c[5].extent(0, frame_length=16)),
        ("longer", "one more field", lambda c: [*c[5].extent(0), 1]),
        ("shorter", "one field less", lambda c: c[5].extent(0)[:-1]),
        ("true", "true as a number", lambda c: c[5].extent(0, start=False)),
        ("fraction", "a number with a fraction", lambda c: c[5].extent(0, start=0.0)),
        ("zeros-0", "no zeros at all", lambda _: ["z", 0, 0]),
        ("in-extents", "a record that is an object", lambda _: {"x": 1}),
        ("pack-use", "a packs record among entries", lambda c: ["k", b64(c[0].pack), 1, 1]),
    ):  # fmt: skip
        size = 70 if name in {"longer", "shorter", "in-extents", "pack-use"} else None
        yield Fault(f"extent-{name}", "structure", why, entry(record, size=size))
    yield Fault("extent-unknown", "version", "an unknown record type", entry(lambda _: ["y", 0, 5], size=5))
    yield Fault("extent-zeros-large", "ok", "a million zeros", entry(lambda _: ["z", 0, 1_000_000]))
    wrong = entry(lambda c: c[5].extent(0, chunk_id=b64(c[2].chunk_id)))
    yield Fault("chunk-id-other", "chunk-id", "the catalog names another chunk's id", wrong)
    yield Fault(
        "frame-other",
        "authentication",
        "the catalog names another frame's place",
        entry(lambda c: c[5].extent(0, frame_offset=c[2].offset)),
    )
    yield Fault(
        "frame-beyond-pack",
        "truncated",
        "a frame beyond the end of the pack",
        entry(lambda c: c[5].extent(0, frame_offset=9000)),
    )
    yield Fault("pack-unknown", "missing", "a pack that is not there", catalog(unknown_pack))
    yield Fault("size-less", "structure", "the size is less than the extents", entry(whole, size=69))
    yield Fault("size-more", "structure", "the size is more than the extents", entry(whole, size=71))
    yield Fault("gap", "structure", "a gap between extents", entry(whole, lambda c: c[2].extent(71)))
    yield Fault("overlap", "structure", "extents overlap", entry(whole, lambda c: c[2].extent(69)))
    for name, why, path in (
        ("empty", "an empty path", ""), ("nul", "a path with NUL", "a\0b"), ("long", "a path of 4,097 bytes", "a" * 4097),
        ("long-bytes", "a path of 4,098 bytes in 2,049 characters", "ü" * 2049),
    ):  # fmt: skip
        rows = lambda c, p=path: [["e", p, "x"], ["f", 0, {}], *(records_of(c) if p < "archive" else [])]  # noqa: E731
        yield Fault(f"path-{name}", "structure", why, leaf(rows))
    for name, path in (("4096", "A" * 4096), ("odd", "A/../\\ \u0007"), ("absolute", "/etc/passwd")):
        rows = lambda c, path=path: [["e", path, "x"], ["f", 0, {}], *records_of(c)]  # noqa: E731
        yield Fault(
            f"path-{name}", "ok", "an odd path is a name like any other, for whoever only reads", leaf(rows)
        )
    meta = {"a": "x" * 65_536}
    yield Fault(
        "meta-large",
        "structure",
        "metadata of more than 64 KiB",
        leaf(lambda c: [["e", "a", "x"], ["f", 0, meta], *records_of(c)]),
    )
    yield Fault(
        "meta-list",
        "structure",
        "metadata that is not an object",
        leaf(lambda c: [["e", "a", "x"], ["f", 0, []], *records_of(c)]),
    )


def unknown_pack(forge: Forge, made: Catalog, chunks: list[Chunk]) -> dict[str, Any]:
    """Both trees name a pack that does not exist."""
    absent = fixed("no such pack", 16)
    records = [["e", "a", "x"], chunks[1].extent(0, pack=b64(absent)), ["f", 200, {}], *records_of(chunks)]
    uses = sorted(
        [*uses_of(forge, chunks[:5]), ["k", b64(absent), 2000, 216]],
        key=lambda u: crypto.decode_base64(u[1], 16, ""),
    )
    return {"entries": made.tree("entries", records), "packs": made.tree("packs", uses)}


def _order() -> Iterator[Fault]:
    def rows(change: Callable[[list[Any]], list[Any]]) -> Callable[[Forge], None]:
        return leaf(lambda chunks: change(records_of(chunks)))

    yield Fault(
        "entries-out-of-order", "structure", "entries out of order", rows(lambda r: [*r[11:], *r[:11]])
    )
    yield Fault("entry-twice", "structure", "an entry twice", rows(lambda r: [*r[:3], *r]))
    yield Fault(
        "entry-unfinished", "structure", "an entry without its last record", rows(lambda r: [*r[:2], *r[3:]])
    )
    yield Fault(
        "entry-unfinished-last", "structure", "the last entry without its last record", rows(lambda r: r[:-1])
    )
    yield Fault(
        "entry-finished-twice", "structure", "two last records", rows(lambda r: [*r[:3], r[2], *r[3:]])
    )
    yield Fault(
        "extents-out-of-order",
        "structure",
        "extents out of order",
        rows(lambda r: [*r[:4], r[5], r[4], *r[6:]]),
    )
    stray = leaf(lambda c: [c[1].extent(0), ["f", 200, {}], *records_of(c)], context="a")
    yield Fault("stray-extents", "structure", "extents of no entry at the very beginning", stray)
    after = rows(lambda r: [*r[:3], ["z", 9, 1], *r[3:]])
    yield Fault("extent-after-end", "structure", "an extent after the entry's last record", after)

    def across(_forge: Forge, made: Catalog, chunks: list[Chunk]) -> list[Any]:
        first = made.leaves("entries", [["e", "a", "x"], ["f", 0, {}], ["e", "b", "x"], ["f", 0, {}]], 4)
        second = made.leaves("entries", [["e", "ab", "x"], ["f", 0, {}], *records_of(chunks)], 99)
        return made.grow("entries", first + second)

    yield Fault("pages-overlap", "structure", "a page ends behind the beginning of the next", catalog(across))


def _packs() -> Iterator[Fault]:
    def uses(change: Callable[[list[Any]], list[Any]]) -> Callable[[Forge], None]:
        def fill(forge: Forge, made: Catalog, chunks: list[Chunk]) -> dict[str, Any]:
            entries = made.tree("entries", records_of(chunks))
            return {"entries": entries, "packs": made.tree("packs", change(uses_of(forge, chunks[:5])))}

        return catalog(fill)

    yield Fault("packs-less", "structure", "a pack that the packs tree does not list", uses(lambda u: u[1:]))
    yield Fault("packs-null", "structure", "no packs tree", uses(lambda _: []))
    more = uses(
        lambda u: sorted(
            [*u, ["k", b64(fixed("unused", 16)), 1500, 1]], key=lambda r: crypto.decode_base64(r[1], 16, "")
        )
    )
    yield Fault("packs-more", "structure", "a pack that no extent names", more)
    yield Fault("packs-out-of-order", "structure", "packs out of order", uses(lambda u: u[::-1]))
    yield Fault("packs-twice", "structure", "a pack twice", uses(lambda u: [u[0], *u]))
    yield Fault(
        "packs-id", "structure", "a pack id of 15 bytes", uses(lambda u: [["k", b64(bytes(15)), 1, 1], *u])
    )
    yield Fault(
        "packs-size-less",
        "trailing",
        "the pack is larger than the packs tree says",
        uses(lambda u: [[*u[0][:2], u[0][2] - 1, u[0][3]], *u[1:]]),
    )
    yield Fault(
        "packs-size-more",
        "truncated",
        "the pack is smaller than the packs tree says",
        uses(lambda u: [[*u[0][:2], u[0][2] + 1, u[0][3]], *u[1:]]),
    )
    yield Fault("entry-count", "structure", "the header counts other entries", catalog(miscounted))


def miscounted(_forge: Forge, made: Catalog, chunks: list[Chunk]) -> dict[str, Any]:
    """A good catalog, and a header that says that it has nine entries."""
    return {"entries": made.tree("entries", records_of(chunks)), "entry_count": 9}
