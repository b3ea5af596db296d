"""In what S3 servers differ, and how to tell: the one place. The table of what was tried where is in docs/buckets.md."""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Mapping

from dr_toolkit.buckets.signing import Content

_MD5 = re.compile(r"[0-9a-f]{32}")
_RESULT = re.compile(rb"\s*(?:<\?xml[^>]*>)?\s*<(\w+Result)\b")
_ENCRYPTION = "x-amz-server-side-encryption"

_UNKNOWN_LISTING = frozenset({"InvalidArgument", "InvalidRequest", "NotImplemented", "MethodNotAllowed"})
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Statuses of an answer after which the same request may succeed."""
PASSING_CODES = frozenset({"BadDigest", "IncompleteBody", "RequestTimeout", "XAmzContentSHA256Mismatch"})
"""Codes of refusals that mean: what came was not what was sent."""
UNANSWERED = frozenset({400, 403, 404, 405, 501})
"""Statuses with which servers say that they do not know a question about a bucket (versioning, locks), or not for this user."""
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"})
"""Codes that mean: these credentials were good until now."""


def states_md5(etag: str, headers: Mapping[str, str]) -> bool:
    """Whether an ETag is the MD5 of the content: not after an upload in parts, nor where the server encrypts with a key of KMS or of the client.

    Args:
        etag: without quotes.
        headers: of the answer; names in any case or in lower case.
    """
    kind = headers.get(_ENCRYPTION) or ""
    return (
        _MD5.fullmatch(etag) is not None
        and not kind.startswith("aws:kms")
        and f"{_ENCRYPTION}-customer-algorithm" not in headers
    )


def is_false(content: Content, size: int, etag: str, headers: Mapping[str, str]) -> bool:
    """Whether content is certainly not that of the object: all of it was read, and its ETag says otherwise."""
    return (
        len(content) == size
        and states_md5(etag, headers)
        and hashlib.md5(content, usedforsecurity=False).hexdigest() != etag
    )


def sealed(content: Content) -> dict[str, str]:
    """A header by which a server refuses content that was changed on its way. Servers that do not know it ignore it.

    Not every server compares the digest that is signed; and where objects are locked, Amazon demands a checksum.
    """
    return {"x-amz-checksum-crc32": base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()}


def refuses_new_listing(status: int, code: str) -> bool:
    """Whether a server says that it does not know ListObjectsV2; ListObjects is tried then."""
    return status in {400, 405, 501} and code in _UNKNOWN_LISTING


def is_old_listing(*of_second_version: str | None) -> bool:
    """Whether a page is an answer to ListObjects: servers that know no other version do not look at what was asked for.

    Args:
        of_second_version: the texts of ``KeyCount`` and ``NextContinuationToken``, which only the second version has.
    """
    return not any(of_second_version)


def is_cut(content: bytes) -> bool:
    """Whether a listing begins and does not end, although its length was as the server said."""
    begins = _RESULT.match(content)
    return begins is not None and not content.rstrip().endswith((b"</" + begins[1] + b">", b"/>"))
