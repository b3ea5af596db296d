"""Small stand-ins for the two interfaces between a component and the repository."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dr_toolkit.repository.entries import Cutting, EntryInfo

PATH_LIMIT = 4096
META_LIMIT = 64 << 10


@dataclass
class StoredEntry:
    """One entry as the sink took it.

    ``cuts`` are the offsets at which `cut` was called.
    """

    kind: str
    cutting: Cutting
    content: bytearray = field(default_factory=bytearray)
    cuts: list[int] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)


ROOM = 300_000
"""Of a `MemorySink`: a number that is no multiple of anything."""


class MemorySink:
    """A `PouringSink` that insists on the contract; ``fail_after`` bytes it raises ``failure``."""

    def __init__(self, *, fail_after: int | None = None, failure: Exception | None = None) -> None:
        self.entries: dict[str, StoredEntry] = {}
        self.largest_write = 0
        self.poured = 0
        self._room = memoryview(b"")
        self._open: StoredEntry | None = None
        self._left = fail_after
        self._failure = failure or OSError("the sink failed, as it was told to")

    def begin(self, path: str, kind: str, *, cutting: Cutting = "content") -> None:
        assert self._open is None, f"{path} begins inside another entry"
        encoded = path.encode("utf-8")
        assert 0 < len(encoded) <= PATH_LIMIT
        assert all(part not in ("", ".", "..") for part in path.split("/")), path
        assert not any(ord(character) < 32 or ord(character) == 127 for character in path), path
        last = next(reversed(self.entries), "")
        assert encoded > last.encode("utf-8"), f"{path} after {last}"
        self._open = self.entries[path] = StoredEntry(kind, cutting)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert self._open is not None
        self.largest_write = max(self.largest_write, len(data))
        self._open.content += data
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise self._failure

    def room(self, least: int = 1) -> memoryview:
        self._room = memoryview(bytearray(max(least, ROOM)))
        return self._room

    def filled(self, size: int) -> None:
        self.poured += size
        self.write(self._room[:size])

    def cut(self) -> None:
        assert self._open is not None
        self._open.cuts.append(len(self._open.content))

    def end(self, meta: Mapping[str, Any]) -> None:
        assert self._open is not None
        encoded = json.dumps(meta)
        assert len(encoded.encode()) <= META_LIMIT
        self._open.meta = json.loads(encoded)
        self._open = None

    def joined(self, prefix: str) -> bytes:
        """The concatenation of the entries below ``prefix``, in ascending order of path."""
        paths = sorted((path for path in self.entries if path.startswith(prefix)), key=str.encode)
        return b"".join(bytes(self.entries[path].content) for path in paths)


class MemorySource:
    """An `EntrySource` over what a `MemorySink` took."""

    def __init__(self, sink: MemorySink, *, piece: int = 1 << 20) -> None:
        self._entries = sink.entries
        self._piece = piece

    def entries(self, prefix: str = "") -> Iterator[EntryInfo]:
        for path in sorted(self._entries, key=str.encode):
            if path.startswith(prefix):
                entry = self._entries[path]
                yield EntryInfo(path, entry.kind, len(entry.content), entry.meta)

    def read(self, path: str) -> Iterator[bytes]:
        content = self._entries[path].content
        for start in range(0, len(content), self._piece):
            yield bytes(content[start : start + self._piece])
