"""PostgreSQL's INCREMENTAL files: what they say, and how a file is rebuilt from one and the parent's content. No I/O of its own.

The server writes such a file in place of a relation's segment: the numbers of the blocks that may have changed, and their images
(``src/backend/backup/basebackup.c``). The rules for what is not listed are in `pieces`.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from dr_toolkit.errors import SourceError

MAGIC = 0xD3AE1F0D
PREFIX = "INCREMENTAL."
_FIXED = 12
_GLOBAL_SPACE, _DEFAULT_SPACE = 1664, 1663
_RELATION = re.compile(r"(?:base/(\d+)|global)/(?:INCREMENTAL\.)?(\d+)(?:_(fsm|vm|init))?(?:\.(\d+))?")
_FORKS = {None: 0, "fsm": 1, "vm": 2, "init": 3}
VISIBILITY_MAP = _FORKS["vm"]
MAIN = 0


class Unfit(SourceError):
    """An increment cannot be used: the cluster is read whole instead, and the snapshot says why."""


@dataclass(frozen=True, slots=True)
class RelationFile:
    """What a path in the data directory is.

    Attributes:
        tablespace, database, number: of the relation, as the server names it.
        fork: 0 main, 1 free space map, 2 visibility map, 3 init.
        segment: which part of the fork.
    """

    tablespace: int
    database: int
    number: int
    fork: int
    segment: int

    @property
    def relation(self) -> tuple[int, int, int, int]:
        """The fork of the relation, whatever the segment."""
        return self.tablespace, self.database, self.number, self.fork


@dataclass(frozen=True, slots=True)
class Increment:
    """The head of an INCREMENTAL file.

    Attributes:
        blocks: numbers within the segment of the blocks whose images follow, ascending.
        truncation: how many blocks the file has at least; what lies at or above it is not the parent's.
    """

    blocks: tuple[int, ...]
    truncation: int

    @property
    def length(self) -> int:
        """Blocks of the rebuilt file."""
        return max(self.truncation, self.blocks[-1] + 1 if self.blocks else 0)


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes that are built into a server.

    Attributes:
        block: bytes of a block.
        segment: blocks of a segment.
    """

    block: int
    segment: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Successive blocks of a rebuilt file and where they come from: the increment, the parent, or nowhere (zeros)."""

    source: Literal["increment", "parent", "zeros"]
    start: int
    count: int


def relation_file(path: str) -> RelationFile | None:
    """What relation a file belongs to; None when it is no relation's."""
    found = _RELATION.fullmatch(path)
    if found is None:
        return None
    database, number, fork, segment = found.groups()
    space = _DEFAULT_SPACE if database else _GLOBAL_SPACE
    return RelationFile(space, int(database or 0), int(number), _FORKS[fork], int(segment or 0))


def plain_path(path: str) -> str | None:
    """The path of the file that an INCREMENTAL file stands for; None when it is a file of its own.

    Elsewhere than among relations a file may be called so by anybody.
    """
    place, _, name = path.rpartition("/")
    if not name.startswith(PREFIX) or relation_file(path) is None:
        return None
    return f"{place}/{name.removeprefix(PREFIX)}"


def read_head(take: Callable[[int], bytes], size: int, shape: Shape, path: str) -> Increment:
    """Read everything before the images.

    Args:
        take: gives the next n bytes of the file.
        size: of the whole file.
        shape: the server's.
        path: for messages.

    Raises:
        Unfit: it is not as it must be.
    """
    fixed = take(_FIXED) if size >= _FIXED else b""
    order = "<" if fixed[:4] == struct.pack("<I", MAGIC) else ">"
    if fixed[:4] != struct.pack(f"{order}I", MAGIC):
        raise _misshapen(path, "it does not begin as one")
    count, truncation = struct.unpack(f"{order}II", fixed[4:])
    if truncation > shape.segment:
        raise _misshapen(path, "it is longer than a segment, as PostgreSQL before 17.8 and 18.2 wrongly says")
    listed = _FIXED + 4 * count
    head = listed + (-listed % shape.block if count else 0)
    if count > shape.segment or size != head + count * shape.block:
        raise _misshapen(path, "its size does not fit")
    numbers = take(head - _FIXED)[: 4 * count] if count else b""
    blocks = struct.unpack(f"{order}{count}I", numbers)
    if any(b <= a for a, b in itertools.pairwise(blocks)) or (blocks and blocks[-1] >= shape.segment):
        raise _misshapen(path, "its blocks are out of order")
    return Increment(blocks, truncation)


def _misshapen(path: str, why: str) -> Unfit:
    return Unfit(f'the server\'s increment of "{path}" cannot be used: {why}', on=path)


def pieces(increment: Increment, parent: int, limit: int | None) -> Iterator[Piece]:
    """How a file is rebuilt, in order.

    A block that is not listed is the parent's, if the parent's file has it, if it is below the truncation, and if it is below
    the limit: the lowest length that the relation had since the parent. What lies above was cut off and has come
    back without being listed, so it was never written: zeros. (`pg_combinebackup` does not know the last rule.)

    Args:
        increment: the head.
        parent: blocks of the parent's file.
        limit: within this segment; None when the relation was never cut.
    """
    kept = min(increment.truncation, parent, increment.length if limit is None else max(0, limit))
    position = 0
    for start, count in _runs(increment.blocks):
        yield from _unlisted(position, start, kept)
        yield Piece("increment", start, count)
        position = start + count
    yield from _unlisted(position, increment.length, kept)


def _unlisted(start: int, end: int, kept: int) -> Iterator[Piece]:
    middle = max(start, min(end, kept))
    if middle > start:
        yield Piece("parent", start, middle - start)
    if end > middle:
        yield Piece("zeros", middle, end - middle)


def _runs(blocks: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Successive numbers as (first, how many)."""
    start = previous = -2
    for block in blocks:
        if block != previous + 1:
            if start >= 0:
                yield start, previous - start + 1
            start = block
        previous = block
    if start >= 0:
        yield start, previous - start + 1
