"""What obstore's errors mean for a store.

obstore tells kinds of errors apart only roughly; the status, S3's code and the cause are in its message's text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dr_toolkit.errors import DrctlError, ObjectMissing, StoreFull, StoreUnreachable

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")
_OS_ERROR = re.compile(r'message: "([^"]{1,80})"')

_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_DENIED = frozenset({401, 403})
_FULL_CODES = frozenset(
    {"XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage"}
)
_HINTS = {
    "ExpiredToken": "the session has expired: renew the credentials",
    "InvalidAccessKeyId": "the server does not know this access key: check repository.s3.access_key_id",
    "RequestTimeTooSkewed": "this machine's clock and the server's differ too much: set this machine's clock",
    "SignatureDoesNotMatch": "check repository.s3.secret_access_key",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an attempt's failure amounts to.

    Attributes:
        failure: what to raise.
        passing: whether trying again may help.
        status: the HTTP status, if there was an answer.
    """

    failure: DrctlError
    passing: bool = False
    status: int | None = None


def judge(text: str, *, name: str | None, where: str) -> Verdict:
    """Read the text of an error.

    Args:
        text: obstore's message.
        name: the object that was asked for, if it was about one.
        where: the store, for the message.
    """
    found = _STATUS.search(text)
    if found is None:
        return _unanswered(text, name, where)
    status, code = int(found.group(1)), _code(text)
    reason = f"{status} {code}".strip()
    if status == 507 or code in _FULL_CODES:  # noqa: PLR2004 -- HTTP's number
        return Verdict(_full(name, where, reason), status=status)
    if code == "NoSuchBucket":
        hint = "create the bucket, or correct repository.url"
        return Verdict(
            StoreUnreachable(f"the bucket of {where} does not exist", on=where, hint=hint), status=status
        )
    if status == 404 and name is not None:  # noqa: PLR2004 -- HTTP's number
        return Verdict(ObjectMissing(f'"{name}" is not in {where}', on=name), status=status)
    if status in _DENIED or code in _HINTS:
        hint = _HINTS.get(code, "check the credentials, and that they may do this (docs/permissions.md)")
        failure = StoreUnreachable(f"{where} refused access: {reason}", on=name or where, hint=hint)
        return Verdict(failure, status=status)
    failure = StoreUnreachable(
        f"{where} answered {reason}", on=name or where, hint="look at the server's log"
    )
    return Verdict(failure, passing=status in _PASSING, status=status)


def _code(text: str) -> str:
    """S3's code for the error, if the answer had one."""
    found = _CODE.search(text)
    return found.group(1) if found else ""


def _full(name: str | None, where: str, reason: str) -> StoreFull:
    """No space, or over a quota."""
    return StoreFull(
        f"no space left in {where}: {reason}",
        on=name or where,
        hint="free some space or raise the quota there, then run the command again",
        unaffected="what was stored before is intact",
    )


def _unanswered(text: str, name: str | None, where: str) -> Verdict:
    """No answer came: the network, TLS, or the credentials' own source."""
    on = name or where
    if "ertificate" in text:
        hint = "set repository.s3.ca_file to the certificate authority's file, and check the host name"
        failure = StoreUnreachable(f"the TLS certificate of {where} is not trusted", on=on, hint=hint)
        return Verdict(failure)
    if "credential provider" in text:
        failure = StoreUnreachable("no S3 credentials: the chain failed", on=on, hint="renew the credentials")
        return Verdict(failure)
    failure = StoreUnreachable(
        f"cannot reach {where}: {_cause(text)}", on=on, hint="check the endpoint, the network and the server"
    )
    return Verdict(failure, passing=True)


def _cause(text: str) -> str:
    """The innermost cause, in a few words."""
    if "dns error" in text.lower():
        return "its host name does not resolve"
    if "TimedOut" in text or "kind: Timeout" in text:
        return "no answer in time"
    found = _OS_ERROR.search(text)
    return found.group(1).lower() if found else "the connection broke"
