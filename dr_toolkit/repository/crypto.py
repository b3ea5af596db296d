"""Sealed objects, signed documents and their key derivation (docs/format.md, sections 1, 3 and 7).

Nothing here does I/O or knows what is inside. Every failure says which ``fault`` of docs/format.md it is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import struct
from dataclasses import dataclass

import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric import ed25519, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dr_toolkit import errors
from dr_toolkit.repository import zstd

MAGIC = b"drctl"
VERSION = 1
SUITE = 1
HEADER_SIZE = 76
TAG_SIZE = 16
FRAME_LIMIT = 1 << 20
PUBLIC_KEY_SIZE = 1184 + 32
OPEN_SECRET_SIZE = 32
HPKE_SIZE = 1120 + 32 + TAG_SIZE

PAYLOAD_LIMITS = {b"S": 64 << 10, b"T": 1 << 20, b"E": 16 << 20, b"F": 16 << 20, b"N": 4 << 30}
"""The most bytes that a sealed object's payload may have, by kind."""

_SUITE_1 = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def lp(field: bytes) -> bytes:
    """``u16(length) || field``."""
    return struct.pack(">H", len(field)) + field


def hkdf(ikm: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """HKDF with SHA-256 (RFC 5869)."""
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt or None, info=info).derive(ikm)


def digest(data: bytes | bytearray | memoryview) -> bytes:
    """HASH of docs/format.md: unkeyed BLAKE3, 32 bytes."""
    return blake3.blake3(data).digest()


def keyed_hash(key: bytes, data: bytes | bytearray | memoryview) -> bytes:
    """Keyed BLAKE3, 32 bytes: chunk ids, page ids, cuts."""
    return blake3.blake3(data, key=key).digest()


def sha256(data: bytes) -> bytes:
    """SHA-256."""
    return hashlib.sha256(data).digest()


def nonce(number: int) -> bytes:
    """The nonce of frame ``number``."""
    return number.to_bytes(12, "big")


def decode_base64(text: object, length: int, on: str) -> bytes:
    """Base64 of exactly ``length`` bytes, else Damaged (structure)."""
    try:
        value = base64.b64decode(text if isinstance(text, str) else "", validate=True)
    except binascii.Error:
        value = b""
    if len(value) != length:
        raise errors.Damaged(f"a field is not base64 of {length} bytes", fault="structure", on=on)
    return value


# -- sealed objects ---------------------------------------------------------------------------------------------------


def _sealed_keys(
    catalog_key: bytes, salt: bytes, repository_id: bytes, kind: bytes, epoch: int, name: str
) -> tuple[bytes, bytes]:
    info = b"drctl/v1/sealed" + lp(repository_id) + kind + struct.pack(">I", epoch) + lp(name.encode())
    okm = hkdf(catalog_key, salt, info, 64)
    return okm[:32], okm[32:]


def _frame_aad(number: int, *, last: bool) -> bytes:
    return b"drctl/v1/frame" + struct.pack(">QB", number, last)


class Sealer:
    """Makes one sealed object, frame by frame.

    Args:
        catalog_key: the epoch's catalog key (32 bytes).
        repository_id: 16 bytes.
        kind: one byte, ``C N S T E F``.
        epoch: of the catalog key.
        name: the object's name; a footer has its pack's.
    """

    def __init__(self, catalog_key: bytes, repository_id: bytes, kind: bytes, epoch: int, name: str) -> None:
        salt = os.urandom(32)
        key, commitment = _sealed_keys(catalog_key, salt, repository_id, kind, epoch, name)
        self.header = MAGIC + kind + struct.pack(">HI", VERSION, epoch) + salt + commitment
        self._aead = AESGCM(key)
        self.frames = 0

    def frame(self, plaintext: bytes) -> bytes:
        """Seal the next data frame (1 byte to 1 MiB), with its length in front."""
        sealed = self._aead.encrypt(nonce(self.frames), plaintext, _frame_aad(self.frames, last=False))
        self.frames += 1
        return struct.pack(">I", len(sealed)) + sealed

    def end(self) -> bytes:
        """Seal the end frame; nothing may follow."""
        count = struct.pack(">Q", self.frames)
        sealed = self._aead.encrypt(nonce(self.frames), count, _frame_aad(self.frames, last=True))
        return struct.pack(">I", len(sealed)) + sealed


class Opener:
    """Opens frames of one sealed object, after its header has been checked.

    Raises (on construction):
        UnknownFormat: another version.
        Damaged: not a sealed object of this kind, or the commitment does not match.
    """

    def __init__(
        self, header: bytes, catalog_key: bytes, repository_id: bytes, kind: bytes, name: str
    ) -> None:
        epoch = parse_header(header, kind, name)
        salt, commitment = header[12:44], header[44:HEADER_SIZE]
        key, expected = _sealed_keys(catalog_key, salt, repository_id, kind, epoch, name)
        if not hmac.compare_digest(commitment, expected):
            raise errors.Damaged(
                f'"{name}" was not sealed here under this key: altered, moved, or of another repository',
                fault="commitment",
                on=name,
            )
        self._aead = AESGCM(key)
        self._name = name

    def frame(self, number: int, ciphertext: bytes | memoryview, *, last: bool = False) -> bytes:
        """Open frame ``number`` (without its length)."""
        try:
            return self._aead.decrypt(nonce(number), ciphertext, _frame_aad(number, last=last))
        except InvalidTag as error:
            raise errors.Damaged(
                f'frame {number} of "{self._name}" does not open', fault="authentication", on=self._name
            ) from error


def parse_header(header: bytes, kind: bytes, name: str) -> int:
    """Check a sealed object's or a pack's first bytes and return its epoch."""
    if len(header) < HEADER_SIZE:
        raise errors.Damaged(f'"{name}" ends within its header', fault="truncated", on=name)
    if header[:5] != MAGIC or header[5:6] != kind:
        raise errors.Damaged(f'"{name}" is not an object of kind {kind.decode()}', fault="structure", on=name)
    version, epoch = struct.unpack(">HI", header[6:12])
    if version != VERSION:
        raise errors.UnknownFormat(
            f'"{name}" has version {version}; this drctl reads version {VERSION}',
            fault="version",
            on=name,
            hint="install a newer drctl",
        )
    return int(epoch)


def open_all_frames(body: bytes | memoryview, opener: Opener, name: str) -> list[bytes]:
    """Open every data frame and check the end frame: nothing missing, nothing after it."""
    view, position, opened = memoryview(body), HEADER_SIZE, list[bytes]()
    while position < len(view):
        ciphertext, number = _frame_at(view, position, name), len(opened)
        position += 4 + len(ciphertext)
        try:
            opened.append(opener.frame(number, ciphertext))
        except errors.Damaged:
            # Not a data frame: either the end frame, or damage.
            if opener.frame(number, ciphertext, last=True) != struct.pack(">Q", number):
                raise errors.Damaged(
                    f'the end of "{name}" counts wrong', fault="structure", on=name
                ) from None
            if position != len(view):
                raise errors.Damaged(f'bytes follow the end of "{name}"', fault="trailing", on=name) from None
            return opened
    raise errors.Damaged(f'"{name}" ends without its end frame', fault="truncated", on=name)


def _frame_at(view: memoryview, position: int, name: str) -> memoryview:
    """The ciphertext of the frame whose length is at ``position``."""
    if len(view) - position < 4:  # noqa: PLR2004
        raise errors.Damaged(f'"{name}" ends within a frame\'s length', fault="truncated", on=name)
    (length,) = struct.unpack(">I", view[position : position + 4])
    if not TAG_SIZE < length <= FRAME_LIMIT + TAG_SIZE:
        raise errors.Damaged(f'"{name}" has a frame of {length} bytes', fault="structure", on=name)
    if len(view) - position - 4 < length:
        raise errors.Damaged(f'"{name}" ends within a frame', fault="truncated", on=name)
    return view[position + 4 : position + 4 + length]


def seal_payload(sealer: Sealer, payload: bytes) -> bytes:
    """A whole sealed object with a payload (kinds N S T E F)."""
    compressed = memoryview(zstd.compress(payload, 3))
    parts = [sealer.header]
    parts.extend(
        sealer.frame(bytes(compressed[i : i + FRAME_LIMIT])) for i in range(0, len(compressed), FRAME_LIMIT)
    )
    parts.append(sealer.end())
    return b"".join(parts)


def open_payload(
    body: bytes | memoryview, catalog_key: bytes, repository_id: bytes, kind: bytes, name: str
) -> bytes:
    """The payload of a whole sealed object."""
    opener = Opener(bytes(body[:HEADER_SIZE]), catalog_key, repository_id, kind, name)
    return zstd.decompress(b"".join(open_all_frames(body, opener, name)), PAYLOAD_LIMITS[kind], name)


# -- packs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenKey:
    """The private half of the HPKE pair. Its repr shows nothing.

    Attributes:
        secret: the 32-byte seed of X-Wing (draft-connolly-cfrg-xwing-kem): SHAKE-256 expands it to the ML-KEM-768 seed
            (64 bytes) and the X25519 private key (32 bytes).
    """

    secret: bytes

    def __repr__(self) -> str:
        return "OpenKey(...)"

    def private_key(self) -> hpke.MLKEM768X25519PrivateKey:
        """The key object of the library."""
        return hpke.MLKEM768X25519PrivateKey(*self._halves())

    def _halves(self) -> tuple[mlkem.MLKEM768PrivateKey, x25519.X25519PrivateKey]:
        expanded = hashlib.shake_256(self.secret).digest(96)
        return mlkem.MLKEM768PrivateKey.from_seed_bytes(
            expanded[:64]
        ), x25519.X25519PrivateKey.from_private_bytes(expanded[64:])

    def public_bytes(self) -> bytes:
        """The public half, as in a key file."""
        kem, exchange = self._halves()
        return kem.public_key().public_bytes_raw() + exchange.public_key().public_bytes_raw()


def pack_info(repository_id: bytes, epoch: int, name: str, public_key: bytes) -> bytes:
    """HPKE's info: what a pack's content key is bound to."""
    return (
        b"drctl/v1/pack"
        + struct.pack(">H", SUITE)
        + lp(repository_id)
        + struct.pack(">I", epoch)
        + lp(name.encode())
        + lp(sha256(public_key))
    )


def hpke_seal(secret: bytes, public_key: bytes, info: bytes) -> bytes:
    """Seal ``secret`` to a public half (suite 1)."""
    public = hpke.MLKEM768X25519PublicKey(
        mlkem.MLKEM768PublicKey.from_public_bytes(public_key[:1184]),
        x25519.X25519PublicKey.from_public_bytes(public_key[1184:]),
    )
    return _SUITE_1.encrypt(secret, public, info=info)


def hpke_open(sealed: bytes, open_key: OpenKey, info: bytes, on: str) -> bytes:
    """Open what ``hpke_seal`` made."""
    try:
        return _SUITE_1.decrypt(sealed, open_key.private_key(), info=info)
    except (InvalidTag, ValueError) as error:
        raise errors.Damaged(
            f'the content key of "{on}" does not open', fault="authentication", on=on
        ) from error


def chunk_keys(
    content_key: bytes, salt: bytes, repository_id: bytes, epoch: int, name: str
) -> tuple[bytes, bytes]:
    """(frame key, commitment) of a pack."""
    info = b"drctl/v1/chunks" + lp(repository_id) + struct.pack(">I", epoch) + lp(name.encode())
    okm = hkdf(content_key, salt, info, 64)
    return okm[:32], okm[32:]


def chunk_aad(number: int) -> bytes:
    """Associated data of a pack's frame."""
    return b"drctl/v1/chunk" + struct.pack(">Q", number)


# -- signed documents -------------------------------------------------------------------------------------------------


def _signed_message(purpose: str, name: str, payload: bytes) -> bytes:
    return b"drctl/v1/signed" + lp(purpose.encode()) + lp(name.encode()) + payload


def public_of(signing_key: bytes) -> bytes:
    """The public half of an Ed25519 private key (32 bytes each)."""
    return ed25519.Ed25519PrivateKey.from_private_bytes(signing_key).public_key().public_bytes_raw()


def sign_document(signing_key: bytes, purpose: str, name: str, payload: bytes) -> bytes:
    """The two lines of a signed document. ``payload`` is one line of JSON without LF."""
    signature = ed25519.Ed25519PrivateKey.from_private_bytes(signing_key).sign(
        _signed_message(purpose, name, payload)
    )
    return payload + b"\n" + base64.b64encode(signature) + b"\n"


def open_document(document: bytes, public_key: bytes, purpose: str, name: str) -> bytes:
    """The payload line of a signed document, after its signature has been verified."""
    lines = document.split(b"\n")
    if len(lines) != 3 or lines[2]:  # noqa: PLR2004
        fault = "trailing" if len(lines) >= 3 else "truncated"  # noqa: PLR2004
        raise errors.Damaged(f'"{name}" is not a signed document of two lines', fault=fault, on=name)
    try:
        signature = base64.b64decode(lines[1], validate=True)
        ed25519.Ed25519PublicKey.from_public_bytes(public_key).verify(
            signature, _signed_message(purpose, name, lines[0])
        )
    except (InvalidSignature, binascii.Error, ValueError) as error:
        raise errors.UntrustedKeys(
            f'the signature of "{name}" does not verify',
            fault="signature",
            on=name,
            hint="the object was altered or made by somebody else: do not use it; compare with another copy of the repository",
        ) from error
    return lines[0]
