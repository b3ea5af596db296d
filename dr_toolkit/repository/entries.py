"""The two small interfaces between a component and the repository.

A component *writes entries* into a sink while it reads its source, and *reads entries* from a source while it restores.
It knows nothing of chunks, packs and keys; the repository knows nothing of PostgreSQL or S3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Cutting = Literal["content", "fixed", "private"]
"""How an entry's content becomes chunks.

``content``: FastCDC, so that an insertion moves no other cut. ``fixed``: blocks of one size, for files that change in place.
``private``: small and guessable content; stored anew each time under ids that nobody can confirm a guess with.
"""


@dataclass(frozen=True, slots=True)
class EntryInfo:
    """One entry of a snapshot.

    Attributes:
        path: name within the snapshot, unique, ``/``-separated, at most 4,096 bytes of UTF-8.
        kind: what it is, a word chosen by the component (``table-data``, ``toc``, ``globals``).
        size: length of the content in bytes.
        meta: JSON-able facts about it, at most 64 KiB when encoded.
    """

    path: str
    kind: str
    size: int
    meta: Mapping[str, Any] = field(default_factory=dict)


class EntrySink(Protocol):
    """Where a component writes entries, one at a time, in ascending order of their paths' UTF-8 bytes.

    Calls come from one thread. ``write`` may block (backpressure). An error raised by any call is final: the snapshot will
    not be committed, and whoever opened the sink aborts it.
    """

    def begin(self, path: str, kind: str, *, cutting: Cutting = "content") -> None:
        """Open the next entry. ``path`` must sort after every earlier one."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append content. The buffer may be reused by the caller as soon as the call returns."""

    def cut(self) -> None:
        """Force a chunk boundary here, so that what follows deduplicates whatever came before."""

    def end(self, meta: Mapping[str, Any]) -> None:
        """Close the entry and attach its metadata."""


class PouringSink(EntrySink, Protocol):
    """A sink that lends its own memory, so that content which a source reads anyway is not copied once more."""

    def room(self, least: int = 1) -> memoryview:
        """Where the next content may be put, at least so many bytes (up to 256 KiB). To be asked for again after each call of another method."""

    def filled(self, size: int) -> None:
        """The first ``size`` bytes of ``room`` are the next content, as if they had been written."""


class OverlaySink(PouringSink, Protocol):
    """A sink whose snapshot has a parent: an entry may take parts of the parent's entry of the same path, unread."""

    def keep(self, length: int) -> None:
        """The next ``length`` bytes are those of the parent's entry at the same place. Its content must reach so far."""

    def zeros(self, length: int) -> None:
        """The next ``length`` bytes are zero."""


class EntrySource(Protocol):
    """Where a component reads entries. Safe to use from several threads at once."""

    def entries(self, prefix: str = "") -> Iterator[EntryInfo]:
        """Entries whose path starts with ``prefix``, in ascending order of path."""

    def read(self, path: str) -> Iterator[bytes]:
        """The content of one entry, in order, in pieces of bounded size (at most 8 MiB).

        Each piece was opened and checked against its chunk id before it is given out.

        Raises:
            Damaged: something does not open or hash; nothing after the damage is given out.
            ObjectMissing: an object the entry needs is not there.
        """


class ScatteredSource(EntrySource, Protocol):
    """A source that can also give an entry's parts out where they are at hand, which a file can take in any order."""

    def deliver(self, path: str, take: Callable[[int, Iterator[bytes]], None]) -> None:
        """Give out the content of one entry in parts, from several threads at once and in any order; returns when all was taken.

        Args:
            path: of the entry.
            take: gets the offset of a part and its content in pieces, each opened and checked as by ``read`` when it is asked for.

        Raises:
            Damaged: something does not open or hash. Other parts may have been given out.
            ObjectMissing: an object the entry needs is not there.
        """


class BulkSource(EntrySource, Protocol):
    """A source of thousands of small entries: their content is fetched together."""

    def read_many(self, wanted: Iterable[EntryInfo], most: int) -> Iterator[tuple[EntryInfo, bytes | None]]:
        """The content of many entries.

        Args:
            wanted: entries of this source, in ascending order of path. Some are taken ahead of what is given out.
            most: the content of a larger entry is given out as None, to be read by itself.

        Raises:
            Damaged: something does not open or hash; nothing after the damage is given out.
            ObjectMissing: an object that an entry needs is not there.
        """
