"""Answers to ListObjectVersions, read in the server's order.

boto3 gives versions and delete markers as two lists, and which of two with the same second came first is lost. So the answer is parsed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote_plus
from xml.parsers import expat

from dr_toolkit.buckets import facts

_ROWS = frozenset({"Version", "DeleteMarker"})
_PAGE = frozenset(
    {"IsTruncated", "NextKeyMarker", "NextVersionIdMarker", "EncodingType", "KeyMarker", "VersionIdMarker"}
)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object, or a delete marker.

    Attributes:
        key: the object's.
        version: its id; ``null`` is what was there before versioning.
        marker: whether it is a delete marker.
        size: bytes; 0 of a marker.
        etag: without quotes; empty of a marker.
        modified: RFC 3339.
    """

    key: str
    version: str
    marker: bool
    size: int
    etag: str
    modified: str


@dataclass(frozen=True, slots=True)
class VersionPage:
    """One answer.

    Attributes:
        rows: in the server's order: by key, the newest first.
        truncated: whether it says that more follow; None when it does not say.
        markers: key and version id after which the next page begins.
    """

    rows: tuple[Version, ...]
    truncated: bool | None
    markers: tuple[str, str] | None


def query(prefix: str, markers: tuple[str, str] | None) -> str:
    """The question for a page."""
    parts = {"encoding-type": "url", "prefix": prefix}
    if markers is not None:
        parts |= {"key-marker": markers[0], "version-id-marker": markers[1]}
    found = [f"{name}={quote(value, safe='')}" for name, value in parts.items() if value]
    return "&".join(["versions=", *found])


def parse(content: bytes) -> VersionPage:
    """Read an answer.

    Raises:
        ValueError: it is not one.
    """
    found = _Parsed()
    parser = expat.ParserCreate()
    parser.StartElementHandler = found.start
    parser.EndElementHandler = found.end
    parser.CharacterDataHandler = found.text
    try:
        parser.Parse(content, True)  # noqa: FBT003  # expat takes no names
    except expat.ExpatError as error:
        raise ValueError(f"an answer is not XML: {error}") from error
    return found.page()


class _Parsed:
    """What expat found so far."""

    def __init__(self) -> None:
        self._path: list[str] = []
        self._text: list[str] = []
        self._rows: list[tuple[bool, dict[str, str]]] = []
        self._page: dict[str, str] = {}

    def start(self, name: str, _attributes: Any) -> None:
        self._path.append(name)
        self._text = []
        if len(self._path) == 2 and name in _ROWS:  # noqa: PLR2004  # directly in the answer
            self._rows.append((name == "DeleteMarker", {}))

    def text(self, data: str) -> None:
        self._text.append(data)

    def end(self, name: str) -> None:
        inside = self._path[1] if len(self._path) > 1 else ""
        if len(self._path) == 3 and inside in _ROWS:  # noqa: PLR2004  # a field of a row
            self._rows[-1][1][name] = "".join(self._text)
        elif len(self._path) == 2 and name in _PAGE:  # noqa: PLR2004  # a field of the answer
            self._page[name] = "".join(self._text)
        self._path.pop()
        self._text = []

    def page(self) -> VersionPage:
        plain = unquote_plus if self._page.get("EncodingType") == "url" else str
        try:
            rows = tuple(
                Version(
                    plain(row["Key"]),
                    row["VersionId"],
                    marker,
                    0 if marker else int(row["Size"]),
                    "" if marker else row.get("ETag", "").strip('"'),
                    datetime.fromisoformat(row["LastModified"]).isoformat(),
                )
                for marker, row in self._rows
            )
        except KeyError as error:
            raise ValueError(f"a version has no {error.args[0]}") from error
        says = self._page.get("IsTruncated")
        following = self._page.get("NextKeyMarker")
        markers = None if following is None else (plain(following), self._page.get("NextVersionIdMarker", ""))
        return VersionPage(rows, None if says is None else says == "true", markers)


def page_problem(page: VersionPage, seen: set[tuple[str, str]]) -> str | None:
    """Why a page cannot be believed, or None.

    Args:
        page: what came.
        seen: the markers of the pages before.
    """
    if page.truncated is None:
        return "a page does not say whether it is the last one"
    if page.truncated and page.markers is None:
        return "a page says that more follow and not how to ask for them"
    if page.truncated and page.markers in seen:
        return "the listing turns in a circle: a marker came twice"
    if any(not row.version for row in page.rows):
        return f"versions have no id, and only {facts.NO_VERSION!r} means none"
    return None
