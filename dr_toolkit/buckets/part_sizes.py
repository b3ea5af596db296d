"""How large the parts of an upload are, so that an object of any size that S3 takes fits into the parts that it takes."""

from __future__ import annotations

PART = 16 << 20
"""Objects up to this size are written by one request, larger ones in parts of at least half of it."""
_LEAST = 8 << 20
_PARTS_LIMIT = 10_000
_MIB = 1 << 20


def part_size(size: int) -> int:
    """Bytes of a part so that at most 10,000 parts make the object: whole MiB, at least 8; ``PART`` for what one request writes."""
    if size <= PART:
        return PART
    needed = -(-size // _PARTS_LIMIT)
    return max(_LEAST, -(-needed // _MIB) * _MIB)
