"""What Helm keeps of a release: reading its storage objects. Pure.

A revision is one Secret or ConfigMap. Its ``release`` is JSON, usually compressed by gzip, in base64; in a Secret the API adds another base64.
The JSON is kept byte by byte, so fields that nobody knows yet are kept as well.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

SECRET_TYPE = "helm.sh/release.v1"  # noqa: S105 - a type of Secret
OWNER = "owner=helm"
"""The label that both drivers set."""
STUCK = ("pending-install", "pending-upgrade", "pending-rollback", "uninstalling")
"""Statuses that a killed ``helm`` leaves behind for ever."""
_GZIP = b"\x1f\x8b"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LONGEST_NAME, _LONGEST_FACT, _MOST_REVISIONS = 253, 1000, 1 << 31
_DEEPEST = 100
"""Levels of a release's JSON at most; what walks through it needs some of Python's stack for each."""
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+"')
_NO_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
LARGEST = 64 << 20
"""Bytes of a release's JSON at most: compressed it fits into 1 MiB, and what is larger than this is an attack or damage."""


class Broken(Exception):
    """The payload is no release. The text says why and repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is said of a revision without its content.

    Attributes:
        release: its name.
        namespace: where it is installed.
        revision: counted from 1.
        status: ``deployed``, ``superseded``, ``failed``, ``pending-upgrade``, …
        chart: the chart's name.
        chart_version: the chart's version.
        app_version: of what the chart installs.
        deployed: when, as Helm wrote it.
        description: Helm's own words.
    """

    release: str
    namespace: str
    revision: int
    status: str
    chart: str = ""
    chart_version: str = ""
    app_version: str = ""
    deployed: str = ""
    description: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {name: getattr(self, name) for name in self.__slots__}


def payload(stored: Mapping[str, Any]) -> bytes:
    """The ``release`` of a storage object as the API gives it, without the API's own base64.

    Raises:
        Broken: there is none, or it is no base64.
    """
    data = stored.get("data")
    text = data.get("release") if isinstance(data, Mapping) else None
    if not isinstance(text, str) or not text:
        raise Broken("there is no release in it")
    return _base64(text.encode()) if stored.get("type") == SECRET_TYPE else text.encode()


def document(content: bytes) -> bytes:
    """The release's JSON.

    Raises:
        Broken: not base64, not gzip to its end, or larger than it can be.
    """
    plain = content if content[:1] == b"{" else _base64(content)
    if not plain.startswith(_GZIP):
        return plain
    reader = zlib.decompressobj(wbits=31)
    try:
        found = reader.decompress(plain, LARGEST)
    except zlib.error:
        raise Broken("it does not decompress") from None
    if reader.unconsumed_tail:
        raise Broken(f"it decompresses to more than {LARGEST >> 20} MiB")
    if not reader.eof:
        raise Broken("it ends in the middle")
    return found


class _Metadata(msgspec.Struct, rename="camel"):
    name: Any = ""
    version: Any = ""
    app_version: Any = ""


class _File(msgspec.Struct):
    name: str | None = None


class _Hook(msgspec.Struct):
    manifest: str | None = None


class _Chart(msgspec.Struct):
    metadata: _Metadata | None = None
    templates: list[_File] | None = None
    files: list[_File] | None = None
    values: msgspec.Raw = msgspec.Raw(b"null")


class _Info(msgspec.Struct):
    status: Any = ""
    last_deployed: Any = ""
    description: Any = ""


class _Head(msgspec.Struct):
    """A release's own facts, and the shape of what a restore walks through; everything else is skipped without being built."""

    name: str
    namespace: str = ""
    version: int = 0
    info: _Info | None = None
    chart: _Chart | None = None
    manifest: str = ""
    hooks: list[_Hook] | None = None
    config: msgspec.Raw = msgspec.Raw(b"null")


_HEAD = msgspec.json.Decoder(_Head)


def head(text: bytes) -> tuple[Facts, str]:
    """The facts and the manifest of a release's JSON, a fraction of the cost of reading all of it.

    Raises:
        Broken: it is no JSON, no release, or one that Helm cannot have written: what it says of itself becomes a directory.
    """
    try:
        found = _HEAD.decode(text)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        raise Broken("it is no release in JSON") from None
    except RecursionError:
        raise Broken("it is nested too deeply") from None
    if len(found.name) > _LONGEST_NAME or not _NAME.fullmatch(found.name):
        raise Broken("the name in it is none that a release can have")
    if not 0 <= found.version < _MOST_REVISIONS:
        raise Broken("its revision is no number that Helm counts")
    chart_values = found.chart.values if found.chart else msgspec.Raw(b"null")
    if any(bytes(one)[:1] not in (b"{", b"n") for one in (found.config, chart_values)):
        raise Broken("its values are no map")
    info = found.info or _Info()
    chart = (found.chart.metadata if found.chart else None) or _Metadata()
    texts = (info.status, chart.name, chart.version, chart.app_version, info.last_deployed, info.description)
    short = (_text(one)[:_LONGEST_FACT] for one in texts)
    return Facts(found.name, found.namespace[:_LONGEST_NAME], found.version, *short), found.manifest


def check_depth(text: bytes) -> None:
    """Whether a release's JSON is as flat as those of Helm.

    Raises:
        Broken: nobody could walk through it.
    """
    if text.count(b"[") + text.count(b"{") <= _DEEPEST:
        return
    depth = 0
    for bracket in _STRINGS.sub(b"", text).translate(None, _NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > _DEEPEST:
            raise Broken("it is nested too deeply")


def parse(text: bytes) -> dict[str, Any]:
    """The release, whole.

    Raises:
        Broken: as ``head``, or nested too deeply.
    """
    head(text)
    check_depth(text)
    return dict(msgspec.json.decode(text))


def facts_of_labels(metadata: Mapping[str, Any]) -> Facts:
    """What the storage object's labels say, where its content is not read or is broken."""
    labels = metadata.get("labels") or {}
    revision = _text(labels.get("version"))
    return Facts(
        _text(labels.get("name")) or _text(metadata.get("name")),
        _text(metadata.get("namespace")),
        int(revision) if revision.isdecimal() and int(revision) < _MOST_REVISIONS else 0,
        _text(labels.get("status")) or "unknown",
    )


def facts(release: Mapping[str, Any]) -> Facts:
    """What a whole release says of itself."""
    return head(msgspec.json.encode(release))[0]


def user_values(release: Mapping[str, Any]) -> dict[str, Any]:
    """What the user gave: ``helm get values``."""
    found = release.get("config")
    return dict(found) if isinstance(found, Mapping) else {}


def computed_values(release: Mapping[str, Any]) -> dict[str, Any]:
    """The chart's values with the user's laid over: ``helm get values --all``."""
    chart = release.get("chart")
    values = chart.get("values") if isinstance(chart, Mapping) else None
    return coalesce(values if isinstance(values, Mapping) else {}, user_values(release))


def coalesce(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Helm's rule: maps are merged, anything else is replaced, and null removes what the chart has."""
    merged: dict[str, Any] = {}
    for key in [*base, *(key for key in over if key not in base)]:
        if key not in over:
            merged[key] = base[key]
        elif over[key] is None and key in base:
            continue
        elif isinstance(over[key], Mapping) and isinstance(base.get(key), Mapping):
            merged[key] = coalesce(base[key], over[key])
        else:
            merged[key] = over[key]
    return merged


def _base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise Broken("it is not base64") from None


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)
