"""What the server's backup manifest says about WAL, and names of WAL segments. Pure functions."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from dr_toolkit.errors import SourceError
from dr_toolkit.postgres.base_increment import PREFIX, plain_path

_SEGMENTS_BASE = 1 << 32


class _Range(msgspec.Struct):
    timeline: int = msgspec.field(name="Timeline")
    start: str = msgspec.field(name="Start-LSN")
    end: str = msgspec.field(name="End-LSN")


class _File(msgspec.Struct, omit_defaults=True):
    size: int = msgspec.field(name="Size")
    path: str | None = msgspec.field(name="Path", default=None)
    encoded_path: str | None = msgspec.field(name="Encoded-Path", default=None)
    modified: str | None = msgspec.field(name="Last-Modified", default=None)
    algorithm: str | None = msgspec.field(name="Checksum-Algorithm", default=None)
    checksum: str | None = msgspec.field(name="Checksum", default=None)

    @property
    def name(self) -> str:
        return (
            self.path
            if self.path is not None
            else bytes.fromhex(self.encoded_path or "").decode("utf-8", "surrogateescape")
        )


class _Whole(msgspec.Struct, omit_defaults=True):
    version: int = msgspec.field(name="PostgreSQL-Backup-Manifest-Version")
    files: list[_File] = msgspec.field(name="Files")
    ranges: list[_Range] = msgspec.field(name="WAL-Ranges")
    system: int | None = msgspec.field(name="System-Identifier", default=None)


class _Manifest(msgspec.Struct):
    version: int = msgspec.field(name="PostgreSQL-Backup-Manifest-Version")
    ranges: list[_Range] = msgspec.field(name="WAL-Ranges")


_DECODER = msgspec.json.Decoder(_Manifest)
_DECODER_OF_WHOLE = msgspec.json.Decoder(_Whole)
"""Made here, by one thread: msgspec crashes the process when two threads meet a type for the first time at once."""


@dataclass(frozen=True, slots=True)
class WalRange:
    """WAL that recovery needs: from ``start`` up to ``end`` (bytes of WAL), on one timeline."""

    timeline: int
    start: int
    end: int

    def segments(self, segment_size: int) -> Iterator[str]:
        """Names of the segments that hold it."""
        for number in range(self.start // segment_size, (self.end - 1) // segment_size + 1):
            high, low = divmod(number, _SEGMENTS_BASE // segment_size)
            yield f"{self.timeline:08X}{high:08X}{low:08X}"


def wal_ranges(manifest: bytes) -> list[WalRange]:
    """The WAL that the manifest's backup needs.

    Raises:
        SourceError: it is no manifest that we know.
    """
    try:
        found = _DECODER.decode(manifest)
        ranges = [WalRange(r.timeline, parse_lsn(r.start), parse_lsn(r.end)) for r in found.ranges]
    except (msgspec.MsgspecError, ValueError) as error:
        raise SourceError(
            f"the server's backup manifest cannot be understood: {error}", unaffected="no snapshot was made"
        ) from error
    if not ranges or any(r.start >= r.end for r in ranges):
        raise SourceError(
            "the server's backup manifest names no WAL to recover with", unaffected="no snapshot was made"
        )
    return ranges


def for_upload(manifest: bytes, leave_out: Callable[[str], bool]) -> bytes:
    """A manifest for ``pg_basebackup --incremental``: the server's own, without the files that it is to send whole.

    Args:
        manifest: as the server sent it.
        leave_out: tells by a file's plain path, without ``INCREMENTAL.`` in it.
    """
    found = _whole(manifest)
    found.files = [f for f in found.files if not leave_out(plain_path(f.name) or f.name)]
    return _sealed(found)


def overlaid(manifest: bytes) -> frozenset[str]:
    """Plain paths of the files that the server sent as increments: the manifest does not know their checksums."""
    if PREFIX.encode() not in manifest:
        return frozenset()
    return frozenset(plain for f in _whole(manifest).files if (plain := plain_path(f.name)))


def of_restored(manifest: bytes, checksums: Mapping[str, tuple[int, int]]) -> bytes:
    """The manifest of a cluster that was put together from increments.

    Args:
        manifest: as the server sent it.
        checksums: size and CRC-32C of each file that is not as the server sent it, by plain path.
    """
    found = _whole(manifest)
    for file in found.files:
        plain = plain_path(file.name) or file.name
        if plain in checksums:
            file.size, value = checksums[plain]
            file.path, file.encoded_path = plain, None
            # PostgreSQL writes the number as it lies in memory.
            file.algorithm, file.checksum = "CRC32C", value.to_bytes(4, sys.byteorder).hex()
    return _sealed(found)


def _whole(manifest: bytes) -> _Whole:
    try:
        return _DECODER_OF_WHOLE.decode(manifest)
    except msgspec.MsgspecError as error:
        raise SourceError(f"a backup manifest cannot be understood: {error}") from error


def _sealed(manifest: _Whole) -> bytes:
    """As PostgreSQL reads it: the checksum of everything before it is alone on the last line."""
    body = msgspec.json.encode(manifest).removesuffix(b"}") + b",\n"
    return body + b'"Manifest-Checksum": "' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'


def missing_segments(ranges: list[WalRange], segment_size: int, seen: Mapping[str, int]) -> list[str]:
    """Segments that recovery needs and that were not read whole.

    Args:
        ranges: of the manifest.
        segment_size: bytes of a segment.
        seen: sizes of what was read from ``pg_wal``, by name.
    """
    needed = (name for each in ranges for name in each.segments(segment_size))
    return [name for name in needed if seen.get(name) != segment_size]


def parse_lsn(text: str) -> int:
    """``16/B374D848`` as a number."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) | int(low, 16)


def format_lsn(lsn: int) -> str:
    """A number as ``16/B374D848``."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
