"""What makes an object an object besides its bytes, in the form that snapshots keep (an entry's ``meta``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from dr_toolkit.buckets.listing import Listed

HEADERS = {
    "type": "ContentType",
    "encoding": "ContentEncoding",
    "disposition": "ContentDisposition",
    "language": "ContentLanguage",
    "cache": "CacheControl",
}
"""Our name and S3's parameter, for what is text on both sides."""
NO_VERSION = "null"
"""How S3 names the version of an object that was written without versioning."""
TAGS = "tags"
"""In ``meta``: an object's tags, where they were asked for."""
KIND = "object"
VERSION, MARKER = "version", "delete-marker"
"""Kinds of entries beside the objects, in a snapshot with all versions."""
CHANGED = "changed_while_read"
"""In ``meta`` of an object that changed in the middle of reading: its content is a part of what was, and is never restored."""


def identity(listed: Listed) -> dict[str, Any]:
    """By what an object is told to be unchanged."""
    found = {"etag": listed.etag, "modified": listed.modified}
    if listed.version not in {"", NO_VERSION}:
        found["version"] = listed.version
    return found


def is_same(listed: Listed, size: int, meta: Mapping[str, Any]) -> bool:
    """Whether the listing shows the object that an entry was made of."""
    return (
        size == listed.size
        and CHANGED not in meta
        and all(meta.get(name) == value for name, value in identity(listed).items())
    )


_WIRE = {
    "type": "Content-Type",
    "encoding": "Content-Encoding",
    "disposition": "Content-Disposition",
    "language": "Content-Language",
    "cache": "Cache-Control",
    "expires": "Expires",
    "class": "x-amz-storage-class",
    "version": "x-amz-version-id",
}
_NAMES = {header.lower(): name for name, header in _WIRE.items()}
_USER = "x-amz-meta-"
_INFORMATION = {"class", "version"}


def from_headers(headers: Mapping[str, str]) -> dict[str, Any]:
    """The metadata in the headers of an answer to GetObject; what is not there is left out."""
    return from_lower({name.lower(): value for name, value in headers.items()})


def from_lower(headers: Mapping[str, str]) -> dict[str, Any]:
    """The same of headers whose names are in lower case."""
    found: dict[str, Any] = {}
    user: dict[str, str] = {}
    for header, value in headers.items():
        name = _NAMES.get(header)
        if name is not None:
            if value and (name, value) != ("version", NO_VERSION):
                found[name] = value
        elif header.startswith(_USER):
            user[header.removeprefix(_USER)] = value
    return found | {"user": user} if user else found


def to_headers(meta: Mapping[str, Any]) -> dict[str, str]:
    """The headers with which an object is written as it was."""
    found = {key: str(meta[name]) for name, key in _WIRE.items() if name in meta and name not in _INFORMATION}
    if meta.get(TAGS):
        found["x-amz-tagging"] = urlencode(meta[TAGS])
    return found | {f"{_USER}{key}": str(value) for key, value in dict(meta.get("user", {})).items()}


def for_put(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with which an object is written as it was."""
    found: dict[str, Any] = {key: meta[name] for name, key in HEADERS.items() if name in meta}
    if "expires" in meta:
        found["Expires"] = meta["expires"]
    if "user" in meta:
        found["Metadata"] = dict(meta["user"])
    if meta.get(TAGS):
        found["Tagging"] = urlencode(meta[TAGS])
    return found
