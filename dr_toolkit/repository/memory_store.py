"""A store in memory: for tests, with faults on demand. It passes the same contract suite as the real ones."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeAlias

from dr_toolkit import clock
from dr_toolkit.errors import Damaged, ObjectMissing, StoreConflict
from dr_toolkit.repository.store import Buffer, ListedObject, ObjectFacts, check_name, check_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

Hook: TypeAlias = "Callable[[str, str], None]"
"""Called as ``hook(operation, name)`` before each operation takes effect; it may raise or wait."""


class MemoryStore:
    """Objects in a dictionary; see ``store.Store`` for what each method promises.

    Attributes:
        objects: what is stored, by name: content and time. Tests may damage it.
        before: the hook for faults, called with the method's name and the object's name before each operation.
        after: the same after an operation took effect: raising here is a lost response.
        time: the store's clock.

    Args:
        time: gives the store's time; the machine's clock by default.
    """

    def __init__(self, time: Callable[[], datetime] = clock.now) -> None:
        self.objects: dict[str, tuple[bytes, datetime]] = {}
        self.before: Hook | None = None
        self.after: Hook | None = None
        self.time = time
        self._lock = threading.Lock()

    def put(self, name: str, data: Buffer) -> None:
        """Keep a copy, unless the name exists."""
        self._hook(self.before, "put", check_name(name))
        content = bytes(data)
        with self._lock:
            existing, _ = self.objects.setdefault(name, (content, self.time()))
        if existing != content:
            raise StoreConflict(
                f'"{name}" exists in {self.describe()} with other content',
                on=name,
                unaffected="the existing object is as it was",
            )
        self._hook(self.after, "put", name)

    def get(self, name: str) -> bytes:
        """The content."""
        return self._find("get", name)[0]

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """A part of the content."""
        if length == 0:
            return b""
        content, _ = self._find("get_range", name)
        if len(content) < offset + length:
            raise Damaged(
                f'"{name}" has {len(content)} bytes, expected at least {offset + length}',
                fault="truncated",
                on=name,
            )
        return content[offset : offset + length]

    def get_tail(self, name: str, length: int) -> tuple[bytes, int]:
        """The end of the content, and its size."""
        content, _ = self._find("get_tail", name)
        return content[-length:], len(content)

    def head(self, name: str) -> ObjectFacts:
        """Size and time."""
        content, modified = self._find("head", name)
        return ObjectFacts(len(content), modified)

    def exists(self, name: str) -> bool:
        """Whether the name is there."""
        self._hook(self.before, "exists", check_name(name))
        with self._lock:
            return name in self.objects

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """The names at the time of the call, in order."""
        check_prefix(prefix)
        self._hook(self.before, "list", prefix)
        with self._lock:
            found = sorted((name, *kept) for name, kept in self.objects.items() if name.startswith(prefix))
        return (ListedObject(name, len(content), modified) for name, content, modified in found)

    def now(self) -> datetime:
        """The time given by ``time``, whole seconds."""
        self._hook(self.before, "now", "")
        return self.time().replace(microsecond=0)

    def delete(self, name: str) -> None:
        """Forget the object."""
        self._hook(self.before, "delete", check_name(name))
        with self._lock:
            self.objects.pop(name, None)
        self._hook(self.after, "delete", name)

    def probe_create_only(self) -> bool:
        """A dictionary keeps it."""
        self._hook(self.before, "probe_create_only", "")
        return True

    def describe(self) -> str:
        """A name for messages."""
        return "memory:"

    def close(self) -> None:
        """Nothing to let go of; the objects stay, so that a test can look at them."""

    def _find(self, operation: str, name: str) -> tuple[bytes, datetime]:
        """An object's content and time."""
        self._hook(self.before, operation, check_name(name))
        with self._lock:
            kept = self.objects.get(name)
        if kept is None:
            raise ObjectMissing(f'"{name}" is not in {self.describe()}', on=name)
        return kept

    def _hook(self, hook: Hook | None, operation: str, name: str) -> None:
        """Call a hook if there is one."""
        if hook is not None:
            hook(operation, name)
