"""Faults of packs and of their footers."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

from backports import zstd

from dr_toolkit.repository import crypto
from tests.vectors.bases import NAME, Base, Fault, put_chunks, records_of, uses_of
from tests.vectors.faults_catalog import chunks_of
from tests.vectors.faults_documents import header_of, removed, replaced
from tests.vectors.faults_sealed import lying
from tests.vectors.forge import Forge, b64, fixed, flip, join_footer, pack_name

A, B = (pack_name(fixed(f"plain pack {label}", 16)) for label in "ab")


def faults(_made: dict[str, Base]) -> Iterator[Fault]:
    """All of them."""
    yield from _bytes()
    yield from _frames()
    yield from _footers()


def repacked(**options: Any) -> Callable[[Forge], None]:
    """Make the first pack again with ``options`` of ``Forge.pack``, and a catalog and header that fit it."""

    def damage(forge: Forge) -> None:
        old = chunks_of(forge)
        contents = [chunk.content for chunk in old[:4]]
        frames = options.get("frames")
        made = options | ({"frames": frames([zstd.compress(c) for c in contents])} if frames else {})
        chunks = forge.pack("a", contents, **made) + old[4:]
        catalog = forge.catalog("first")
        trees = {
            "entries": catalog.tree("entries", records_of(chunks)),
            "packs": catalog.tree("packs", uses_of(forge, chunks[:5])),
        }
        catalog.finish()
        forge.put_header(header_of(forge) | trees)

    return damage


def _bytes() -> Iterator[Fault]:
    yield Fault("pack-made-again", "ok", "another salt and content key", repacked())
    yield Fault("pack-missing", "missing", "a pack is gone", removed(A))
    yield Fault("pack-empty", "truncated", "an empty pack", replaced(A, lambda _: b""))
    yield Fault("pack-in-header", "truncated", "cut off in the header", replaced(A, lambda b: b[:1000]))
    yield Fault("pack-in-frame", "truncated", "cut off in a frame", replaced(A, lambda b: b[:1300]))
    yield Fault("pack-in-footer", "truncated", "cut off in the footer", replaced(A, lambda b: b[:-50]))
    yield Fault("pack-in-trailer", "truncated", "cut off in the trailer", replaced(A, lambda b: b[:-1]))
    yield Fault("pack-trailing", "trailing", "bytes after the trailer", replaced(A, lambda b: b + b"\0"))
    yield Fault("pack-magic", "structure", "another magic", replaced(A, lambda b: flip(b, 1)))
    yield Fault("pack-kind", "structure", "another kind", replaced(A, lambda b: b[:5] + b"C" + b[6:]))
    yield Fault("pack-version", "version", "version 2", replaced(A, lambda b: b[:7] + b"\2" + b[8:]))
    yield Fault("pack-suite", "version", "an unknown suite", replaced(A, lambda b: b[:77] + b"\2" + b[78:]))
    yield Fault(
        "pack-n",
        "structure",
        "another length of the sealed key",
        replaced(A, lambda b: b[:78] + struct.pack(">H", 1167) + b[80:]),
    )
    yield Fault(
        "pack-epoch", "missing", "an epoch without a key file", replaced(A, lambda b: b[:11] + b"\7" + b[12:])
    )
    other = replaced(A, lambda b: b[:11] + b"\2" + b[12:])
    yield Fault(
        "pack-epoch-other", "authentication", "the epoch altered to another one", other, "rotated", NAME
    )
    yield Fault(
        "pack-enc", "authentication", "a bit of the encapsulation", replaced(A, lambda b: flip(b, 200))
    )
    yield Fault(
        "pack-x25519",
        "authentication",
        "a bit of the ephemeral key",
        replaced(A, lambda b: flip(b, 80 + 1100)),
    )
    yield Fault(
        "pack-hpke", "authentication", "a bit of HPKE's ciphertext", replaced(A, lambda b: flip(b, 1240))
    )
    yield Fault("pack-salt", "commitment", "a bit of the salt", replaced(A, lambda b: flip(b, 15)))
    yield Fault(
        "pack-commitment", "commitment", "a bit of the commitment", replaced(A, lambda b: flip(b, 50))
    )
    yield Fault(
        "pack-commitment-sealed",
        "commitment",
        "packed with another commitment",
        repacked(commitment=bytes(32)),
    )
    yield Fault(
        "pack-other-repository",
        "authentication",
        "a pack of another repository",
        repacked(repository_id=bytes(16)),
    )

    def exchange(forge: Forge) -> None:
        forge.objects[A], forge.objects[B] = forge.objects[B], forge.objects[A]
        fitting(forge)

    def fitting(forge: Forge) -> None:
        """A header and catalog that name the sizes as they are, so that only the place is wrong."""
        chunks = real
        catalog = forge.catalog("first")
        trees = {
            "entries": catalog.tree("entries", records_of(chunks)),
            "packs": catalog.tree("packs", uses_of(forge, chunks[:5])),
        }
        catalog.finish()
        forge.put_header(header_of(forge) | trees)

    scratch = Forge("plain")
    real = put_chunks(scratch)
    yield Fault("packs-exchanged", "authentication", "two packs exchanged", exchange)


def _frames() -> Iterator[Fault]:
    yield Fault(
        "chunk-frame-altered", "authentication", "a bit of a frame", replaced(A, lambda b: flip(b, 1300))
    )

    def swap(body: bytes) -> bytes:
        """Exchange frames 1 and 2, which are of equal length."""
        first, length = 1248 + 9 + 9 + 16, 0
        random.Random(0)
        sizes = [len(zstd.compress(c)) + 16 for c in (b"PGDMP toc", random.Random("chunks").randbytes(200))]
        first, length = 1248 + sizes[0], sizes[1]
        one, two = body[first : first + length], body[first + length : first + 2 * length]
        return body[:first] + two + one + body[first + 2 * length :]

    yield Fault("chunk-frames-reordered", "authentication", "two frames exchanged", replaced(A, swap))
    unsized = {zstd.CompressionParameter.content_size_flag: 0}
    for name, expect, why, change in (
        ("no-size", "structure", "a frame that does not state its size", lambda f: zstd.compress(zstd.decompress(f), options=unsized)),
        ("not-zstd", "structure", "a frame that is not zstd", lambda _: b"PGDMP toc"),
        ("zstd-trailing", "trailing", "bytes after the zstd frame", lambda f: f + b"\0"),
        ("bomb", "structure", "a frame of 64 MiB", lambda _: zstd.compress(bytes(64 << 20))),
        ("bomb-stated", "structure", "a bomb that states the chunk's length", lambda _: lying(zstd.compress(bytes(1 << 20)), 9)),
        ("other-content", "chunk-id", "a frame of the right length with other content", lambda _: zstd.compress(b"PGDMP tox")),
        ("cut", "structure", "a zstd frame that is cut off", lambda f: f[:-2]),
    ):  # fmt: skip
        frames = lambda all_frames, change=change: [change(all_frames[0]), *all_frames[1:]]  # noqa: E731
        yield Fault(f"chunk-{name}", expect, why, repacked(frames=frames))


def _footers() -> Iterator[Fault]:
    yield Fault(
        "footer-altered", "authentication", "a bit of the footer", replaced(A, lambda b: flip(b, -60))
    )
    yield Fault("trailer-mark", "truncated", "another mark at the end", replaced(A, lambda b: flip(b, -1)))
    for name, size in (("0", 0), ("99", 99), ("huge", 0xFFFFFFFF), ("whole", 1300)):
        wrong = struct.pack(">I", size)
        yield Fault(
            f"trailer-size-{name}",
            "structure",
            f"a footer of {size} bytes",
            replaced(A, lambda b, w=wrong: b[:-12] + w + b[-8:]),
        )

    def commitment(body: bytes) -> bytes:
        start = len(body) - 12 - int.from_bytes(body[-12:-8])
        return flip(body, start + 60)

    yield Fault(
        "footer-commitment", "commitment", "a bit of the footer's commitment", replaced(A, commitment)
    )

    def foreign(forge: Forge) -> None:
        name, body = A, forge.objects[A]
        size = int.from_bytes(body[-12:-8])
        parts = forge.seal_payload("F", B, {"frames": [], "sources": [], "critical": []})
        padding = size - len(b"".join(parts))
        payload = b'{"frames":[],"sources":[],"critical":[]}' + b" " * 0
        parts = forge.seal(
            "F", B, [zstd.compress(payload).ljust(len(zstd.compress(payload)) + padding, b"\0")]
        )
        forge.objects[name] = body[: -12 - size] + join_footer(parts)

    yield Fault("footer-of-another", "commitment", "a footer that was sealed for another pack", foreign)
    yield Fault(
        "footer-critical",
        "version",
        "an unknown critical field",
        repacked(footer={"critical": ["parity"], "parity": 1}),
    )
    yield Fault(
        "footer-unknown-field", "ok", "an optional field that is not known", repacked(footer={"colour": 1})
    )
    for name, why, row in (
        ("frame-length", "frame lengths that do not fill the pack", {2: 40}),
        ("source", "an index beyond the sources", {3: 1}),
        ("chunk-id-short", "a chunk id of 31 bytes", {0: "AAAA"}),
        ("chunk-length-0", "a chunk of no bytes", {1: 0}),
        ("chunk-over-8-mib", "a chunk of more than 8 MiB", {1: (8 << 20) + 1}),
        ("source-negative", "a negative index", {3: -1}),
    ):
        yield Fault(f"footer-{name}", "structure", why, repacked(row=row))
    yield Fault(
        "footer-frames-object", "structure", "frames that are not a list", repacked(footer={"frames": {}})
    )
    yield Fault("footer-no-frames", "structure", "no frames", repacked(footer={"frames": []}))
    wrong = Forge("plain").chunk_id(b"something else")
    yield Fault(
        "footer-chunk-id",
        "chunk-id",
        "a chunk id that is not that of the frame",
        repacked(row={0: b64(wrong)}),
    )
    yield Fault(
        "footer-epoch", "structure", "a footer of another epoch than its pack", other_epoch, "rotated", NAME
    )


def other_epoch(forge: Forge) -> None:
    """A footer that is sealed well, but under the second epoch's catalog key."""
    body = forge.objects[A]
    size = int.from_bytes(body[-12:-8])
    key = forge.epochs[1].catalog[:32]
    payload = crypto.open_payload(body[-12 - size : -12], key, forge.repository_id, b"F", A)
    forge.objects[A] = body[: -12 - size] + join_footer(forge.seal_payload("F", A, payload, epoch=2))
