"""The marks of a cluster's pages: the low half of each page's LSN, so that a later full read can tell which pages are of another version.

Four bytes for each page of the relations' main forks, kept as a note beside the snapshot (docs/format.md, section 9).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from dr_toolkit.errors import SourceError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]
else:
    from dr_toolkit.postgres import numpy_later as np

    Array = Any

NOTE = "page-marks"
_FORMAT = 1
_MARK = "<u4"
_MARK_BYTES = 4


class _Head(msgspec.Struct):
    format: int
    files: list[tuple[str, int]]


_DECODER = msgspec.json.Decoder(_Head)
"""Made here, by one thread: msgspec crashes the process when two threads meet a type for the first time at once."""


@dataclass(slots=True)
class Marks:
    """Marks of files, by path.

    Attributes:
        files: an array of little-endian u32 for each file.
    """

    files: dict[str, Array] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """As a note."""
        rows = [(path, len(self.files[path])) for path in sorted(self.files)]
        head = msgspec.json.encode(_Head(_FORMAT, rows))
        return b"".join([head, b"\n", *(self.files[path].tobytes() for path, _count in rows)])

    @classmethod
    def decoded(cls, note: bytes) -> Marks:
        """From a note.

        Raises:
            SourceError: it is none that we know.
        """
        line, _, body = note.partition(b"\n")
        try:
            head = _DECODER.decode(line)
        except msgspec.MsgspecError as error:
            raise SourceError(f"the marks of the parent's pages cannot be understood: {error}") from error
        if head.format != _FORMAT or sum(count for _path, count in head.files) * _MARK_BYTES != len(body):
            raise SourceError("the marks of the parent's pages are of another format")
        marks, position = cls(), 0
        for path, count in head.files:
            marks.files[path] = np.frombuffer(body, _MARK, count, position)
            position += count * _MARK_BYTES
        return marks


def lsns(content: bytes | memoryview, block: int, *, order: str = "<") -> Array:
    """The LSN of each whole page, as u64; 0 for a page that was never written.

    Args:
        content: whole pages; what follows the last whole one is left out.
        block: bytes of a page.
        order: the server's byte order.
    """
    words = np.frombuffer(content, f"{order}u4", len(content) // block * (block // 4)).reshape(-1, block // 4)
    return (words[:, 0].astype(np.uint64) << np.uint64(32)) | words[:, 1].astype(np.uint64)


def marks_of(found: Array) -> Array:
    """The marks of pages with these LSNs."""
    return (found & np.uint64(0xFFFFFFFF)).astype(_MARK)


def none(count: int) -> Array:
    """The marks of pages that are zero."""
    return np.zeros(count, _MARK)


def joined(parts: list[Array]) -> Array:
    """The marks of a whole file."""
    return np.concatenate(parts) if parts else none(0)
