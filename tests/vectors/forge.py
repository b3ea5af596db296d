"""The tools of ``generate.py``: make any object of docs/format.md by hand, right or wrong, with chosen keys.

Only primitives come from the package; what is sealed, signed and laid out is spelled out here, so that each rule can be broken alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backports import zstd
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dr_toolkit.repository import crypto

MAX_WHOLE = 2**53 - 1
TIME = "2026-01-02T03:04:05Z"
ID_TIME = "20260102T030405Z-"


def b64(data: bytes) -> str:
    """Base64 text."""
    return base64.b64encode(data).decode()


def line(value: Any) -> bytes:
    """One line of JSON, without LF."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def fixed(label: str, size: int = 32) -> bytes:
    """Bytes that look random and are the same each time."""
    return hashlib.shake_256(label.encode()).digest(size)


@dataclass(frozen=True)
class Epoch:
    """The secrets of one epoch."""

    number: int
    catalog: bytes
    open: bytes

    @property
    def public_key(self) -> bytes:
        """The public half."""
        return crypto.OpenKey(self.open).public_bytes()


@dataclass(frozen=True)
class Chunk:
    """A chunk and where it is."""

    content: bytes
    chunk_id: bytes
    pack: bytes
    frame: int
    offset: int
    length: int

    def extent(self, at: int, start: int = 0, length: int | None = None, **changed: Any) -> list[Any]:
        """An extent record; ``changed`` replaces fields by name."""
        row = {
            "offset": at, "length": len(self.content) - start if length is None else length, "chunk_id": b64(self.chunk_id),
            "start": start, "chunk_length": len(self.content), "pack": b64(self.pack), "frame": self.frame,
            "frame_offset": self.offset, "frame_length": self.length,
        }  # fmt: skip
        return ["x", *(row | changed).values()]


class Forge:
    """A repository in memory that is made by hand.

    Args:
        label: everything secret derives from it.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.objects: dict[str, bytes] = {}
        self.old_leaves: list[list[Any]] = []
        self.repository_id = fixed(f"{label} id", 16)
        self.signing = fixed(f"{label} signing")
        self.signer = crypto.public_of(self.signing)
        self.id_key = fixed(f"{label} id key")
        self.file_key = fixed("the right key file")
        self.epochs = {
            n: Epoch(n, fixed(f"{label} catalog {n}") + self.id_key, fixed(f"{label} open {n}"))
            for n in (1, 2)
        }

    # -- signed documents ---------------------------------------------------------------------------------------------

    def sign(self, purpose: str, name: str, payload: Any, *, signing: bytes | None = None) -> bytes:
        """A signed document; ``payload`` is a dict, or the bytes of the line."""
        text = payload if isinstance(payload, bytes) else line(payload)
        return crypto.sign_document(signing or self.signing, purpose, name, text)

    def about(self, **changed: Any) -> dict[str, Any]:
        """The payload of repository.json."""
        key = f"ed25519:{b64(self.signer)}"
        base = {"format": 1, "repository": self.repository_id.hex(), "created": TIME, "grace_seconds": 604800}
        return {**base, "signing_key": key, "critical": []} | changed

    def keys(self, epoch: int = 1, generation: int = 1, **changed: Any) -> dict[str, Any]:
        """The payload of a key file."""
        return {
            "format": 1, "repository": self.repository_id.hex(), "epoch": epoch, "generation": generation, "created": TIME,
            "suite": 1, "public_key": b64(self.epochs[epoch].public_key), "recipients": [self.recipient(epoch)],
            "earlier": None, "critical": [],
        } | changed  # fmt: skip

    def recipient(
        self, epoch: int = 1, role: str = "both", kind: str = "key-file", **wraps: Any
    ) -> dict[str, Any]:
        """A recipient with the wraps of its role; ``wraps`` replaces (or, with None, drops) some."""
        purposes = ("catalog",) if role == "write" else ("catalog", "open", "signing")
        made = {p: self.wrap(epoch, p) for p in purposes} | wraps
        return {
            "name": "the-key-file",
            "kind": kind,
            "role": role,
            "wraps": {p: w for p, w in made.items() if w},
        }

    def wrap(
        self, epoch: int, purpose: str, secret: bytes | None = None, *, prefix: bytes | None = None, bound: str = "",
        key: bytes | None = None,
    ) -> str:  # fmt: skip
        """A key-file wrap; ``prefix`` replaces the digest inside, ``bound`` the purpose in the binding."""
        keys = self.epochs[epoch]
        right = {"catalog": keys.catalog, "open": keys.open, "signing": self.signing}
        text = b"drctl/v1/wrap" + crypto.lp(self.repository_id) + struct.pack(">I", epoch)
        text += (
            crypto.lp((bound or purpose).encode())
            + crypto.lp(crypto.sha256(keys.public_key))
            + crypto.lp(self.signer)
        )
        plain = (prefix or crypto.sha256(text)) + (right[purpose] if secret is None else secret)
        nonce = fixed(f"{epoch} {purpose} {prefix!r} {secret!r} {bound}", 12)
        return "kf1:" + b64(nonce + AESGCM(key or self.file_key).encrypt(nonce, plain, text))

    # -- sealed objects -----------------------------------------------------------------------------------------------

    def seal(
        self, kind: str, name: str, frames: Sequence[bytes], *, epoch: int = 1, version: int = 1, count: int | None = None,
        repository_id: bytes | None = None, catalog: bytes | None = None,
    ) -> list[bytes]:  # fmt: skip
        """A sealed object as parts: header, data frames, end frame. Joined they are the object."""
        salt = os.urandom(32)
        info = b"drctl/v1/sealed" + crypto.lp(repository_id or self.repository_id) + kind.encode()
        info += struct.pack(">I", epoch) + crypto.lp(name.encode())
        okm = crypto.hkdf((catalog or self.epochs[epoch].catalog)[:32], salt, info, 64)
        parts = [b"drctl" + kind.encode() + struct.pack(">HI", version, epoch) + salt + okm[32:]]
        end = struct.pack(">Q", len(frames) if count is None else count)
        for number, plain in enumerate([*frames, end]):
            aad = b"drctl/v1/frame" + struct.pack(">QB", number, number == len(frames))
            sealed = AESGCM(okm[:32]).encrypt(crypto.nonce(number), plain, aad)
            parts.append(struct.pack(">I", len(sealed)) + sealed)
        return parts

    def seal_payload(
        self, kind: str, name: str, payload: Any, pieces: int = 1, **options: Any
    ) -> list[bytes]:
        """``seal`` of a payload (a dict, or the bytes themselves), compressed, in several data frames."""
        text = payload if isinstance(payload, bytes) else line(payload)
        return self.seal(kind, name, in_pieces(zstd.compress(text), pieces), **options)

    # -- packs --------------------------------------------------------------------------------------------------------

    def pack(
        self, label: str, contents: Sequence[bytes], *, epoch: int = 1, suite: int = 1, version: int = 1,
        frames: Sequence[bytes] | None = None, footer: Any = None, footer_epoch: int | None = None,
        repository_id: bytes | None = None, commitment: bytes | None = None, row: dict[int, Any] | None = None,
    ) -> list[Chunk]:  # fmt: skip
        """Store a pack; ``frames`` replaces the zstd frames, ``footer`` the payload, ``row`` parts of the footer's first row."""
        pack_id, salt, content_key = fixed(f"{self.label} pack {label}", 16), os.urandom(32), os.urandom(32)
        name, of = pack_name(pack_id), repository_id or self.repository_id
        public = self.epochs[epoch].public_key
        key, right = crypto.chunk_keys(content_key, salt, of, epoch, name)
        body = b"drctlP" + struct.pack(">HI", version, epoch) + salt + (commitment or right)
        sealed_key = crypto.hpke_seal(content_key, public, crypto.pack_info(of, epoch, name, public))
        body += struct.pack(">HH", suite, len(sealed_key)) + sealed_key
        chunks, rows = list[Chunk](), list[list[Any]]()
        for number, (content, plain) in enumerate(
            zip(contents, frames or [zstd.compress(c) for c in contents], strict=True)
        ):
            sealed = AESGCM(key).encrypt(crypto.nonce(number), plain, crypto.chunk_aad(number))
            chunk = Chunk(content, self.chunk_id(content), pack_id, number, len(body), len(sealed))
            chunks.append(chunk)
            rows.append([b64(chunk.chunk_id), len(content), len(sealed), 0, 0])
            body += sealed
        for column, value in (row or {}).items():
            rows[0][column] = value
        payload = {"frames": rows, "sources": [{"component": "console-db", "path": "x"}], "critical": []}
        inside = self.seal_payload("F", name, payload | (footer or {}), epoch=footer_epoch or epoch)
        self.objects[name] = body + join_footer(inside)
        return chunks

    def chunk_id(self, content: bytes) -> bytes:
        """The chunk id of ``content``."""
        return crypto.keyed_hash(crypto.hkdf(self.id_key, b"", b"drctl/v1/chunk-id", 32), content)

    # -- catalogs and headers -----------------------------------------------------------------------------------------

    def catalog(self, label: str, *, epoch: int = 1) -> Catalog:
        """A catalog object to add pages to."""
        return Catalog(self, fixed(f"{self.label} catalog {label}", 16), epoch)

    def header(self, snapshot_id: str, **changed: Any) -> dict[str, Any]:
        """The payload of a snapshot's header, without trees."""
        keys = self.objects["keys/000001-000001"]
        return {
            "format": 1, "critical": [], "id": snapshot_id, "component": "console-db", "kind": "postgres-dump", "time": TIME,
            "started": TIME, "commit_by": "2026-01-05T15:04:05Z", "parent": None, "status": "good",
            "keys": [1, 1, b64(crypto.digest(keys))], "entries": None, "packs": None, "entry_count": 0, "bytes_source": 0,
            "bytes_new": 0, "bytes_stored": 0, "seen": [], "notes": [], "warnings": [], "source": {}, "tool": "drctl 0.1.0",
        } | changed  # fmt: skip

    def put_header(self, payload: dict[str, Any], *, epoch: int = 1) -> str:
        """Seal and store a header; its name."""
        name = f"snapshots/{payload['component']}/{payload['id']}"
        self.objects[name] = b"".join(self.seal_payload("S", name, payload, epoch=epoch))
        return name


class Catalog:
    """A catalog object that is being filled."""

    def __init__(self, forge: Forge, object_id: bytes, epoch: int) -> None:
        self.forge, self.object_id, self.epoch = forge, object_id, epoch
        self.name = catalog_name(object_id)
        self.frames: list[bytes] = []
        self.position = 76
        self.begun = 0

    def add(self, content: bytes, *, frame: bytes | None = None, page_id: bytes | None = None) -> list[Any]:
        """Add a page; ``frame`` replaces its zstd frame. Returns its reference."""
        key = crypto.hkdf(self.forge.id_key, b"", b"drctl/v1/page-id", 32)
        plain = zstd.compress(content) if frame is None else frame
        length = len(plain) + 16
        self.frames.append(plain)
        self.begun += content.count(b'["e",')
        self.position += 4 + length
        page = page_id or crypto.keyed_hash(key, content)
        return [b64(self.object_id), len(self.frames) - 1, self.position - length, length, b64(page)]

    def finish(self, **options: Any) -> list[bytes]:
        """Store the object; its parts."""
        parts = self.forge.seal("C", self.name, self.frames, epoch=self.epoch, **options)
        self.forge.objects[self.name] = b"".join(parts)
        return parts

    def tree(self, tree: str, records: Sequence[list[Any]], per_page: int = 3) -> list[Any] | None:
        """Lay ``records`` out as a tree of small pages; the root, as a header has it."""
        return self.grow(tree, self.leaves(tree, records, per_page))

    def leaves(self, tree: str, records: Sequence[list[Any]], per_page: int = 3) -> list[list[Any]]:
        """Leaf pages; an index record for each."""
        keys, path = list[tuple[str, int]](), ""
        for record in records:
            path, offset = key_of(record, path)
            keys.append((path, offset))
        made = []
        for start in range(0, len(records), per_page):
            group, (path, offset) = records[start : start + per_page], keys[start]
            context = path if group[0][0] in "xzf" else ""
            made.append(["i", path, offset, *self.add(page(0, tree, context, group)), len(group)])
        return made

    def grow(self, tree: str, rows: list[list[Any]], level: int = 1, fan_out: int = 2) -> list[Any] | None:
        """Index pages over ``rows`` up to one root."""
        while len(rows) > 1:
            groups = [rows[i : i + fan_out] for i in range(0, len(rows), fan_out)]
            rows = [[*g[0][:3], *self.add(page(level, tree, "", g)), sum(r[8] for r in g)] for g in groups]
            level += 1
        return [level - 1, rows[0][3:8]] if rows else None


def page(level: int, tree: str, context: str, records: Sequence[Any]) -> bytes:
    """The content of a page."""
    return b"".join(line(row) + b"\n" for row in [["page", level, tree, context], *records])


def key_of(record: list[Any], path: str) -> tuple[str, int]:
    """The key of a record; ``path`` is that of the one before."""
    letter = record[0]
    if letter == "k":
        return base64.b64decode(record[1]).hex(), -1
    return (record[1], -1) if letter == "e" else (path, MAX_WHOLE if letter == "f" else record[1])


def pack_name(pack_id: bytes) -> str:
    """The name of a pack."""
    return f"packs/{pack_id.hex()[:2]}/{pack_id.hex()}"


def catalog_name(object_id: bytes) -> str:
    """The name of a catalog object."""
    return f"catalogs/{object_id.hex()[:2]}/{object_id.hex()}"


def join_footer(parts: Sequence[bytes]) -> bytes:
    """A footer and the trailer."""
    footer = b"".join(parts)
    return footer + struct.pack(">I", len(footer)) + b"drctlEND"


def in_pieces(data: bytes, pieces: int) -> list[bytes]:
    """``data`` cut into so many parts."""
    size = -(-len(data) // pieces)
    return [data[i : i + size] for i in range(0, len(data), size)]


def flip(data: bytes, position: int) -> bytes:
    """``data`` with one bit flipped."""
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)
