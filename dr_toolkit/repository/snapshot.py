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
from dr_toolkit.repository import layout, strict
from dr_toolkit.repository.records import Root
from dr_toolkit.repository.strict import Hash, Time, TimedId, Whole

FUTURE = timedelta(hours=24)
SEEN_LIMIT = 64
DAMAGED_LIMIT = 128
PAYLOAD_LIMIT = 63 << 10
"""A header's object is at most 64 KiB: what sealing adds must fit, too."""


_OPTIONAL = frozenset({"found_damaged"})
"""Fields of headers that came later: a header of before lacks them."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot's header, fields as in docs/format.md."""

    format: int = 1
    critical: list[str] = []
    id: TimedId
    component: str
    kind: str
    time: Time
    started: Time
    commit_by: Time
    parent: TimedId | None
    status: Literal["good", "damaged"]
    keys: tuple[Whole, Whole, Hash]
    entries: Root | None
    packs: Root | None
    entry_count: Whole
    bytes_source: Whole
    bytes_new: Whole
    bytes_stored: Whole
    seen: list[tuple[TimedId, Hash]] = []
    notes: list[tuple[str, Whole, Hash]] = []
    warnings: list[str] = []
    source: dict[str, Any] = {}
    tool: str = ""
    found_damaged: list[tuple[TimedId, Hash]] = []

    @property
    def moment(self) -> datetime:
        """``time`` as a datetime."""
        return clock.parse_rfc3339(self.time)


_DECODER = msgspec.json.Decoder(Header)
"""Made here, by one thread: msgspec crashes the process when two threads meet a type for the first time at once."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A header as it was found, and what later headers say of it.

    Attributes:
        header: what it says; ``status`` is the worst of its own and of what later ones say.
        digest: HASH of the object.
        damaged_by: the snapshot that found it damaged; None when none did.
    """

    header: Header
    digest: bytes
    damaged_by: str | None = None

    @property
    def id(self) -> str:
        """The snapshot id."""
        return self.header.id

    @property
    def digest_text(self) -> str:
        """HASH in base64, as in evidence and points."""
        return base64.b64encode(self.digest).decode()


def encode_header(header: Header) -> bytes:
    """The payload of a header object, proved to be one that a reader takes: it is the commit, nothing may be wrong with it.

    Raises:
        SourceError: the source's facts are too large, whatever is cut from the warnings.
        Damaged: a field is not as the format says.
    """
    payload, kept = msgspec.json.encode(header), len(header.warnings)
    while len(payload) > PAYLOAD_LIMIT and kept:
        kept //= 2
        more = f"and {len(header.warnings) - kept} more warnings, which are in the log"
        payload = msgspec.json.encode(
            msgspec.structs.replace(header, warnings=[*header.warnings[:kept], more])
        )
    if len(payload) > PAYLOAD_LIMIT:
        raise errors.SourceError(
            f"the facts about the source are too large: {len(payload)} bytes, at most {PAYLOAD_LIMIT}",
            on=header.component,
            unaffected="no snapshot was made; the repository is as it was",
        )
    decode_header(payload, layout.snapshot_name(header.component, header.id))
    return payload


def decode_header(payload: bytes, name: str) -> Header:
    """Parse a payload and check that it is stored under its own name."""
    fields = strict.parse_object(payload, name)
    strict.check_version(fields, Header.__struct_fields__, name)
    try:
        header = _DECODER.decode(payload)
        moment = header.moment
    except (msgspec.MsgspecError, ValueError) as error:
        raise _misshapen(name) from error
    if not fields.keys() >= set(Header.__struct_fields__) - _OPTIONAL:
        raise _misshapen(name)
    if layout.snapshot_name(header.component, header.id) != name or layout.time_of(header.id) != moment:
        raise errors.Damaged(
            f'the header "{name}" says that it is another snapshot', fault="structure", on=name
        )
    return header


def _misshapen(name: str) -> errors.Damaged:
    return errors.Damaged(f'the header "{name}" is not as the format says', fault="structure", on=name)


def choose_parent(snapshots: Sequence[Snapshot], now: datetime) -> tuple[Snapshot | None, list[str]]:
    """The newest good snapshot that is not from the future, and warnings about those that are."""
    warnings = [
        f'snapshot "{s.id}" claims a time more than 24 hours ahead of the store\'s clock and is ignored'
        for s in snapshots
        if s.header.moment > now + FUTURE
    ]
    good = [s for s in snapshots if s.header.status == "good" and s.header.moment <= now + FUTURE]
    return max(good, key=lambda s: s.id, default=None), warnings


def judged(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """The same snapshots, ``damaged`` those that another one's audit found so."""
    found = {
        (s.header.component, snapshot_id, digest): s.id
        for s in sorted(snapshots, key=lambda s: s.id, reverse=True)
        for snapshot_id, digest in s.header.found_damaged
    }
    if not found:
        return list(snapshots)
    return [
        Snapshot(msgspec.structs.replace(s.header, status="damaged"), s.digest, by)
        if (by := found.get((s.header.component, s.id, s.digest)))
        else s
        for s in snapshots
    ]


def still_damaged(snapshots: Sequence[Snapshot], found: Sequence[Snapshot]) -> list[tuple[str, bytes]]:
    """What the next header must list in ``found_damaged``: what was found now, and what earlier headers say and is still there.

    So the word is not lost when the snapshot that said it first is removed. The newest are kept where they are too many.
    """
    rows = {(s.id, s.digest) for s in snapshots if s.damaged_by is not None} | {
        (s.id, s.digest) for s in found
    }
    return sorted(rows)[-DAMAGED_LIMIT:]


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
