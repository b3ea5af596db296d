"""What the tests of the repository's insides share: a recipient without files, a clock that obeys, and small helpers."""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dr_toolkit import errors
from dr_toolkit.repository import repository
from dr_toolkit.repository.keyring import Role
from dr_toolkit.repository.memory_store import MemoryStore
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.writer import SnapshotWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dr_toolkit.repository.snapshot import Snapshot
    from dr_toolkit.repository.store import Store

WEEK = 7 * 24 * 3600


@dataclass
class KeyFileRecipient:
    """A recipient of kind ``key-file`` whose key is given, as docs/format.md section 5.3 describes it.

    ``asked`` lists the wraps that it was asked to open, so that a test can tell what was needed.
    """

    name: str
    key: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    role: Role = "both"
    kind: str = "key-file"
    asked: list[str] = field(default_factory=list)

    def wrap(self, secret: bytes, binding: bytes) -> str:
        """``kf1:`` text."""
        nonce, plain = os.urandom(12), hashlib.sha256(binding).digest() + secret
        return "kf1:" + base64.b64encode(nonce + AESGCM(self.key).encrypt(nonce, plain, binding)).decode()

    def unwrap(self, wrapped: str, binding: bytes) -> bytes:
        """The secret, after its binding was compared."""
        self.asked.append(wrapped)
        raw = base64.b64decode(wrapped.removeprefix("kf1:"))
        try:
            plain = AESGCM(self.key).decrypt(raw[:12], raw[12:], binding)
        except InvalidTag as error:
            raise errors.KeyRefused(f'key file "{self.name}" does not open the wrap', on=self.name) from error
        if plain[:32] != hashlib.sha256(binding).digest():
            raise errors.Damaged("the wrap is bound to something else", fault="authentication", on=self.name)
        return plain[32:]


class Clock:
    """The store's clock: it stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 23, 8, 0, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Now."""
        return self.moment

    def advance(self, **passed: float) -> None:
        """Let time pass (or go back)."""
        self.moment += timedelta(**passed)


@dataclass
class World:
    """A repository in memory, a clock, a reader's recipient and a writer's."""

    clock: Clock
    store: MemoryStore
    both: KeyFileRecipient
    writer: KeyFileRecipient
    repository: Repository

    def as_writer(self, store: Store | None = None) -> Repository:
        """The repository as a backup job sees it: only the ``write`` role, under the pinned trust."""
        return repository.open_repository(
            store or self.store, [self.writer], self.repository.keys.identity.trust
        )


def make_world(grace_seconds: int = WEEK) -> World:
    """A fresh repository in memory."""
    clock = Clock()
    store = MemoryStore(clock)
    both, writer = KeyFileRecipient("people"), KeyFileRecipient("the-job", role="write")
    return World(clock, store, both, writer, repository.initialise(store, [both, writer], grace_seconds))


def back_up(
    opened: Repository,
    content: Mapping[str, bytes],
    *,
    cutting: Any = "content",
    component: str = "console-db",
) -> tuple[Snapshot, SnapshotWriter]:
    """Write ``content`` as one snapshot."""
    with SnapshotWriter(opened, component, "postgres-dump") as writer:
        for path in sorted(content, key=str.encode):
            writer.begin(path, "table-data", cutting=cutting)
            writer.write(content[path])
            writer.end({"size": len(content[path])})
        return writer.commit({}), writer


def read_all(opened: Repository, snapshot: Snapshot) -> dict[str, bytes]:
    """Every entry of a snapshot."""
    with SnapshotReader(opened, snapshot) as reader:
        return {entry.path: b"".join(reader.read(entry.path)) for entry in list(reader.entries())}
