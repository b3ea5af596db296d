"""Where objects live and what they are called (docs/format.md, section 2). The only module that builds or parses names."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime

REPOSITORY = "repository.json"
KEYS = "keys/"
PACKS = "packs/"
CATALOGS = "catalogs/"
NOTES = "notes/"
SNAPSHOTS = "snapshots/"
POINTS = "points/"
PINS = "pins/"
EVIDENCE = "evidence/"
RETIRED = "retired/"
TRASH = "trash/"

_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{32}")
_KEY_FILE = re.compile(r"keys/(?!000000)(\d{6})-(?!000000)(\d{6})")
_SNAPSHOT = re.compile(r"snapshots/([a-z][a-z0-9-]{0,40})/(\d{8}T\d{6}Z-[0-9a-f]{32})")
_PACK = re.compile(r"packs/([0-9a-f]{2})/(\1[0-9a-f]{30})")


def new_object_id() -> bytes:
    """16 random bytes: a pack id or a catalog object id."""
    return os.urandom(16)


def new_timed_id(moment: datetime) -> str:
    """A snapshot, point or run id: it sorts by ``moment`` (aware; seconds are kept)."""
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}-{os.urandom(16).hex()}"


def is_timed_id(text: str) -> bool:
    """Whether ``text`` has the shape of a snapshot, point or run id."""
    return _ID.fullmatch(text) is not None


def time_of(timed_id: str) -> datetime:
    """The moment that a snapshot, point or run id states."""
    return datetime.strptime(timed_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def pack_name(pack_id: bytes) -> str:
    """``packs/<xx>/<id>``."""
    text = pack_id.hex()
    return f"{PACKS}{text[:2]}/{text}"


def parse_pack_name(name: str) -> bytes | None:
    """The pack id in ``name``, or None when it is not the name of a pack."""
    match = _PACK.fullmatch(name)
    return bytes.fromhex(match[2]) if match else None


def catalog_name(object_id: bytes) -> str:
    """``catalogs/<xx>/<id>``."""
    text = object_id.hex()
    return f"{CATALOGS}{text[:2]}/{text}"


def key_file_name(epoch: int, generation: int) -> str:
    """``keys/<epoch>-<generation>``."""
    return f"{KEYS}{epoch:06d}-{generation:06d}"


def parse_key_file_name(name: str) -> tuple[int, int] | None:
    """(epoch, generation) of a key file's name, or None."""
    match = _KEY_FILE.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def snapshot_name(component: str, snapshot_id: str) -> str:
    """``snapshots/<component>/<id>``."""
    return f"{SNAPSHOTS}{component}/{snapshot_id}"


def parse_snapshot_name(name: str) -> tuple[str, str] | None:
    """(component, snapshot id) of a header's name, or None."""
    match = _SNAPSHOT.fullmatch(name)
    return (match[1], match[2]) if match else None


def note_name(snapshot_id: str, name: str) -> str:
    """``notes/<snapshot id>/<name>``."""
    return f"{NOTES}{snapshot_id}/{name}"


def point_name(point_id: str) -> str:
    """``points/<id>``."""
    return POINTS + point_id


def evidence_name(run_id: str) -> str:
    """``evidence/<id>``."""
    return EVIDENCE + run_id
