"""Faults of a sealed object (a snapshot's header, in three data frames) and of the payload inside it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

from backports import zstd

from tests.vectors.bases import EMPTY, FIRST, NAME, Base, Fault
from tests.vectors.faults_documents import header_of, moved, removed, replaced
from tests.vectors.forge import Forge, b64, fixed, flip, in_pieces, line

HEADER = slice(0, 76)


def faults(_made: dict[str, Base]) -> Iterator[Fault]:
    """All of them."""
    yield from _frames()
    yield from _header()
    yield from _places()
    yield from _compression()
    yield from _json()
    yield from _fields()


def parts(change: Callable[[list[bytes]], list[bytes]], **options: Any) -> Callable[[Forge], None]:
    """Damage to the parts of a header in three data frames: [header, frame, frame, frame, end]."""

    def damage(forge: Forge) -> None:
        sealed = forge.seal_payload("S", NAME, header_of(forge), 3, **options)
        forge.objects[NAME] = b"".join(change(sealed))

    return damage


def payload(change: Callable[[dict[str, Any]], Any]) -> Callable[[Forge], None]:
    """A header with another payload, well sealed."""

    def damage(forge: Forge) -> None:
        forge.objects[NAME] = b"".join(forge.seal_payload("S", NAME, change(header_of(forge))))

    return damage


def compressed(change: Callable[[bytes], bytes]) -> Callable[[Forge], None]:
    """A header whose data frames hold something else than one good zstd frame; ``change`` gets the JSON."""

    def damage(forge: Forge) -> None:
        joined = change(line(header_of(forge)))
        forge.objects[NAME] = b"".join(forge.seal("S", NAME, in_pieces(joined, 2)))

    return damage


def _frames() -> Iterator[Fault]:
    yield Fault("sealed-three-frames", "ok", "a payload in three data frames", parts(lambda p: p))
    yield Fault("sealed-empty", "truncated", "an empty object", replaced(NAME, lambda _: b""))
    yield Fault("sealed-in-header", "truncated", "cut off in the header", replaced(NAME, lambda b: b[:70]))
    yield Fault("sealed-after-header", "truncated", "cut off after the header", parts(lambda p: p[:1]))
    yield Fault(
        "sealed-in-length", "truncated", "cut off in a frame's length", parts(lambda p: [*p[:2], p[2][:2]])
    )
    yield Fault("sealed-in-frame", "truncated", "cut off in a frame", parts(lambda p: [*p[:2], p[2][:-1]]))
    yield Fault("sealed-at-frame", "truncated", "cut off between frames", parts(lambda p: p[:3]))
    yield Fault("sealed-before-end", "truncated", "the end frame is cut off", parts(lambda p: p[:-1]))
    yield Fault(
        "frames-reordered",
        "authentication",
        "two frames exchanged",
        parts(lambda p: [p[0], p[2], p[1], *p[3:]]),
    )
    yield Fault("frame-duplicated", "authentication", "a frame twice", parts(lambda p: [*p[:2], *p[1:]]))
    yield Fault("frame-dropped", "authentication", "a frame is gone", parts(lambda p: [*p[:2], *p[3:]]))
    yield Fault(
        "last-frame-dropped", "authentication", "the last data frame is gone", parts(lambda p: [*p[:3], p[4]])
    )
    yield Fault(
        "frame-altered",
        "authentication",
        "a bit of a frame",
        parts(lambda p: [*p[:2], flip(p[2], 9), *p[3:]]),
    )
    yield Fault(
        "frame-tag-altered",
        "authentication",
        "a bit of a tag",
        parts(lambda p: [*p[:2], flip(p[2], -1), *p[3:]]),
    )
    yield Fault(
        "end-altered", "authentication", "a bit of the end frame", parts(lambda p: [*p[:-1], flip(p[-1], 6)])
    )
    yield Fault(
        "end-counts-wrong", "structure", "the end frame counts another number", parts(lambda p: p, count=2)
    )
    yield Fault("trailing-byte", "trailing", "a byte after the end frame", parts(lambda p: [*p, b"\0"]))
    yield Fault("trailing-frame", "trailing", "a frame after the end frame", parts(lambda p: [*p, p[1]]))
    yield Fault("trailing-end", "trailing", "a second end frame", parts(lambda p: [*p, p[-1]]))
    for name, length in (("zero", 0), ("of-a-tag", 16), ("too-large", (1 << 20) + 17), ("huge", 0xFFFFFFFF)):
        wrong = struct.pack(">I", length)
        yield Fault(
            f"length-{name}",
            "structure",
            f"a frame of {length} bytes",
            parts(lambda p, w=wrong: [p[0], w + p[1][4:], *p[2:]]),
        )


def _header() -> Iterator[Fault]:
    yield Fault("magic", "structure", "another magic", replaced(NAME, lambda b: flip(b, 0)))
    yield Fault(
        "kind-altered", "structure", "the kind's byte altered", replaced(NAME, lambda b: b[:5] + b"C" + b[6:])
    )
    yield Fault(
        "kind-unknown", "structure", "an unknown kind", replaced(NAME, lambda b: b[:5] + b"Z" + b[6:])
    )
    yield Fault("version-2", "version", "version 2, well sealed", parts(lambda p: p, version=2))
    yield Fault(
        "epoch-unknown",
        "missing",
        "an epoch without a key file",
        replaced(NAME, lambda b: b[:11] + b"\7" + b[12:]),
    )
    other = replaced(NAME, lambda b: b[:11] + b"\2" + b[12:])
    yield Fault("epoch-other", "commitment", "the epoch altered to another one", other, "rotated", NAME)
    yield Fault("salt-altered", "commitment", "a bit of the salt", replaced(NAME, lambda b: flip(b, 20)))
    yield Fault(
        "commitment-altered", "commitment", "a bit of the commitment", replaced(NAME, lambda b: flip(b, 50))
    )
    yield Fault(
        "wrong-catalog-key",
        "commitment",
        "sealed under another catalog key",
        parts(lambda p: p, catalog=fixed("x", 64)),
    )
    yield Fault(
        "other-repository", "commitment", "of another repository", parts(lambda p: p, repository_id=bytes(16))
    )


def _places() -> Iterator[Fault]:
    to = NAME[:-1] + ("0" if NAME[-1] != "0" else "1")
    yield Fault("moved", "commitment", "a header under another id", moved(NAME, to), snapshot=to)
    component = NAME.replace("console-db", "sql-db")
    yield Fault(
        "moved-component",
        "commitment",
        "a header under another component",
        moved(NAME, component),
        snapshot=component,
    )

    def stranger(forge: Forge) -> None:
        forge.objects[NAME] = b"".join(forge.seal_payload("S", NAME, header_of(forge) | {"id": EMPTY}))

    yield Fault("id-inside", "structure", "the payload bears another id", stranger)
    yield Fault(
        "component-inside",
        "structure",
        "the payload bears another component",
        payload(lambda h: h | {"component": "sql-db"}),
    )
    yield Fault(
        "time-not-of-id",
        "structure",
        "the time is not that of the id",
        payload(lambda h: h | {"time": "2026-01-02T03:04:06Z"}),
    )
    yield Fault("header-gone", "missing", "the snapshot is not there", removed(NAME))

    def as_catalog(forge: Forge) -> None:
        name = next(n for n in forge.objects if n.startswith("catalogs/"))
        forge.objects[name] = forge.objects[NAME]

    yield Fault("kind-elsewhere", "structure", "a header in the place of a catalog object", as_catalog)


def _compression() -> Iterator[Fault]:
    whole = zstd.CompressionParameter
    unsized = {whole.content_size_flag: 0}
    yield Fault(
        "zstd-no-size",
        "structure",
        "the zstd frame does not state its size",
        compressed(lambda j: zstd.compress(j, options=unsized)),
    )
    yield Fault("zstd-not", "structure", "not zstd at all", compressed(lambda j: j))
    yield Fault(
        "zstd-trailing",
        "trailing",
        "a byte after the zstd frame",
        compressed(lambda j: zstd.compress(j) + b"\0"),
    )
    yield Fault(
        "zstd-two-frames",
        "trailing",
        "a second zstd frame",
        compressed(lambda j: zstd.compress(j) + zstd.compress(b" ")),
    )
    skippable = struct.pack("<II", 0x184D2A50, 4) + b"skip"
    yield Fault(
        "zstd-skippable",
        "structure",
        "a skippable frame first",
        compressed(lambda j: skippable + zstd.compress(j)),
    )
    yield Fault(
        "zstd-skippable-after",
        "trailing",
        "a skippable frame after",
        compressed(lambda j: zstd.compress(j) + skippable),
    )
    yield Fault(
        "zstd-cut", "structure", "the zstd frame is cut off", compressed(lambda j: zstd.compress(j)[:-5])
    )
    checked = {whole.checksum_flag: 1}
    yield Fault(
        "zstd-checksum",
        "ok",
        "a zstd frame may have a checksum",
        compressed(lambda j: zstd.compress(j, options=checked)),
    )
    wrong = compressed(lambda j: flip(zstd.compress(j, options=checked), -1))
    yield Fault("zstd-checksum-wrong", "structure", "the checksum does not fit", wrong)
    yield Fault(
        "zstd-too-large",
        "structure",
        "more than 64 KiB of payload",
        compressed(lambda j: zstd.compress(j[:-1] + b" " * 65536 + j[-1:])),
    )
    bomb = zstd.compress(bytes(1 << 30), 19)
    yield Fault("zstd-bomb", "structure", "a bomb of 1 GiB", compressed(lambda _: bomb))
    yield Fault(
        "zstd-bomb-stated-small",
        "structure",
        "a bomb that states 100 bytes",
        compressed(lambda _: lying(bomb, 100)),
    )
    words = zstd.train_dict([b"%d console-db postgres-dump %d" % (i, i * 7) for i in range(2000)], 2000)
    named = compressed(lambda j: zstd.compress(j, zstd_dict=words))
    yield Fault("zstd-dictionary", "structure", "a zstd frame that names a dictionary", named)


def lying(frame: bytes, size: int) -> bytes:
    """A zstd frame whose header states another content size (RFC 8878, section 3.1.1.1)."""
    descriptor = frame[4]
    width = {0: 1 if descriptor & 0x20 else 0, 1: 2, 2: 4, 3: 8}[descriptor >> 6]
    start = 5 + (0 if descriptor & 0x20 else 1)
    return frame[:start] + size.to_bytes(width, "little") + frame[start + width :]


def _json() -> Iterator[Fault]:
    for name, why, change in (
        ("not-json", "the payload is not JSON", lambda _: b"{"),
        ("two-values", "two JSON values", lambda h: line(h) + b"\n{}"),
        ("list", "the payload is not an object", lambda h: [h]),
        ("duplicate", "a name occurs twice", lambda h: line(h).replace(b'"tool":', b'"tool":"a","tool":')),
        ("duplicate-deep", "a name occurs twice inside", lambda h: line(h).replace(b'"source":{', b'"source":{"a":1,"a":2')),
        ("bom", "a byte order mark", lambda h: b"\xef\xbb\xbf" + line(h)),
        ("utf-16", "another encoding", lambda h: line(h).decode().encode("utf-16")),
        ("bad-utf-8", "bytes that are not UTF-8", lambda h: line(h).replace(b'"drctl 0.1.0"', b'"\xff"')),
        ("surrogate", "half of a surrogate pair", lambda h: line(h).replace(b'"drctl 0.1.0"', b'"\\ud800"')),
        ("fraction", "a number with a fraction", lambda h: line(h).replace(b'"bytes_new":0', b'"bytes_new":0.0')),
        ("exponent", "a number with an exponent", lambda h: line(h).replace(b'"bytes_new":0', b'"bytes_new":1e3')),
        ("nan", "not a number", lambda h: line(h).replace(b'"bytes_new":0', b'"bytes_new":NaN')),
        ("negative", "a number below 0", lambda h: h | {"bytes_new": -1}),
        ("large", "a number of 2^53", lambda h: h | {"bytes_new": 2**53}),
        ("true", "true is not a number", lambda h: h | {"bytes_new": True}),
    ):  # fmt: skip
        yield Fault(f"json-{name}", "structure", why, payload(change))
    facts = {"source": {"a": [1.5, -3, 2**70, 1e9]}}
    yield Fault("json-facts", "ok", "the source's facts may hold any number", payload(lambda h: h | facts))
    escaped = payload(lambda h: line(h).replace(b'"console-db"', b'"\\u0063onsole-db"'))
    yield Fault("json-escapes", "ok", "escapes and spaces are JSON, too", escaped)
    yield Fault(
        "json-spaces",
        "ok",
        "spaces are JSON, too",
        payload(lambda h: b" " + line(h).replace(b",", b" ,\n") + b"\n"),
    )


def _fields() -> Iterator[Fault]:
    yield Fault("header-format-2", "version", "a later format", payload(lambda h: h | {"format": 2}))
    yield Fault(
        "header-critical",
        "version",
        "an unknown critical field",
        payload(lambda h: h | {"critical": ["shards"], "shards": 2}),
    )
    yield Fault(
        "header-critical-known",
        "ok",
        "a critical field that is known",
        payload(lambda h: h | {"critical": ["entries"]}),
    )
    yield Fault(
        "header-unknown-field",
        "ok",
        "an optional field that is not known",
        payload(lambda h: h | {"colour": "blue"}),
    )
    for field in (
        "id",
        "component",
        "keys",
        "entries",
        "packs",
        "time",
        "status",
        "seen",
        "critical",
        "format",
        "commit_by",
    ):
        without = payload(lambda h, field=field: {k: v for k, v in h.items() if k != field})
        yield Fault(f"header-without-{field}", "structure", f"without the field {field}", without)
    reference = [b64(bytes(16)), 0, 80, 100, b64(bytes(32))]
    for field, label, value in (
        ("status", "unknown", "fine"), ("parent", "odd", "yesterday"), ("time", "odd", "2026-01-02 03:04:05"),
        ("seen", "odd", [[FIRST]]), ("seen", "short-hash", [[EMPTY, b64(bytes(16))]]), ("warnings", "odd", [1]),
        ("entries", "level-9", [9, reference]), ("entries", "short-id", [0, [b64(bytes(15)), *reference[1:]]]),
        ("entries", "short-page-id", [0, [*reference[:4], b64(bytes(31))]]), ("entries", "length-0", [0, [*reference[:3], 0, reference[4]]]),
        ("entries", "offset-0", [0, [reference[0], 0, 0, *reference[3:]]]), ("entries", "flat", [0, *reference]),
        ("entries", "bad-base64", [0, ["=" * 24, *reference[1:]]]), ("keys", "short", [1, 1]),
    ):  # fmt: skip
        yield Fault(
            f"header-{field}-{label}",
            "structure",
            f"{field} is not shaped so",
            payload(lambda h, f=field, v=value: h | {f: v}),
        )
    big = {"source": {"facts": fixed("incompressible", 60_000).hex()[:63_000]}}
    yield Fault("header-60-kib", "ok", "a header of almost 64 KiB", payload(lambda h: h | big))
    absent = payload(lambda h: h | {"keys": [1, 9, h["keys"][2]]})
    yield Fault("keys-named-absent", "missing", "it names a generation that is not there", absent)
    altered = payload(lambda h: h | {"keys": [1, 1, b64(bytes(32))]})
    yield Fault(
        "keys-named-altered", "authentication", "it names another key file of that generation", altered
    )
    later = payload(lambda h: h | {"keys": [2, 1, h["keys"][2]]})
    yield Fault(
        "keys-named-other-epoch", "structure", "it names a key file of another epoch", later, "rotated", NAME
    )
