"""What the server's backup manifest says about WAL, and names of WAL segments. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from dr_toolkit.errors import SourceError

_SEGMENTS_BASE = 1 << 32


class _Range(msgspec.Struct):
    timeline: int = msgspec.field(name="Timeline")
    start: str = msgspec.field(name="Start-LSN")
    end: str = msgspec.field(name="End-LSN")


class _Manifest(msgspec.Struct):
    version: int = msgspec.field(name="PostgreSQL-Backup-Manifest-Version")
    ranges: list[_Range] = msgspec.field(name="WAL-Ranges")


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
        found = msgspec.json.decode(manifest, type=_Manifest)
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
