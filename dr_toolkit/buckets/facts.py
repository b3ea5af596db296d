"""What makes an object an object besides its bytes, in the form that snapshots keep (an entry's ``meta``)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dr_toolkit.buckets.listing import Listed

HEADERS = {
    "type": "ContentType",
    "encoding": "ContentEncoding",
    "disposition": "ContentDisposition",
    "language": "ContentLanguage",
    "cache": "CacheControl",
}
"""Our name and S3's parameter, for what is text on both sides."""
KIND = "object"
CHANGED = "changed_while_read"
"""In ``meta`` of an object that changed in the middle of reading: its content is a part of what was, and is never restored."""


def identity(listed: Listed) -> dict[str, Any]:
    """By what an object is told to be unchanged."""
    return {"etag": listed.etag, "modified": listed.modified}


def is_same(listed: Listed, size: int, meta: Mapping[str, Any]) -> bool:
    """Whether the listing shows the object that an entry was made of."""
    return (
        size == listed.size
        and CHANGED not in meta
        and all(meta.get(name) == value for name, value in identity(listed).items())
    )


def from_answer(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata in an answer to GetObject; what is not there is left out."""
    found = {name: answer[key] for name, key in HEADERS.items() if answer.get(key)}
    expires = answer.get("ExpiresString") or answer.get("Expires")
    if expires:
        found["expires"] = expires.isoformat() if isinstance(expires, datetime) else str(expires)
    for name, key in (("user", "Metadata"), ("class", "StorageClass"), ("version", "VersionId")):
        if answer.get(key) and answer[key] != "null":
            found[name] = dict(answer[key]) if name == "user" else answer[key]
    return found


def for_put(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with which an object is written as it was."""
    found: dict[str, Any] = {key: meta[name] for name, key in HEADERS.items() if name in meta}
    if "expires" in meta:
        found["Expires"] = meta["expires"]
    if "user" in meta:
        found["Metadata"] = dict(meta["user"])
    return found
