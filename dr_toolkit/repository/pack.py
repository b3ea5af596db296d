"""Packs: objects that hold many sealed chunks (docs/format.md, section 7)."""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dr_toolkit import errors
from dr_toolkit.repository import crypto, layout, strict, zstd
from dr_toolkit.repository.keyring import Keyring
from dr_toolkit.repository.records import ChunkLength
from dr_toolkit.repository.room import Room
from dr_toolkit.repository.strict import Hash, Whole

TARGET = 16 << 20
LIMIT = 64 << 20
FRAMES_LIMIT = 1 << 16
HEADER_SIZE = 80 + crypto.HPKE_SIZE
TRAILER_SIZE = 12
FOOTER_SIZE = crypto.HEADER_SIZE + 24
"""The least that a footer may have: a header, and a length and a tag and 4 bytes at least."""
END = b"drctlEND"


class Footer(msgspec.Struct):
    """What a pack holds, sealed under the catalog key.

    Attributes:
        frames: (chunk id, chunk length, frame length, index of the source, offset in it), in order.
        sources: what was read: ``component``, ``path``; and ``kind``, ``size`` and ``meta`` of a bucket's object that is here as a whole.
        critical: names of fields that a reader must know.
    """

    frames: list[tuple[Hash, ChunkLength, Whole, Whole, Whole]]
    sources: list[dict[str, Any]]
    critical: list[str] = []
    epoch: int = 0
    """Not stored: taken from the footer's own header."""


_DECODER = msgspec.json.Decoder(Footer)
"""Made here, by one thread: msgspec crashes the process when two threads meet a type for the first time at once."""


class PackBuilder:
    """Assembles one pack in memory. The content key exists only here: nobody with the write role can open the pack again.

    Args:
        keyring: gives the public half and the catalog key of the current epoch.
        room: where the pack is made; empty.
    """

    def __init__(self, keyring: Keyring, room: Room) -> None:
        key_file, repository_id = keyring.current, keyring.identity.repository_id
        self.pack_id = layout.new_object_id()
        self.name = layout.pack_name(self.pack_id)
        self._keyring = keyring
        content_key, salt = os.urandom(32), os.urandom(32)
        key, commitment = crypto.chunk_keys(content_key, salt, repository_id, key_file.epoch, self.name)
        info = crypto.pack_info(repository_id, key_file.epoch, self.name, key_file.public_key)
        sealed_key = crypto.hpke_seal(content_key, key_file.public_key, info)
        self._aead = AESGCM(key)
        self._body = room
        self._body.append(
            crypto.MAGIC + b"P" + struct.pack(">HI", crypto.VERSION, key_file.epoch) + salt + commitment
        )
        self._body.append(struct.pack(">HH", crypto.SUITE, len(sealed_key)) + sealed_key)
        self._footer = Footer([], [])
        self._sources: dict[str, int] = {}
        self._lengths: list[int] = []

    @property
    def size(self) -> int:
        """Bytes so far, without the footer."""
        return self._body.size

    @property
    def frames(self) -> int:
        """Frames so far."""
        return len(self._footer.frames)

    def add(
        self, chunk_id: bytes, chunk_length: int, compressed: bytes, component: str, path: str, offset: int
    ) -> tuple[int, int, int]:
        """Seal one chunk; returns its (frame number, frame offset, frame length)."""
        number, position = len(self._footer.frames), self._body.size
        length = len(compressed) + crypto.TAG_SIZE
        self._aead.encrypt_into(
            crypto.nonce(number), compressed, crypto.chunk_aad(number), self._body.taken(length)
        )
        source = self._sources.get(path)
        if source is None:
            source = self._sources[path] = len(self._footer.sources)
            self._footer.sources.append({"component": component, "path": path})
            self._lengths.append(0)
        self._lengths[source] += chunk_length
        self._footer.frames.append((chunk_id, chunk_length, length, source, offset))
        return number, position, length

    def ended(self, path: str, kind: str, size: int, meta: Mapping[str, Any]) -> None:
        """Note what an entry is, where all of its content is in this pack: a later run can adopt it without reading its source."""
        source = self._sources.get(path)
        if source is not None and self._lengths[source] == size:
            self._footer.sources[source] |= {"kind": kind, "size": size, "meta": dict(meta)}

    def finish(self) -> memoryview:
        """The whole object, in the room. The builder must not be used again."""
        keyring = self._keyring
        epoch = keyring.current.epoch
        sealer = crypto.Sealer(
            keyring.catalog_key(epoch), keyring.identity.repository_id, b"F", epoch, self.name
        )
        footer = crypto.seal_payload(
            sealer,
            msgspec.json.encode(
                {"frames": self._footer.frames, "sources": self._footer.sources, "critical": []}
            ),
        )
        self._body.append(footer + struct.pack(">I", len(footer)) + END)
        return self._body.content()


def parse_trailer(tail: bytes, name: str) -> int:
    """The footer's length, from a pack's last bytes."""
    if len(tail) < TRAILER_SIZE or tail[-8:] != END:
        raise errors.Damaged(f'"{name}" does not end as a pack does', fault="truncated", on=name)
    length = int(struct.unpack(">I", tail[-12:-8])[0])
    if length < FOOTER_SIZE:
        raise errors.Damaged(f'the footer of "{name}" cannot be so short', fault="structure", on=name)
    return length


def open_footer(footer: bytes | memoryview, size: int, name: str, keyring: Keyring) -> Footer:
    """Open a footer and check that its frames fill the pack of ``size`` bytes exactly."""
    epoch = crypto.parse_header(bytes(footer[: crypto.HEADER_SIZE]), b"F", name)
    payload = crypto.open_payload(
        footer, keyring.catalog_key(epoch, name), keyring.identity.repository_id, b"F", name
    )
    strict.check_critical(strict.parse_object(payload, name), {"frames", "sources"}, name)
    try:
        parsed = _DECODER.decode(payload)
    except msgspec.MsgspecError as error:
        raise errors.Damaged(
            f'the footer of "{name}" is not as the format says', fault="structure", on=name
        ) from error
    frames = sum(frame[2] for frame in parsed.frames)
    fills = HEADER_SIZE + frames + len(footer) + TRAILER_SIZE == size and len(parsed.frames) <= FRAMES_LIMIT
    if not fills or any(f[3] >= len(parsed.sources) for f in parsed.frames):
        raise errors.Damaged(f'the footer of "{name}" does not fit the pack', fault="structure", on=name)
    parsed.epoch = epoch
    return parsed


@dataclass(frozen=True, slots=True)
class OpenedPack:
    """A pack whose content key is at hand (role ``read``)."""

    name: str
    aead: AESGCM

    def chunk(
        self, number: int, ciphertext: bytes | memoryview, length: int, chunk_id: bytes, chunk_id_key: bytes
    ) -> bytes:
        """Open one frame, decompress it, and compare its chunk id.

        Raises:
            Damaged: any of it fails; nothing of the chunk is released.
        """
        where = f'frame {number} of "{self.name}"'
        try:
            compressed = self.aead.decrypt(crypto.nonce(number), ciphertext, crypto.chunk_aad(number))
        except InvalidTag as error:
            raise errors.Damaged(f"{where} does not open", fault="authentication", on=self.name) from error
        content = zstd.decompress(compressed, length, self.name)
        if len(content) != length:
            raise errors.Damaged(
                f"{where} has {len(content)} bytes, not {length}", fault="structure", on=self.name
            )
        if not hmac.compare_digest(crypto.keyed_hash(chunk_id_key, content), chunk_id):
            raise errors.Damaged(
                f"{where} is not the chunk that the catalog names", fault="chunk-id", on=self.name
            )
        return content


def open_pack(header: bytes, name: str, keyring: Keyring) -> OpenedPack:
    """Open a pack's content key from its first ``HEADER_SIZE`` bytes."""
    epoch = crypto.parse_header(header, b"P", name)
    if len(header) < HEADER_SIZE:
        raise errors.Damaged(f'"{name}" ends within its header', fault="truncated", on=name)
    suite, length = struct.unpack(">HH", header[76:80])
    if suite != crypto.SUITE:
        raise errors.UnknownFormat(
            f'"{name}" uses an unknown suite', fault="version", on=name, hint="install a newer drctl"
        )
    if length != crypto.HPKE_SIZE:
        raise errors.Damaged(f'"{name}" has a content key of a wrong size', fault="structure", on=name)
    open_key = keyring.open_key(epoch, name)
    repository_id = keyring.identity.repository_id
    info = crypto.pack_info(repository_id, epoch, name, keyring.files[epoch].public_key)
    content_key = crypto.hpke_open(header[80:HEADER_SIZE], open_key, info, name)
    key, commitment = crypto.chunk_keys(content_key, header[12:44], repository_id, epoch, name)
    if not hmac.compare_digest(header[44:76], commitment):
        raise errors.Damaged(f'"{name}" does not keep its commitment', fault="commitment", on=name)
    return OpenedPack(name, AESGCM(key))
