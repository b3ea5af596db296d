"""JSON as docs/format.md, section 1, wants it: the bounds as types, and what msgspec is more generous about."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Annotated, Any

import msgspec

from dr_toolkit import errors

MAX_WHOLE = (1 << 53) - 1

Whole = Annotated[int, msgspec.Meta(ge=0, le=MAX_WHOLE)]
Id = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
"""An object id."""
Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
"""A HASH, a chunk id or a page id."""
Time = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")]
TimedId = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{32}\Z")]

ALWAYS_KNOWN = frozenset({"format", "repository", "critical"})


def parse_object(text: bytes, name: str) -> dict[str, Any]:
    """A JSON object in UTF-8 in which no name occurs twice.

    Raises:
        Damaged: it is not one.
    """
    try:
        value = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_refuse)
        if b"\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair has no UTF-8 bytes
    except (ValueError, RecursionError) as error:
        raise errors.Damaged(f'"{name}" is not JSON as it must be', fault="structure", on=name) from error
    if not isinstance(value, dict):
        raise errors.Damaged(f'"{name}" is not a JSON object', fault="structure", on=name)
    return value


def check_version(payload: dict[str, Any], known: Collection[str], name: str) -> None:
    """Reject a payload of a later format, or with critical fields that are not in ``known``.

    Raises:
        UnknownFormat: it needs a newer reader.
        Damaged: ``format`` or ``critical`` is absent or of another type.
    """
    version = payload.get("format")
    if type(version) is not int:
        raise errors.Damaged(f'"{name}" does not state its format', fault="structure", on=name)
    if version != 1:
        raise newer(name)
    check_critical(payload, known, name)


def check_critical(payload: dict[str, Any], known: Collection[str], name: str) -> None:
    """The part of ``check_version`` for payloads without a format."""
    critical = payload.get("critical")
    if not isinstance(critical, list) or not all(isinstance(field, str) for field in critical):
        raise errors.Damaged(f'"{name}" does not list its critical fields', fault="structure", on=name)
    if set(critical) - ALWAYS_KNOWN - set(known):
        raise newer(name)


def newer(name: str) -> errors.UnknownFormat:
    """The error for what only a later version can read."""
    return errors.UnknownFormat(
        f'"{name}" needs a newer drctl', fault="version", on=name, hint="install a newer drctl"
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
