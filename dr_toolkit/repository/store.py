"""Where objects live: the small interface that every storage implements.

A *store* keeps objects: a name, and bytes that never change once they are there. It knows nothing of packs, keys or
snapshots. The implementations are ``file_store`` (a directory), ``s3_store`` (a bucket and prefix) and ``memory_store``
(tests); one contract suite, ``tests/unit/test_store_contract.py``, runs over all of them.

Names are relative, ``/``-separated ASCII: each segment is made of letters, digits, ``.``, ``_`` and ``-``, and is not
empty, ``.`` or ``..``; the first one is not ``tmp``, which directories use for unfinished files. So a name means the
same in every storage and can never point outside of it.

Every method may raise ``StoreUnreachable``: the storage could not be reached, or refused for now (network, server
errors, throttling, credentials, permissions), after the retries that the implementation makes itself. The caller need
not retry; the whole run may be tried again later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from dr_toolkit.errors import UsageError

Buffer = bytes | bytearray | memoryview
"""What may be stored. The store never changes it, and keeps no reference after ``put`` returned."""

UNFINISHED = "tmp"
"""The one folder that holds no objects: files that are being written."""

_NAME_LIMIT = 900
_SEGMENT_LIMIT = 255
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """What a store knows of one object without reading it.

    Attributes:
        size: length in bytes.
        modified: when it became visible, by the store's clock. Aware, UTC.
    """

    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class ListedObject:
    """One line of a listing.

    Attributes:
        name: the object's name, relative to the store's root.
        size: length in bytes.
        modified: when it became visible, by the store's clock. Aware, UTC.
    """

    name: str
    size: int
    modified: datetime


class Store(Protocol):
    """A place for objects that are created once and never changed.

    Thread safety: every method may be called from several threads at once, on one and the same store; a listing
    belongs to the thread that began it. Reads see every object whose ``put`` returned before they began.
    """

    def put(self, name: str, data: Buffer) -> None:
        """Create an object. It is durable, and whole, once this returns; a failure leaves nothing or the whole object.

        Idempotent for equal content: if the name exists, what is there is read back, and equal is success (a response
        may have been lost on the way). The caller may reuse the buffer afterwards.

        Raises:
            StoreConflict: the name exists with other content, which is left as it is. Permanent.
            StoreFull: no space. Nothing of the object is left.
        """

    def get(self, name: str) -> bytes:
        """The whole object.

        Raises:
            ObjectMissing: there is no such object. Permanent.
        """

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``; a length of 0 gives ``b""`` without looking.

        Raises:
            ObjectMissing: there is no such object. Permanent.
            Damaged: the object ends before ``offset + length``. Permanent.
        """

    def get_tail(self, name: str, length: int) -> tuple[bytes, int]:
        """The last ``length`` bytes (``length`` > 0), all of it if the object is shorter, and the object's whole size.

        Raises:
            ObjectMissing: there is no such object. Permanent.
        """

    def head(self, name: str) -> ObjectFacts:
        """Size and time of one object.

        Raises:
            ObjectMissing: there is no such object. Permanent.
        """

    def exists(self, name: str) -> bool:
        """Whether there is such an object. "Could not find out" is never ``False``: it raises."""

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """Every object whose name starts with ``prefix``; within one folder in ascending order of name.

        The order *of* folders is the storage's own: servers do not agree whether ``a-b/c`` comes before ``a/b``. So a
        prefix that ends with the only folder in question gives a totally ordered listing.

        Complete or raises: an iteration that ends without an error gave every object that was there all the time.
        Objects that come or go meanwhile may be given or not. Memory does not grow with the number of objects.

        Args:
            prefix: ``""`` for all, or a folder ending in ``/``, or a folder and the beginning of a name.
        """

    def now(self) -> datetime:
        """The time by the *store's* clock, the one that ``modified`` is measured with. Aware, UTC.

        Accurate to a second, and rounded down.
        """

    def delete(self, name: str) -> None:
        """Remove an object. Idempotent: a name that is not there is success."""

    def probe_create_only(self) -> bool:
        """Whether the storage itself refuses to create a name twice, found out by trying.

        Writes a random name under ``probe/`` twice with different content, and removes it where that is permitted.
        """

    def describe(self) -> str:
        """Where this is, for messages (``file:///backup``). Never a secret."""

    def close(self) -> None:
        """Let go of connections. Idempotent; no other method may be called afterwards."""


def is_name(name: str) -> bool:
    """Whether an object could have this name."""
    segments = name.split("/")
    fits = len(name) <= _NAME_LIMIT and all(len(segment) <= _SEGMENT_LIMIT for segment in segments)
    return fits and segments[0] != UNFINISHED and all(_good_segment(segment) for segment in segments)


def check_name(name: str) -> str:
    """Return ``name`` if it is a possible object name.

    Raises:
        UsageError: it is not; nothing was looked up.
    """
    if not is_name(name):
        raise UsageError(f"{name[:100]!r} is not a possible object name", on="the repository's storage")
    return name


def check_prefix(prefix: str) -> str:
    """Return ``prefix`` if some object name could start with it.

    Raises:
        UsageError: none could; nothing was looked up.
    """
    folder, _, beginning = prefix.rpartition("/")
    if folder:
        check_name(folder)
    if (prefix and not folder and "/" in prefix) or (beginning and not _SEGMENT.fullmatch(beginning)):
        raise UsageError(f"{prefix[:100]!r} is not a possible prefix of names", on="the repository's storage")
    return prefix


def _good_segment(segment: str) -> bool:
    """Whether one segment of a name is allowed."""
    return _SEGMENT.fullmatch(segment) is not None and segment not in {".", ".."}
