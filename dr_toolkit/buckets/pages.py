"""Questions for a page of a listing (ListObjectsV2), and the answers to them.

boto3 makes a dictionary of every element and an object of every time: 100,000 names took some four seconds of processor time, here they take one.
"""

from __future__ import annotations

import re
from datetime import datetime
from urllib.parse import quote, unquote_plus
from xml.etree import ElementTree as ET

from dr_toolkit.buckets.listing import Listed, Page

_TOKEN = re.compile(rb"<NextContinuationToken>([^<>&]*)</NextContinuationToken>")


def query(prefix: str, token: str | None) -> str:
    """The question for a page, its parameters in order of their names as a signature wants them."""
    parts = {"continuation-token": token or "", "encoding-type": "url", "list-type": "2", "prefix": prefix}
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
    try:
        root = ET.fromstring(content)  # noqa: S314  # expat bounds what entities become; the server is believed with much more than this
    except ET.ParseError as error:
        raise ValueError(f"an answer is not XML: {error}") from error
    space = root.tag[: root.tag.find("}") + 1]
    if root.tag != f"{space}ListBucketResult":
        raise ValueError("an answer is not a listing")
    text = root.findtext
    encoded = text(f"{space}EncodingType") == "url"
    objects = tuple(_listed(row, space, encoded=encoded) for row in root.iterfind(f"{space}Contents"))
    truncated, count = text(f"{space}IsTruncated"), text(f"{space}KeyCount")
    return Page(
        objects,
        None if truncated is None else truncated == "true",
        text(f"{space}NextContinuationToken"),
        None if count is None else int(count),
    )


def _listed(row: ET.Element, space: str, *, encoded: bool) -> Listed:
    text = row.findtext
    key, size, modified = text(f"{space}Key"), text(f"{space}Size"), text(f"{space}LastModified")
    if not key or size is None or modified is None:
        raise ValueError("an object has no name, size or time")
    if encoded and ("%" in key or "+" in key):
        key = unquote_plus(key)
    etag = (text(f"{space}ETag") or "").strip('"')
    return Listed(key, int(size), etag, datetime.fromisoformat(modified).isoformat())
