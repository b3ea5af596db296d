"""What a server's refusals and a network's failures become."""

from __future__ import annotations

from urllib3.exceptions import HTTPError

from dr_toolkit.buckets import providers
from dr_toolkit.errors import DrctlError, SourceError, SourceUnreachable
from dr_toolkit.repository.retries import Passing

_GONE = frozenset({404, 412, 416})
_FORBIDDEN = 403
_NO_BUCKET = "NoSuchBucket"


class Changed(Exception):
    """The object is not the one that was listed any more."""


class Refusal(Exception):
    """The server answered a control call with an error.

    Args:
        status: HTTP's.
        code: S3's.
        right: what the call needs.
    """

    def __init__(self, status: int, code: str, right: str) -> None:
        super().__init__(f"{status} {code}")
        self.status, self.code, self.right = status, code, right


class Unreached(Exception):
    """A control call got no whole answer.

    Args:
        text: of the library.
        kind: the library's name for it.
    """

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


class Expired(Exception):
    """The server says that the keys are not good any more.

    Args:
        failure: what to raise when there are no others.
    """

    def __init__(self, failure: DrctlError) -> None:
        super().__init__(failure.message)
        self.failure = failure


OF_LIBRARIES = (Refusal, Unreached, HTTPError)
"""What control calls and urllib3 raise."""


def of_answer(where: str, on: str, status: int, code: str, *, of_object: bool, right: str) -> Exception:
    """What an answer means that is not a good one.

    Args:
        where: the bucket.
        on: the object.
        status: HTTP's.
        code: S3's.
        of_object: whether an object was asked for, which may be gone.
        right: what the request needs.
    """
    if of_object and status in _GONE and code != _NO_BUCKET:
        return Changed()
    if status in providers.PASSING or code in providers.PASSING_CODES:
        return Passing(unreachable(where, on, f"{status} {code}"))
    failure = _refused(where, on, status, code, right)
    return Expired(failure) if code in providers.EXPIRED else failure


def of_error(where: str, on: str, error: Refusal | Unreached | HTTPError, *, of_object: bool) -> Exception:
    """What an error means that is no answer of ours."""
    if isinstance(error, Refusal):
        return of_answer(where, on, error.status, error.code, of_object=of_object, right=error.right)
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return unreachable(where, on, "its certificate is not trusted")
    return Passing(
        unreachable(where, on, error.kind if isinstance(error, Unreached) else type(error).__name__)
    )


def is_unanswered(status: int, code: str) -> bool:
    """Whether a server does not know a question about a bucket, or does not answer this user."""
    return status in providers.UNANSWERED and code != _NO_BUCKET and code not in providers.EXPIRED


def unreachable(where: str, on: str, reason: str) -> DrctlError:
    """The server could not be worked with; it may pass."""
    return SourceUnreachable(
        f"cannot work with {where}: {reason}", on=on, hint="check the endpoint, the network and the server"
    )


def _refused(where: str, on: str, status: int, code: str, right: str) -> DrctlError:
    hints = {
        _NO_BUCKET: "create the bucket, or correct the component's url",
        "ExpiredToken": "renew the credentials",
        "InvalidAccessKeyId": "check the component's s3.access_key_id",
        "SignatureDoesNotMatch": "check the component's s3.secret_access_key",
    }
    needed = f"this needs {right}: " if right and status == _FORBIDDEN else ""
    hint = hints.get(code, f"{needed}check the credentials, and that they may do this (docs/permissions.md)")
    return SourceError(f"{where} refused: {status} {code}", on=on, hint=hint)
