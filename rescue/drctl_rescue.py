#!/usr/bin/env python3
"""Get the data out of a drctl repository without drctl.

This one file follows docs/format.md ("the text") and shares no code with drctl. It needs Python 3.11 or newer and three
libraries, and reads a repository that was copied into a directory (from S3: by any tool that copies a prefix)::

    python3 -m venv rescue && rescue/bin/pip install 'cryptography>=50' blake3 backports.zstd  # 3.14 has zstd itself
    rescue/bin/python drctl_rescue.py list COPY --key-file KEY --trust ed25519:...
    rescue/bin/python drctl_rescue.py archive COPY latest:console-db --key-file KEY --trust ed25519:... --to db.dump
    pg_restore --create --dbname postgres db.dump

``show`` names a snapshot's entries, ``extract`` writes them as files, ``check`` reads everything and writes nothing.
Keys of a bucket that cannot be names of files are refused, unless ``extract --numbered`` gives each a number. The ``cluster``
directory of a postgres-base is a data directory: give it to the user postgres, and start a server of that version on it.
``--trust`` is ``repository.trust`` of drctl.yaml; without it the repository vouches for itself, and a warning is printed.
Where Vault or OpenBao holds the keys, with a token that may decrypt::

    rescue/bin/python drctl_rescue.py unwrap-commands COPY --transit-key NAME | sh > unwrapped.json  # delete it after
    rescue/bin/python drctl_rescue.py list COPY --unwrapped unwrapped.json

A failure prints one line, ``kind: what``, with the kinds of the text's section 1 (and ``refused``: not for this file system),
and exits with 3; wrong usage exits with 2. What failed a check is never written, and no file bears its name before it is complete.
"""

from __future__ import annotations

import argparse
import base64
import datetime as dt
import errno
import hashlib
import hmac
import json
import os
import re
import shlex
import struct
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

KIB, MIB, MAX_WHOLE = 1 << 10, 1 << 20, 2**53 - 1
SEALED_HEADER, PACK_HEADER, MAX_FRAME = 76, 80 + 1168, MIB + 16
SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class Fault(Exception):
    """The data says no: a kind of the text's section 1, and what it is about."""


def need(ok: object, what: str, kind: str = "structure") -> None:
    """Fail unless ``ok``."""
    if not ok:
        raise Fault(f"{kind}: {what}")


# --- JSON and its shapes (section 1) ---


def b64(data: bytes) -> str:
    """Base64 text."""
    return base64.b64encode(data).decode()


def unb64(text: str, what: str) -> bytes:
    """The bytes of base64 text that is canonical."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        data = b""
    need(b64(data) == text, f"{what} is not base64")
    return data


def parse(text: bytes, what: str) -> Any:
    """JSON in UTF-8 without duplicate names."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        need(len(dict(pairs)) == len(pairs), f"{what}: a name occurs twice")
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise Fault(f"structure: {what}: {constant} is not JSON")

    try:
        value = json.loads(text.decode(), object_pairs_hook=unique, parse_constant=refuse)
        if b"\\u" in text:
            compact(value)  # half of a surrogate pair has no UTF-8 bytes
    except (ValueError, RecursionError):
        raise Fault(f"structure: {what} is not JSON") from None
    return value


def compact(value: Any) -> bytes:
    """JSON in as few bytes as it takes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def sized(size: int) -> Callable[[Any], bool]:
    """The shape of base64 text of that many bytes."""
    return lambda value: isinstance(value, str) and len(unb64(value, "an id, key or HASH")) == size


def either(*shapes: Any) -> Callable[[Any], bool]:
    """The shape of a value that fits one of several shapes."""
    return lambda value: any(fits(value, shape) for shape in shapes)


def fits(value: Any, shape: Any) -> bool:
    """Whether a JSON value has a shape: see the shapes below; a tuple is a row, a list has elements of one shape."""
    if isinstance(shape, type | range):
        return type(value) is shape if isinstance(shape, type) else type(value) is int and value in shape
    if isinstance(shape, re.Pattern):
        return isinstance(value, str) and shape.fullmatch(value) is not None
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(n in value and fits(value[n], s) for n, s in shape.items())
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(element, shape[0]) for element in value)
    if isinstance(shape, tuple):
        return isinstance(value, list) and len(value) == len(shape) and all(map(fits, value, shape))
    return bool(shape(value)) if callable(shape) else type(value) is type(shape) and bool(value == shape)


def check_fields(payload: Any, shape: dict[str, Any], what: str) -> Any:
    """Check a payload: its version, its critical fields, then every field of ``shape``."""
    need(isinstance(payload, dict), f"{what} is not a JSON object")
    for name, field_shape in {"critical": [str], **shape}.items():
        need(name in payload and fits(payload[name], field_shape), f"{what}: field '{name}'")
        need(name != "format" or payload[name] == 1, f"{what} is newer: use a newer drctl", "version")
    unknown = set(payload["critical"]) - {"critical", "repository", *shape}
    need(not unknown, f"{what} has the critical fields {sorted(unknown)}: use a newer drctl", "version")
    return payload


WHOLE, CHUNK_SIZE, FRAME_SIZE = range(MAX_WHOLE + 1), range(1, 8 * MIB + 1), range(17, 64 * MIB)
ID16, HASH = sized(16), sized(32)
COMPONENT = re.compile(r"[a-z][a-z0-9-]{0,40}")
RUN_ID = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z-[0-9a-f]{32}", re.ASCII)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
HEX_ID = re.compile("[0-9a-f]{32}")
KEYS_NAME = re.compile(r"(?!0{6})\d{6}-(?!0{6})\d{6}", re.ASCII)
PATH = lambda value: isinstance(value, str) and 1 <= len(value.encode()) <= 4096 and "\0" not in value  # noqa: E731
REFERENCE = (ID16, WHOLE, range(80, 64 * MIB), range(17, MAX_FRAME + 1), HASH)
ROOT = either(None, (range(9), REFERENCE))
RECORDS = {
    "e": (PATH, str), "z": (WHOLE, range(1, MAX_WHOLE)), "f": (WHOLE, dict), "k": (ID16, WHOLE, WHOLE),
    "x": (WHOLE, CHUNK_SIZE, HASH, WHOLE, CHUNK_SIZE, ID16, range(1 << 16), range(PACK_HEADER, 64 * MIB), FRAME_SIZE),
    "i": (PATH, range(-1, MAX_WHOLE + 1), *REFERENCE, range(1, MAX_WHOLE)),
}  # fmt: skip
READ_WRAPS, SNAPSHOT_ROWS = {"catalog": str, "open": str, "signing": str}, [(COMPONENT, RUN_ID, HASH)]
REPOSITORY = {"format": WHOLE, "created": TIME, "grace_seconds": range(2, MAX_WHOLE), "signing_key": str}
KEYS = {
    "format": WHOLE, "epoch": WHOLE, "generation": WHOLE, "created": TIME, "suite": WHOLE, "public_key": sized(1216),
    "recipients": [{"name": str, "kind": str, "role": either("write", "read", "both"), "wraps": {"catalog": str}}],
    "earlier": either(None, {"snapshots": SNAPSHOT_ROWS}),
}  # fmt: skip
SNAPSHOT = {
    "format": WHOLE, "id": RUN_ID, "component": COMPONENT, "kind": str, "time": TIME, "started": TIME, "commit_by": TIME,
    "parent": either(None, RUN_ID), "status": either("good", "damaged"), "keys": (WHOLE, WHOLE, HASH), "entries": ROOT,
    "packs": ROOT, "entry_count": WHOLE, "bytes_source": WHOLE, "bytes_new": WHOLE, "bytes_stored": WHOLE,
    "seen": [(RUN_ID, HASH)], "notes": [(str, WHOLE, HASH)], "warnings": [str], "source": dict, "tool": str,
}  # fmt: skip
FOOTER = {"frames": [(HASH, CHUNK_SIZE, WHOLE, WHOLE, WHOLE)], "sources": [dict]}
RETIRED = {"format": WHOLE, "time": TIME, "snapshots": [(COMPONENT, RUN_ID, HASH, str)]}


# --- keys, and whom to trust (sections 3.2, 4 and 5) ---


def lp(data: bytes) -> bytes:
    """Length-prefixed bytes."""
    return struct.pack(">H", len(data)) + data


def hkdf(ikm: bytes, salt: bytes | None, info: bytes, size: int) -> bytes:
    """HKDF with SHA-256."""
    return HKDF(hashes.SHA256(), size, salt, info).derive(ikm)


def open_aead(key: bytes, nonce: bytes, aad: bytes, ciphertext: bytes) -> bytes | None:
    """The plaintext, or None when it does not open."""
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, aad)
    except (InvalidTag, ValueError):
        return None


def open_key(seed: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    """The two private halves of X-Wing."""
    d_z, x25519 = struct.unpack("64s32s", hashlib.shake_256(seed).digest(96))
    return MLKEM768PrivateKey.from_seed_bytes(d_z), X25519PrivateKey.from_private_bytes(x25519)


class KeyFile(NamedTuple):
    """The valid key file of an epoch."""

    epoch: int
    generation: int
    public_key: bytes
    payload: dict[str, Any]


class Repository:
    """A repository directory whose signatures were checked; ``ask`` gets (wrap, recipient, key file, purpose, binding)."""

    def __init__(self, root: str, trust: str | None, key_file: str | None, unwrapped: str | None) -> None:
        self.root, self.digests = Path(root), dict[str, str]()
        self.epochs, self.secrets = dict[int, KeyFile](), dict[tuple[int, str], bytes]()
        self.file_key, self.unwrapped = b"", None
        if key_file:
            match = re.fullmatch(r"drctl key file, version 1\n([0-9a-f]{64})\n?", Path(key_file).read_text())
            need(match, f"{key_file} is not a key file", "no-key")
            self.file_key = bytes.fromhex(match[1]) if match else b""
        if unwrapped:
            self.unwrapped = parse(Path(unwrapped).read_bytes(), unwrapped)
        if not trust:
            print("warning: no --trust: the repository itself says whom to trust", file=sys.stderr)
        self.id, self.signer, self.trust = b"", b"", trust
        self.signed("repository", "repository.json", 64 * KIB, REPOSITORY)
        for short in self.names("keys", KEYS_NAME):
            self._read_keys(short)
        need(self.epochs, "there is no key file", "missing")

    def open(self, name: str) -> BinaryIO:
        """An object as a file."""
        try:
            return (self.root / name).open("rb")
        except (FileNotFoundError, NotADirectoryError):
            raise Fault(f"missing: {name} does not exist") from None

    def names(self, folder: str, pattern: re.Pattern[str]) -> list[str]:
        """The names of that shape in a folder, in order; others are ignored."""
        path = self.root / folder
        return sorted(p.name for p in path.iterdir() if pattern.fullmatch(p.name)) if path.is_dir() else []

    def signed(self, purpose: str, name: str, limit: int, shape: dict[str, Any]) -> Any:
        """The payload of a signed document; repository.json says by which key, and must say the trusted one."""
        with self.open(name) as file:
            data = file.read(limit + 1)
        need(len(data) <= limit, f"{name} is larger than {limit} bytes")
        lines = data.split(b"\n", 2)
        need(len(lines) == 3, f"{name} has less than two lines", "truncated")
        need(not lines[2], f"{name} has bytes behind its signature", "trailing")
        if purpose == "repository":
            root = check_fields(parse(lines[0], name), {"repository": HEX_ID, **shape}, name)
            key = root["signing_key"]
            need(self.trust in {None, key}, f"{name} names {key}, which is not the trusted key", "trust")
            need(key[:8] == "ed25519:" and sized(32)(key[8:]), f"{name}: signing key")
            self.id, self.signer = bytes.fromhex(root["repository"]), unb64(key[8:], "the key")
        try:
            text = b"drctl/v1/signed" + lp(purpose.encode()) + lp(name.encode()) + lines[0]
            signature = unb64(lines[1].decode("latin-1"), f"the signature of {name}")
            Ed25519PublicKey.from_public_bytes(self.signer).verify(signature, text)
        except (InvalidSignature, ValueError):
            raise Fault(f"signature: {name} is not signed by the trusted key") from None
        self.digests[name] = b64(blake3(data).digest())
        payload = check_fields(parse(lines[0], name), shape, name)
        need(payload.get("repository") == self.id.hex(), f"{name} is of another repository")
        return payload

    def _read_keys(self, short: str) -> None:
        name, (epoch, generation) = f"keys/{short}", map(int, short.split("-"))
        payload = self.signed("keys", name, 16 * MIB, KEYS)
        inside = (payload["epoch"], payload["generation"])
        need(inside == (epoch, generation), f"{name} bears another name inside")
        need(payload["suite"] == 1, f"{name} has an unknown suite: use a newer drctl", "version")
        for recipient in payload["recipients"]:
            right = {"catalog": str} if recipient["role"] == "write" else READ_WRAPS
            good = fits(recipient["wraps"], right) and len(recipient["wraps"]) == len(right)
            need(good, f"{name}: '{recipient['name']}' has not just the wraps of its role")
        keys = KeyFile(epoch, generation, unb64(payload["public_key"], "the public key"), payload)
        same = self.epochs.get(epoch, keys).public_key == keys.public_key
        need(same, f"{name} changes the public key of its epoch")
        self.epochs[epoch] = keys  # names are read in order: the highest generation stays

    def keys_of(self, epoch: int, what: str) -> KeyFile:
        """The valid key file of an epoch."""
        need(epoch in self.epochs, f"the key file of epoch {epoch} for {what} does not exist", "missing")
        return self.epochs[epoch]

    def binding(self, keys: KeyFile, purpose: str) -> bytes:
        """What a wrap is bound to."""
        parts = lp(purpose.encode()) + lp(hashlib.sha256(keys.public_key).digest()) + lp(self.signer)
        return b"drctl/v1/wrap" + lp(self.id) + struct.pack(">I", keys.epoch) + parts

    def _unwrap(self, keys: KeyFile, purpose: str) -> bytes:
        binding = self.binding(keys, purpose)
        for recipient in keys.payload["recipients"]:
            wrap, plain = recipient["wraps"].get(purpose), None
            if wrap and recipient["kind"] == "key-file" and self.file_key:
                need(wrap.startswith("kf1:"), "a key-file wrap does not begin with kf1:")
                raw = unb64(wrap[4:], "a key-file wrap")
                plain = open_aead(
                    self.file_key, raw[:12], binding, raw[12:]
                )  # None: perhaps another key file's
            elif wrap and recipient["kind"] == "vault" and self.unwrapped:
                plain = unb64(self.unwrapped.get(str(keys.epoch), {}).get(purpose, ""), "an unwrapped secret")
            if plain:
                bound = hmac.compare_digest(plain[:32], hashlib.sha256(binding).digest())
                need(bound, f"the {purpose} wrap is bound to something else", "authentication")
                return plain[32:]
        raise Fault(f"no-key: no key at hand unwraps the {purpose} secret of epoch {keys.epoch}")

    def secret(self, keys: KeyFile, purpose: str) -> bytes:
        """The catalog or the open secret of an epoch, compared with what is signed."""
        if (keys.epoch, purpose) not in self.secrets:
            secret = self._unwrap(keys, purpose)
            right = len(secret) == (64 if purpose == "catalog" else 32)
            if right and purpose == "open":
                public = b"".join(half.public_key().public_bytes_raw() for half in open_key(secret))
                right = public == keys.public_key
            elif right:
                right = all(o[32:] == secret[32:] for (_, p), o in self.secrets.items() if p == purpose)
            need(right, f"the {purpose} secret of epoch {keys.epoch} is not the right one", "authentication")
            self.secrets[keys.epoch, purpose] = secret
        return self.secrets[keys.epoch, purpose]

    def check_id(self, keys: KeyFile, kind: str, content: bytes, expected: str, what: str) -> bytes:
        """``content``, if its chunk id or page id (``kind``) is as expected."""
        key = hkdf(self.secret(keys, "catalog")[32:], None, b"drctl/v1/" + kind.encode(), 32)
        need(b64(blake3(content, key=key).digest()) == expected, f"{what} is not what was asked for", kind)
        return content


# --- sealed objects and packs (sections 3.1 and 7) ---


def one_frame(data: bytes, limit: int, what: str) -> bytes:
    """Decompress just one zstd frame, which states its size; the size is checked before anything is decompressed."""
    need(data[:4] == b"\x28\xb5\x2f\xfd", f"{what} is not a zstd frame")
    try:
        info, decompressor = zstd.get_frame_info(data[:18]), zstd.ZstdDecompressor()
        stated = -1 if info.decompressed_size is None or info.dictionary_id else info.decompressed_size
        need(0 <= stated <= limit, f"{what} states no size or over {limit} bytes, or wants a dictionary")
        content = decompressor.decompress(data, max_length=stated + 1)
    except zstd.ZstdError:
        raise Fault(f"structure: {what} is not a zstd frame") from None
    need(decompressor.eof and len(content) == stated, f"{what} has not the size that it states")
    need(not decompressor.unused_data, f"{what} has bytes behind its zstd frame", "trailing")
    return content


def size_of(file: BinaryIO) -> int:
    """The size of an open file."""
    return os.fstat(file.fileno()).st_size


class Sealed:
    """A sealed object whose commitment is right; a footer begins at ``start`` in its pack."""

    def __init__(self, repo: Repository, kind: str, name: str, file: BinaryIO, start: int, end: int) -> None:
        self.name, self.file, self.start, self.end = name, file, start, end
        need(end - start >= SEALED_HEADER, f"{name} ends inside its header", "truncated")
        file.seek(start)
        head = file.read(SEALED_HEADER)
        need(head[:6] == b"drctl" + kind.encode(), f"{name} is not a sealed object of kind {kind}")
        version, self.epoch = struct.unpack(">HI", head[6:12])
        need(version == 1, f"{name} has version {version}: use a newer drctl", "version")
        self.keys = repo.keys_of(self.epoch, name)
        info = b"drctl/v1/sealed" + lp(repo.id) + kind.encode() + head[8:12] + lp(name.encode())
        okm = hkdf(repo.secret(self.keys, "catalog")[:32], head[12:44], info, 64)
        need(hmac.compare_digest(okm[32:], head[44:]), f"{name}: wrong key, moved or altered", "commitment")
        self.key = okm[:32]

    def frame(self, number: int, ciphertext: bytes, *, last: bool = False) -> bytes | None:
        """The plaintext of a frame, or None."""
        nonce = bytes(4) + struct.pack(">Q", number)
        return open_aead(self.key, nonce, b"drctl/v1/frame" + struct.pack(">QB", number, last), ciphertext)

    def frames(self) -> Iterator[bytes]:
        """The data frames in order; nothing may be missing or follow."""
        self.file.seek(self.start + SEALED_HEADER)
        number = 0
        while True:
            head = self.file.read(min(4, self.end - self.file.tell()))
            need(len(head) == 4, f"{self.name} ends before its end frame", "truncated")
            length = int.from_bytes(head)
            need(17 <= length <= MAX_FRAME, f"{self.name}: frame {number} states {length} bytes")
            room = self.end - self.file.tell()
            need(length <= room, f"{self.name} ends inside frame {number}", "truncated")
            ciphertext = self.file.read(length)
            plain = self.frame(number, ciphertext)
            if plain is None:
                break
            yield plain
            number += 1
        plain = self.frame(number, ciphertext, last=True)
        need(plain is not None, f"{self.name}: frame {number} does not open", "authentication")
        need(plain == struct.pack(">Q", number), f"{self.name}: its end does not count {number} frames")
        need(self.file.tell() == self.end, f"{self.name} has bytes behind its end", "trailing")

    def payload(self, limit: int) -> Any:
        """The JSON in the zstd frame in all data frames."""
        data = b""
        for plain in self.frames():
            data += plain
            need(len(data) <= 2 * limit, f"{self.name} is larger than {limit} bytes")
        return parse(one_frame(data, limit, self.name), self.name)


class Pack:
    """A pack whose content key is open."""

    def __init__(self, repo: Repository, pack_id: str) -> None:
        short = unb64(pack_id, "a pack id").hex()
        self.repo, self.name = repo, f"packs/{short[:2]}/{short}"
        with repo.open(self.name) as file:
            head, self.size = file.read(PACK_HEADER), size_of(file)
        need(len(head) == PACK_HEADER, f"{self.name} ends inside its header", "truncated")
        need(head[:6] == b"drctlP" and self.size <= 64 * MIB, f"{self.name} is not a pack, or over 64 MiB")
        version, self.epoch, suite, length = struct.unpack(">6xHI64xHH", head[:80])
        need(version == suite == 1, f"{self.name}: unknown version or suite: use a newer drctl", "version")
        need(length == PACK_HEADER - 80, f"{self.name}: size of the sealed key")
        self.keys = repo.keys_of(self.epoch, self.name)
        place = lp(repo.id) + head[8:12] + lp(self.name.encode())
        info = b"drctl/v1/pack" + head[76:78] + place + lp(hashlib.sha256(self.keys.public_key).digest())
        private = hpke.MLKEM768X25519PrivateKey(*open_key(repo.secret(self.keys, "open")))
        try:
            content_key = SUITE.decrypt(head[80:], private, info)
        except (InvalidTag, ValueError):
            raise Fault(f"authentication: {self.name}: wrong key, moved or altered") from None
        okm = hkdf(content_key, head[12:44], b"drctl/v1/chunks" + place, 64)
        need(hmac.compare_digest(okm[32:], head[44:76]), f"{self.name}: altered header", "commitment")
        self.key = okm[:32]

    def chunk(self, chunk_id: str, size: int, number: int, offset: int, length: int) -> bytes:
        """The content of a frame, which must be the chunk of that id and size."""
        what, nonce = f"{self.name}: frame {number}", struct.pack(">Q", number)
        need(offset + length <= self.size, f"{what} is beyond the end", "truncated")
        with self.repo.open(self.name) as file:
            file.seek(offset)
            plain = open_aead(self.key, bytes(4) + nonce, b"drctl/v1/chunk" + nonce, file.read(length))
        need(plain is not None, f"{what} does not open", "authentication")
        content = one_frame(plain or b"", 8 * MIB, what)
        need(len(content) == size, f"{what} has {len(content)} bytes, not {size}")
        return self.repo.check_id(self.keys, "chunk-id", content, chunk_id, what)

    def check(self, size: int) -> None:
        """Read the whole pack and its footer."""
        need(self.size >= size, f"{self.name} has {self.size} bytes, not {size}", "truncated")
        need(self.size == size, f"{self.name} has {self.size} bytes, not {size}", "trailing")
        with self.repo.open(self.name) as file:
            file.seek(-12, os.SEEK_END)
            length, mark = struct.unpack(">I8s", file.read())
            room = self.size - 12 - PACK_HEADER
            need(mark == b"drctlEND", f"{self.name} does not end as a pack does", "truncated")
            need(SEALED_HEADER + 24 <= length <= room, f"{self.name}: size of its footer")
            sealed = Sealed(self.repo, "F", self.name, file, self.size - 12 - length, self.size - 12)
            need(sealed.epoch == self.epoch, f"{self.name}: its footer is of another epoch")
            footer = check_fields(sealed.payload(16 * MIB), FOOTER, self.name)
        frames, offset = footer["frames"], PACK_HEADER
        filled = sum(row[2] for row in frames) == room - length and len(frames) <= 1 << 16
        sourced = all(row[3] < len(footer["sources"]) for row in frames)
        need(filled and sourced, f"{self.name}: its footer does not fit")
        for number, (chunk_id, chunk_size, frame_size, _, _) in enumerate(frames):
            self.chunk(chunk_id, chunk_size, number, offset, frame_size)
            offset += frame_size


# --- snapshots and their catalogs (sections 8 and 10) ---


Records = Iterator[tuple[str, list[Any]]]


class Snapshot:
    """A snapshot whose header opens and is believed."""

    def __init__(self, repo: Repository, name: str) -> None:
        self.repo, self.name, self.catalogs = repo, name, set[str]()
        _, self.component, self.id = name.split("/")
        with repo.open(name) as file:
            self.digest, size = b64(blake3(file.read(64 * KIB + 1)).digest()), size_of(file)
            need(size <= 64 * KIB, f"{name} is larger than 64 KiB")
            sealed = Sealed(repo, "S", name, file, 0, size)
            self.header = header = check_fields(sealed.payload(64 * KIB), SNAPSHOT, name)
        id_time = re.sub(r"(....)(..)(..T..)(..)(..Z).*", r"\1-\2-\3:\4:\5", self.id)
        same = (header["id"], header["component"], header["time"]) == (self.id, self.component, id_time)
        need(same, f"{name} bears another name inside")
        epoch, generation, digest = header["keys"]
        need(epoch == sealed.epoch, f"{name} names the key file of another epoch")
        key_file = f"keys/{epoch:06}-{generation:06}"
        known = repo.digests.get(key_file) or (digest if repo.epochs[epoch].generation > generation else None)
        need(known, f"{key_file}, under which {name} was sealed, does not exist", "missing")
        need(known == digest, f"{key_file} is not the one that {name} was sealed under", "authentication")
        later = [keys.payload["earlier"] or {"snapshots": []} for e, keys in repo.epochs.items() if e > epoch]
        accepted = any([self.component, self.id, self.digest] in earlier["snapshots"] for earlier in later)
        need(accepted or not later, f"{name} is of an earlier epoch, and no later one accepts it", "trust")

    def _open_page(self, reference: list[Any], what: str) -> list[bytes]:
        short = unb64(reference[0], what).hex()
        name = f"catalogs/{short[:2]}/{short}"
        self.catalogs.add(name)
        with self.repo.open(name) as file:
            size = size_of(file)
            need(size <= 64 * MIB, f"{name} is larger than 64 MiB")
            sealed = Sealed(self.repo, "C", name, file, 0, size)
            need(sum(reference[2:4]) <= size, f"{what} is beyond the end of {name}", "truncated")
            file.seek(reference[2])
            plain = sealed.frame(reference[1], file.read(reference[3]))
        need(plain is not None, f"{what} does not open", "authentication")
        content = one_frame(plain or b"", MIB, what)
        lines = self.repo.check_id(sealed.keys, "page-id", content, reference[4], what).split(b"\n")
        need(len(lines) > 2 and not lines.pop(), f"{what} has no record, or no LF at its end")
        return lines

    def tree(self, tree: str) -> Records:
        """(path of its entry, record) of each record of a tree, in order."""
        if self.header[tree]:
            yield from self._page(tree, self.header[tree][0], self.header[tree][1], None, [(b"", -2)])

    def _page(self, tree: str, level: int, reference: Any, first: Any, last: Any) -> Records:
        """Walk a page; ``first``: (path, offset, number of records), ``last``: key of the leaf record before."""
        what = f"{self.name}: page {reference[1]} of {reference[0]}"
        head, *records = (parse(line, what) for line in self._open_page(reference, what))
        need(fits(head, (lambda v: v == "page", range(9), str, str)), f"{what} begins wrongly")
        need(head[2] in {"entries", "packs"}, f"{what} is of the unknown tree '{head[2]}'", "version")
        need(head[1:3] == [level, tree], f"{what} is of another level or tree")
        path, found, before = head[3], 0, (b"", -2)
        need(bool(path) == (records[0][:1] in (["x"], ["z"], ["f"])), f"{what}: its context")
        for index, record in enumerate(records):
            path, offset = record_key(record, level, tree, path, what)
            key = (path.encode(), offset)
            need(index or not first or first[:2] == key, f"{what} does not begin where its reference says")
            need(before < key, f"{what}: its records are not in order")
            before = key
            if level:
                found += record[8]
                yield from self._page(tree, level - 1, record[3:8], (*key, record[8]), last)
            else:
                found += 1
                need(last[0] < key, f"{what}: its records are not in order")
                last[0] = key
                yield path, record
        need(not first or first[2] == found, f"{what} has {found} records below it, not {first and first[2]}")

    def records(self) -> Records:
        """(path, record) of the entries; the extents of each cover it from 0 to its size."""
        current, covered = None, 0
        for path, record in self.tree("entries"):
            if record[0] == "e":
                need(current is None, f"{self.name}: entry '{current}' is not finished")
                current, covered = path, 0
            else:
                right = current == path and record[1] == covered
                need(right, f"{self.name}: the extents of '{path}' have a gap or an overlap")
                covered += record[2] if record[0] != "f" else 0
                current = None if record[0] == "f" else path
            yield path, record
        need(current is None, f"{self.name}: entry '{current}' is not finished")

    def check_catalog(self) -> dict[str, int]:
        """Read the whole catalog; return the packs that it refers to, with their sizes."""
        named, count = set[str](), 0
        for _, record in self.records():
            named |= {record[6]} if record[0] == "x" else set()
            count += record[0] == "e"
        need(count == self.header["entry_count"], f"{self.name} has {count} entries, not as many as it says")
        packs = {record[1]: record[2] for _, record in self.tree("packs")}
        need(named == packs.keys(), f"{self.name}: its packs tree does not list just the packs it uses")
        return packs

    def contents(self, prefix: str) -> Iterator[tuple[str, bytes | int | None]]:
        """Per entry, in order: (path, None), then (path, part) for its content: bytes, or a number of zeros."""
        packs: dict[str, Pack] = {}
        last: tuple[list[Any], bytes] = ([], b"")
        for path, record in self.records():
            if not path.startswith(prefix) or record[0] == "f":
                continue
            if record[0] != "x":
                yield path, None if record[0] == "e" else record[2]
                continue
            _, _, length, chunk_id, start, chunk_size, pack_id, *place = record
            pack = packs.pop(pack_id, None) or Pack(self.repo, pack_id)
            packs = {**(packs if len(packs) < 64 else {}), pack_id: pack}
            if last[0] != record[3:4] + record[5:]:
                last = (record[3:4] + record[5:], pack.chunk(chunk_id, chunk_size, *place))
            yield path, last[1][start : start + length]


def record_key(record: Any, level: int, tree: str, path: str, what: str) -> tuple[str, int]:
    """The key of a record, which must have its shape; ``path`` is that of the record before it."""
    need(isinstance(record, list) and record and isinstance(record[0], str), f"{what}: a record's type")
    letter, rest = record[0], record[1:]
    need(letter in RECORDS, f"{what}: unknown record '{letter}': use a newer drctl", "version")
    place = "i" if level else "k" if tree == "packs" else "exzf"
    need(letter in place and fits(rest, RECORDS[letter]), f"{what}: a wrong record '{letter}'")
    if letter in "ei":
        return rest[0], rest[1] if letter == "i" else -1
    if letter == "k":
        return unb64(rest[0], what).hex(), -1
    if letter == "f":
        need(len(compact(rest[1])) <= 64 * KIB, f"{what}: metadata over 64 KiB")
        return path, MAX_WHOLE
    need(letter == "z" or rest[3] + rest[1] <= rest[4], f"{what}: an extent of '{path}' is beyond its chunk")
    return path, rest[0]


def snapshot_names(repo: Repository) -> list[str]:
    """All snapshots, the oldest first in each component."""
    components = repo.names("snapshots", COMPONENT)
    return [f"snapshots/{c}/{i}" for c in components for i in repo.names(f"snapshots/{c}", RUN_ID)]


def retired(repo: Repository) -> dict[str, str]:
    """Names and digests of the snapshots that are none any more; what is not well signed retires nothing."""
    gone: dict[str, str] = {}
    for run_id in repo.names("retired", RUN_ID):
        try:
            payload = repo.signed("retired", f"retired/{run_id}", 256 * MIB, RETIRED)
            gone |= {f"snapshots/{row[0]}/{row[1]}": row[2] for row in payload["snapshots"]}
        except Fault as fault:
            print(f"warning: ignored: {fault}", file=sys.stderr)
    return gone


def find(repo: Repository, wanted: str) -> Snapshot:
    """The snapshot of that id, or the newest good one of ``latest:COMPONENT`` (not one from beyond tomorrow)."""
    gone, tomorrow = retired(repo), f"{dt.datetime.now(dt.UTC) + dt.timedelta(days=1):%Y%m%dT%H%M%SZ}"
    for name in reversed(snapshot_names(repo)):
        _, component, snapshot_id = name.split("/")
        if wanted not in {snapshot_id, f"latest:{component}"}:
            continue
        snapshot = Snapshot(repo, name)
        newest = snapshot.header["status"] == "good" and snapshot_id < tomorrow
        if gone.get(name) != snapshot.digest and (wanted == snapshot_id or newest):
            return snapshot
        print(f"warning: passed over {name}: retired, damaged, or from the future", file=sys.stderr)
    raise Fault(f"missing: there is no snapshot {wanted}")


# --- commands ---


def command_list(repo: Repository, _: argparse.Namespace) -> int:
    """List the snapshots; what does not open or is missing is said, too."""
    gone, bad, named, seen = retired(repo), list[str](), dict[str, str](), dict[str, str]()
    for keys in repo.epochs.values():
        rows = (keys.payload["earlier"] or {"snapshots": []})["snapshots"]
        named |= {f"snapshots/{component}/{short}": digest for component, short, digest in rows}
    for name in snapshot_names(repo):
        try:
            snapshot = Snapshot(repo, name)
        except Fault as fault:
            seen[name] = ""
            bad.append(str(fault))
            continue
        header, folder = snapshot.header, f"snapshots/{snapshot.component}"
        named |= {f"{folder}/{row[0]}": row[1] for row in header["seen"]}
        if header["parent"]:
            named.setdefault(f"{folder}/{header['parent']}", "")
        if gone.get(name) != snapshot.digest:
            seen[name] = snapshot.digest
            facts = f"{header['status']} {header['kind']} {header['bytes_source']} bytes"
            print(snapshot.component, snapshot.id, facts)
    for name, digest in sorted(named.items()):
        if name not in seen and name not in gone:
            bad.append(f"missing: {name} is named by another object and does not exist")
        elif digest and seen.get(name, "") not in {"", digest}:
            bad.append(f"authentication: {name} is not the one that another object names")
    for line in bad if seen or bad else ["missing: there is no snapshot"]:
        print(line, file=sys.stderr)
    return 0 if seen and not bad else 3


def command_show(repo: Repository, arguments: argparse.Namespace) -> int:
    """Show the header and the entries of a snapshot."""
    snapshot = find(repo, arguments.snapshot)
    snapshot.check_catalog()
    print(json.dumps(snapshot.header, indent=1))
    for path, record in snapshot.records():
        if record[0] == "f":
            print(record[1], json.dumps(path), json.dumps(record[2]))
    return 0


def command_check(repo: Repository, arguments: argparse.Namespace) -> int:
    """Read everything that a snapshot refers to, write nothing."""
    snapshot = find(repo, arguments.snapshot)
    packs = snapshot.check_catalog()
    for name in sorted(snapshot.catalogs):
        with repo.open(name) as file:
            sum(map(len, Sealed(repo, "C", name, file, 0, size_of(file)).frames()))
    for pack_id, size in packs.items():
        Pack(repo, pack_id).check(size)
    print(sum(part is None for _, part in snapshot.contents("")), "entries are well")
    return 0


def command_extract(repo: Repository, arguments: argparse.Namespace) -> int:
    """Write entries as files into a new directory."""
    target, snapshot = Path(arguments.to), find(repo, arguments.snapshot)
    empty = target.is_dir() and not any(target.iterdir())
    need(empty or not os.path.lexists(target), f"{target} is there already", "refused")
    snapshot.check_catalog()
    if arguments.numbered:
        numbers = write_names(snapshot, arguments.path, target)
        return write_out(snapshot, arguments.path, lambda path: target / numbers[path])
    folders = set[str]()
    for path, record in snapshot.records():
        if record[0] == "e" and path.startswith(arguments.path):
            unsafe = {"", ".", ".."} & set(path.split("/")) or re.search(r"[\\\x00-\x1f\x7f-\x9f]", path)
            what = f"entry {path!r} must not be a file name: choose others with --path, or give --numbered"
            need(not unsafe, what, "refused")
            folders |= {path} if record[2] == "directory" else set()
    return write_out(snapshot, arguments.path, lambda path: target / path, folders)


def write_names(snapshot: Snapshot, prefix: str, target: Path) -> dict[str, str]:
    """Write names.jsonl, which says what each number stands for; return the numbers by path."""
    numbers, kind = dict[str, str](), ""
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = target / ".partial-names"
    with partial.open("w", encoding="ascii") as file:
        for path, record in snapshot.records():
            if record[0] == "e":
                kind = record[2]
            elif record[0] == "f" and path.startswith(prefix):
                numbers[path] = f"{len(numbers) + 1:08}"
                row = {
                    "file": numbers[path],
                    "path": path,
                    "kind": kind,
                    "size": record[1],
                    "meta": record[2],
                }
                file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.rename(target / "names.jsonl")
    return numbers


def command_archive(repo: Repository, arguments: argparse.Namespace) -> int:
    """Write the archive of a postgres-dump, for pg_restore."""
    snapshot = find(repo, arguments.snapshot)
    snapshot.check_catalog()
    return write_out(snapshot, "archive/", lambda _: Path(arguments.to))


def write_out(
    snapshot: Snapshot, prefix: str, place: Callable[[str], Path], folders: Collection[str] = ()
) -> int:
    """Write entries to their places; those with the same place are joined. A file gets its name when it is complete."""
    final, partial, count = Path(), Path(), 0

    def finish() -> None:
        file.truncate()  # zeros at the end are a hole
        file.flush()
        os.fsync(file.fileno())
        need(not os.path.lexists(final), f"{final} exists, or two paths map to it", "refused")
        partial.rename(final)

    file: Any = None
    try:
        for path, part in snapshot.contents(prefix):
            if part is not None:
                need(file, f"the directory '{path}' has content")
                file.seek(part, os.SEEK_CUR) if isinstance(part, int) else file.write(part)
            else:
                count += 1
                if file and final == place(path):
                    continue
                if file:
                    finish()
                    file.close()
                    file = None
                final = place(path)
                if path in folders:
                    final.mkdir(mode=0o700, parents=True, exist_ok=True)
                    continue
                need(not os.path.lexists(final), f"{final} exists, or two paths map to it", "refused")
                final.parent.mkdir(parents=True, exist_ok=True)
                descriptor, temporary = tempfile.mkstemp(prefix=".partial-", dir=final.parent)
                file, partial = os.fdopen(descriptor, "wb"), Path(temporary)
        need(count, f"{snapshot.name} has no entry that begins with '{prefix}'", "missing")
        if file:
            finish()
    finally:
        if file:
            file.close()
            partial.unlink(missing_ok=True)
    print(count, "entries were written")
    return 0


def command_unwrap(repo: Repository, arguments: argparse.Namespace) -> int:
    """Print a shell script that asks Vault for the secrets and prints the file for --unwrapped."""
    print(
        'set -eu\nask() { ${VAULT:-vault} write -field=plaintext "$@"; }  # VAULT=bao for OpenBao\nprintf "{"'
    )
    for index, (epoch, keys) in enumerate(repo.epochs.items()):
        vaults = [r for r in keys.payload["recipients"] if r["kind"] == "vault" and "open" in r["wraps"]]
        wraps = [r["wraps"] for r in vaults if arguments.recipient in {None, r["name"]}]
        need(wraps, f"epoch {epoch} has no such vault recipient with the read role", "no-key")
        for purpose in ("catalog", "open"):
            context = f"context={b64(hashlib.sha256(repo.binding(keys, purpose)).digest())}"
            path = f"{arguments.mount}/decrypt/{arguments.transit_key}"
            words = shlex.join([path, f"ciphertext={wraps[0][purpose]}", context])
            print(f"{purpose}=$(ask {words})")
        comma = "," if index else ""
        print(f"""printf '{comma}"{epoch}":{{"catalog":"%s","open":"%s"}}' "$catalog" "$open" """)
    print('echo "}"')
    return 0


def main(argv: list[str]) -> int:
    """Parse the command line and run one command."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(required=True)
    for run in (command_list, command_show, command_check, command_extract, command_archive, command_unwrap):
        name = run.__name__.removeprefix("command_").replace("unwrap", "unwrap-commands")
        command = commands.add_parser(name, help=run.__doc__)
        command.set_defaults(run=run, key_file=None, unwrapped=None)
        command.add_argument("repository", help="the directory that holds the copied repository")
        command.add_argument("--trust", metavar="ed25519:...", help="repository.trust of drctl.yaml")
        if name == "unwrap-commands":
            command.add_argument("--transit-key", required=True, help="the recipient's Transit key")
            command.add_argument("--mount", default="transit", help="where Transit is mounted")
            command.add_argument("--recipient", help="the recipient's name, where several are of kind vault")
            continue
        keys = command.add_mutually_exclusive_group(required=True)
        keys.add_argument("--key-file", help="a drctl key file")
        keys.add_argument("--unwrapped", help="what the script of unwrap-commands printed")
        if name != "list":
            command.add_argument("snapshot", help="a snapshot's id, or latest:COMPONENT")
        if name in {"extract", "archive"}:
            command.add_argument("--to", required=True, help="where to write; must not exist")
        if name == "extract":
            command.add_argument("--path", default="", help="only entries whose path begins with this")
            flat = "name the files by numbers, and list their paths in names.jsonl: for names that no file may have"
            command.add_argument("--numbered", action="store_true", help=flat)
    arguments = parser.parse_args(argv)
    try:
        repo = Repository(arguments.repository, arguments.trust, arguments.key_file, arguments.unwrapped)
        return int(arguments.run(repo, arguments))
    except Fault as fault:
        print(fault, file=sys.stderr)
    except OSError as error:
        numbered = "; --numbered avoids such names" if error.errno == errno.ENAMETOOLONG else ""
        print(f"system: {error.strerror}: {error.filename}{numbered}", file=sys.stderr)
    return 3


if __name__ == "__main__":
    os.umask(0o077)  # what is written is plaintext
    sys.exit(main(sys.argv[1:]))
