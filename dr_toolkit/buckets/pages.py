"""Questions for a page of a listing (ListObjectsV2), and the answers to them.

boto3 makes a dictionary of every element and an object of every time: 100,000 names took some four seconds of processor time. Here the objects
of a page are cut out by one expression, made after the first of them. Where that does not fit all of them, the whole answer is read as XML.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from urllib.parse import quote, unquote_plus
from xml.etree import ElementTree as ET

from dr_toolkit.buckets import providers
from dr_toolkit.buckets.listing import Listed, Page

_FIELDS = ("Key", "Size", "ETag", "LastModified")
_FIRST = re.compile(r"<Contents>(.*?)</Contents>", re.DOTALL)
_TAG = re.compile(r"<([A-Za-z]+)>[^<]*</\1>")
_QUOTE = '(?:"|&#34;|&quot;)?'
_TOKEN = re.compile(rb"<NextContinuationToken>([^<>&]*)</NextContinuationToken>")


def query(prefix: str, token: str | None, *, delimiter: str = "", old: bool = False) -> str:
    """The question for a page.

    Args:
        prefix: of the keys.
        token: of the page before.
        delimiter: keys that have it after the prefix are left out, and named by what comes before it.
        old: ask by the first version of the interface.
    """
    parts = {
        "continuation-token": "" if old else token or "",
        "delimiter": delimiter,
        "encoding-type": "url",
        "list-type": "" if old else "2",
        "marker": token or "" if old else "",
        "prefix": prefix,
    }
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in parts.items() if value)


def next_token(content: bytes) -> str | None:
    """With which the next page is asked for, found without reading the whole answer; None where it is not plain to see."""
    found = _TOKEN.search(content)
    return found[1].decode() if found else None


def parse(content: bytes) -> Page:
    """Read an answer.

    Raises:
        ValueError: it is not one.
    """
    text = content.decode()
    fields, rows, rest = _plain(text)
    try:
        root = ET.fromstring(rest)  # noqa: S314  # expat bounds what entities become; the server is believed with much more than this
    except ET.ParseError as error:
        raise ValueError(f"an answer is not XML: {error}") from error
    space = root.tag[: root.tag.find("}") + 1]
    if root.tag != f"{space}ListBucketResult":
        raise ValueError("an answer is not a listing")
    found = root.findtext
    encoded = found(f"{space}EncodingType") == "url"
    if not rows:
        rows = [
            tuple(row.findtext(f"{space}{name}") or "" for name in _FIELDS)
            for row in root.iterfind(f"{space}Contents")
        ]
        fields = _FIELDS
    truncated, count = found(f"{space}IsTruncated"), found(f"{space}KeyCount")
    objects = _objects(rows, fields, encoded=encoded)
    folders = tuple(
        _decoded(folder.findtext(f"{space}Prefix") or "", encoded=encoded)
        for folder in root.iterfind(f"{space}CommonPrefixes")
    )
    token = found(f"{space}NextContinuationToken")
    old = truncated == "true" and providers.is_old_listing(count, token)
    if old:
        named = _decoded(found(f"{space}NextMarker") or "", encoded=encoded)
        token = named or max([*(o.key for o in objects[-1:]), *folders[-1:]], default=None)
    return Page(
        objects,
        None if truncated is None else truncated == "true",
        token,
        None if count is None else int(count),
        folders,
        old,
    )


def _plain(text: str) -> tuple[tuple[str, ...], Sequence[tuple[str, ...]], str]:
    """The objects' elements, if all of them are made like the first; and the answer without them.

    Returns:
        The names of the texts of each object, the texts, and what is left: all of the answer, when it is not as plain as that.
    """
    nothing: tuple[tuple[str, ...], list[tuple[str, ...]], str] = ((), [], text)
    first = _FIRST.search(text)
    if first is None:
        return nothing
    names = tuple(_TAG.findall(first[1]))
    if any(names.count(name) != 1 for name in _FIELDS):
        return nothing
    pattern = _pattern(names)
    rows = pattern.findall(text)
    if len(rows) != text.count("<Contents>"):
        return nothing
    return tuple(name for name in names if name in _FIELDS), rows, pattern.sub("", text)


@cache
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """An object's element with these elements in it."""
    texts = {name: f"<{name}>([^<&]*)</{name}>" for name in _FIELDS}
    texts["ETag"] = f'<ETag>{_QUOTE}([^<&"]*){_QUOTE}</ETag>'
    inside = "".join(texts.get(name, f"<{name}>[^<]*</{name}>") for name in names)
    return re.compile(f"<Contents>{inside}</Contents>")


def _objects(
    rows: Sequence[tuple[str, ...]], fields: tuple[str, ...], *, encoded: bool
) -> tuple[Listed, ...]:
    key, size, etag, modified = (fields.index(name) for name in ("Key", "Size", "ETag", "LastModified"))
    times: dict[str, str] = {}
    found = []
    for row in rows:
        time = times.get(row[modified])
        if time is None:
            time = times[row[modified]] = datetime.fromisoformat(row[modified]).isoformat()
        name = row[key]
        if not name:
            raise ValueError("an object has no name")
        if encoded and ("%" in name or "+" in name):
            name = unquote_plus(name)
        found.append(Listed(name, int(row[size]), row[etag].strip('"'), time))
    return tuple(found)


def _decoded(name: str, *, encoded: bool) -> str:
    return unquote_plus(name) if encoded else name
