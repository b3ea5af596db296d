"""What a bucket's snapshot is made of: the objects of one moment where the bucket has versioning, else what a listing shows while it goes on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

from dr_toolkit import clock
from dr_toolkit.buckets import sharding
from dr_toolkit.buckets.client import Bucket
from dr_toolkit.buckets.listing import Listing
from dr_toolkit.buckets.version_pages import VersionPage, parse, query
from dr_toolkit.buckets.versions import Versions
from dr_toolkit.errors import SourceError

_STATUS = re.compile(rb"<Status>(Enabled|Suspended)</Status>")
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Versioning:
    """What a bucket says of its versioning.

    Attributes:
        on: whether it has versions: turned on, or suspended after it was on. False as well where this user may not ask.
        enabled: whether a new object becomes a new version.
        now: the server's clock; None where it does not tell.
    """

    on: bool
    enabled: bool
    now: datetime | None


@dataclass(frozen=True, slots=True)
class Found:
    """A complete listing.

    Attributes:
        listing: sorted objects.
        versions: the same, where older versions are known as well.
        moment: as of when; None when the bucket cannot say what it was.
        warnings: for people.
    """

    listing: Listing | Versions
    versions: Versions | None = None
    moment: datetime | None = None
    warnings: list[str] = field(default_factory=list)


def versioning(bucket: Bucket) -> Versioning:
    """Ask a bucket for its versioning."""
    answer = bucket.ask("versioning=")
    status = _STATUS.search(answer.content) if answer else None
    if answer is None or status is None:
        return Versioning(on=False, enabled=False, now=None)
    try:
        now = parsedate_to_datetime(answer.headers.get("Date", ""))
    except ValueError:
        now = None
    return Versioning(on=True, enabled=status[1] == b"Enabled", now=now)


@contextmanager
def listed(bucket: Bucket, *, history: bool = False, expected: int = 0) -> Iterator[Found]:
    """List a bucket completely.

    Args:
        bucket: which.
        history: older versions are wanted.
        expected: about how many objects there are; 0 when that is not known.

    Raises:
        SourceError: the listing cannot be believed, or the versions that are wanted cannot be listed.
    """
    state = versioning(bucket)
    if not state.on and not history:
        with Listing(bucket.where) as plain:
            yield Found(sharding.fill(bucket, plain, expected))
        return
    until = None
    if state.now is not None:
        until = state.now.replace(microsecond=0) + _SECOND
        clock.sleep(
            _SECOND.total_seconds()
        )  # then that second is over: nothing can be written in it any more
    with Versions(bucket.where, until) as found:
        first = _first_page(bucket)
        if first is not None:
            warnings = (
                [] if state.on else ["the bucket has no versioning: there are no older versions to keep"]
            )
            found.fill(_pages(bucket, first))
            yield Found(found, found, until - _SECOND if until else None, warnings)
            return
    if history:
        raise SourceError(
            f"the versions of {bucket.where} cannot be listed",
            on=bucket.where,
            hint="grant s3:ListBucketVersions and s3:GetObjectVersion (docs/permissions.md), or set versions: latest",
        )
    with Listing(bucket.where) as plain:
        warning = "the bucket has versioning, but its versions may not be listed (s3:ListBucketVersions): the snapshot is not one moment"
        yield Found(sharding.fill(bucket, plain, expected), warnings=[warning])


def pages(bucket: Bucket) -> Iterator[VersionPage]:
    """The pages of one listing of versions, unchecked."""
    first = _first_page(bucket)
    if first is None:
        raise SourceError(
            f"the versions of {bucket.where} cannot be listed",
            on=bucket.where,
            hint="grant s3:ListBucketVersions (docs/permissions.md)",
        )
    return _pages(bucket, first)


def _first_page(bucket: Bucket) -> VersionPage | None:
    answer = bucket.ask(query(bucket.prefix, None))
    return _parsed(bucket, answer.content) if answer is not None else None


def _pages(bucket: Bucket, page: VersionPage) -> Iterator[VersionPage]:
    while True:
        yield page
        if not page.truncated or page.markers is None:
            return
        answer = bucket.ask(query(bucket.prefix, page.markers))
        if answer is None:
            raise SourceError(f"{bucket.where} refused to go on with the listing of its versions")
        page = _parsed(bucket, answer.content)


def _parsed(bucket: Bucket, content: bytes) -> VersionPage:
    try:
        return parse(content)
    except ValueError as error:
        raise SourceError(
            f"the listing of the versions of {bucket.where} cannot be believed: {error}",
            on=bucket.where,
            hint="look at the server and at proxies before it",
            unaffected="nothing was stored, copied or deleted on its word",
        ) from error
