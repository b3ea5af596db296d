"""Snapshot headers: what they say, which is a parent, which are missing (docs/format.md, section 10).

Everything here is a pure function of headers and names.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from dr_toolkit import clock, errors
from dr_toolkit.repository import layout
from dr_toolkit.repository.records import Root

FUTURE = timedelta(hours=24)
SEEN_LIMIT = 64


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot's header, fields as in docs/format.md."""

    format: int = 1
    critical: list[str] = []
    id: str
    component: str
    kind: str
    time: str
    started: str
    commit_by: str
    parent: str | None
    status: Literal["good", "damaged"]
    keys: tuple[int, int, bytes]
    entries: Root | None
    packs: Root | None
    entry_count: int
    bytes_source: int
    bytes_new: int
    bytes_stored: int
    seen: list[tuple[str, bytes]] = []
    notes: list[tuple[str, int, bytes]] = []
    warnings: list[str] = []
    source: dict[str, Any] = {}
    tool: str = ""

    @property
    def moment(self) -> datetime:
        """``time`` as a datetime."""
        return clock.parse_rfc3339(self.time)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A header as it was found: what it says, and HASH of the object."""

    header: Header
    digest: bytes

    @property
    def id(self) -> str:
        """The snapshot id."""
        return self.header.id

    @property
    def digest_text(self) -> str:
        """HASH in base64, as in evidence and points."""
        return base64.b64encode(self.digest).decode()


def encode_header(header: Header) -> bytes:
    """The payload of a header object."""
    return msgspec.json.encode(header)


def decode_header(payload: bytes, name: str) -> Header:
    """Parse a payload and check that it is stored under its own name."""
    try:
        header = msgspec.json.decode(payload, type=Header)
    except msgspec.MsgspecError as error:
        raise errors.Damaged(
            f'the header "{name}" is not as the format says', fault="structure", on=name
        ) from error
    if header.format != 1 or header.critical:
        raise errors.UnknownFormat(
            f'the snapshot "{name}" needs a newer drctl',
            fault="version",
            on=name,
            hint="install a newer drctl",
        )
    if layout.snapshot_name(header.component, header.id) != name:
        raise errors.Damaged(
            f'the header "{name}" says that it is another snapshot', fault="structure", on=name
        )
    return header


def choose_parent(snapshots: Sequence[Snapshot], now: datetime) -> tuple[Snapshot | None, list[str]]:
    """The newest good snapshot that is not from the future, and warnings about those that are."""
    warnings = [
        f'snapshot "{s.id}" claims a time more than 24 hours ahead of the store\'s clock and is ignored'
        for s in snapshots
        if s.header.moment > now + FUTURE
    ]
    good = [s for s in snapshots if s.header.status == "good" and s.header.moment <= now + FUTURE]
    return max(good, key=lambda s: s.id, default=None), warnings


def next_time(snapshots: Sequence[Snapshot], now: datetime) -> tuple[datetime, list[str]]:
    """The time of the next snapshot: the store's, but never before the newest that is not from the far future."""
    newest = max((s.header.moment for s in snapshots if s.header.moment <= now + FUTURE), default=None)
    if newest is None or newest < now.replace(microsecond=0):
        return now.replace(microsecond=0), []
    warnings = []
    if newest - now > timedelta(seconds=60):
        warnings = [
            f"the store's clock is {int((newest - now).total_seconds())} s behind the newest snapshot; this one is dated after it"
        ]
    return newest + timedelta(seconds=1), warnings


def unnamed(snapshots: Sequence[Snapshot]) -> list[tuple[str, bytes]]:
    """What the next header must list in ``seen``: snapshots that no header names yet, and always the newest."""
    named = {snapshot_id for s in snapshots for snapshot_id, _ in s.header.seen}
    ordered = sorted(snapshots, key=lambda s: s.id)
    loose = [s for s in ordered if s.id not in named]
    if ordered and ordered[-1] not in loose:
        loose.append(ordered[-1])
    return [(s.id, s.digest) for s in loose[:SEEN_LIMIT]]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with the set of snapshots: ``missing`` or ``altered``."""

    component: str
    snapshot: str
    problem: Literal["missing", "altered"]
    named_by: str

    @property
    def text(self) -> str:
        """A sentence for people."""
        if self.problem == "missing":
            return f'snapshot "{self.component}/{self.snapshot}" is named by {self.named_by} and is not there'
        return f'snapshot "{self.component}/{self.snapshot}" is not the one that {self.named_by} names'


def find_missing(
    present: Mapping[tuple[str, str], bytes],
    headers: Iterable[Header],
    named: Iterable[tuple[str, str, bytes, str]] = (),
    retired: frozenset[tuple[str, str, bytes]] = frozenset(),
) -> list[Finding]:
    """Which named snapshots are gone or changed.

    Args:
        present: HASH by (component, snapshot id) of everything that is listed.
        headers: all headers that open.
        named: (component, id, HASH, by whom) from points and evidence.
        retired: (component, id, HASH) of what was removed on purpose.
    """
    claims: dict[tuple[str, str], tuple[bytes | None, str]] = {}
    for header in headers:
        by = f'snapshot "{header.id}"'
        for snapshot_id, digest in header.seen:
            claims[(header.component, snapshot_id)] = (digest, by)
        if header.parent is not None:
            claims.setdefault((header.component, header.parent), (None, by))
    for component, snapshot_id, digest, by in named:
        claims.setdefault((component, snapshot_id), (digest, by))
    findings = []
    gone = {(component, snapshot_id): digest for component, snapshot_id, digest in retired}
    for (component, snapshot_id), (claimed, by) in sorted(claims.items()):
        found = present.get((component, snapshot_id))
        if found is None and (component, snapshot_id) not in gone:
            findings.append(Finding(component, snapshot_id, "missing", by))
        elif found is not None and claimed is not None and found != claimed:
            findings.append(Finding(component, snapshot_id, "altered", by))
    return findings
