"""One bucket of an S3 server, as source and as target of restores: listing, reading ranges, writing.

Names go to the server exactly as they are: they are encoded and none is changed. Every request is tried again for a bounded time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from dr_toolkit import log
from dr_toolkit.buckets import facts, failures, providers
from dr_toolkit.buckets.control import Control
from dr_toolkit.buckets.credentials import Credentials
from dr_toolkit.buckets.failures import Changed, Expired
from dr_toolkit.buckets.lane import Lane
from dr_toolkit.buckets.lister import Lister
from dr_toolkit.buckets.listing import Listed, Page
from dr_toolkit.buckets.part_sizes import part_size
from dr_toolkit.buckets.signing import Content
from dr_toolkit.buckets.wire import Answer, Wire
from dr_toolkit.errors import DrctlError
from dr_toolkit.repository.retries import Passing, Retries

if TYPE_CHECKING:
    from dr_toolkit.repository.s3_settings import S3Settings

THREADS = 16
_DONE = frozenset({200, 206})
COPY_LIMIT = 5 << 30
"""Bytes that a server copies by one request at most (CopyObject)."""
COPY_PART = 512 << 20
_GIVE_UP_SECONDS = 5.0
_Result = TypeVar("_Result")
_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class Got:
    """A part of an object's content, and its metadata."""

    content: Content
    meta: dict[str, Any]


class Bucket:
    """A bucket and prefix. Safe to use from several threads.

    Args:
        name: the bucket.
        prefix: only keys that start with this.
        settings: how to reach the server.
        retry_seconds: no attempt begins later than this after the first one.
        stall_seconds: how long the server may be silent.
    """

    def __init__(
        self,
        name: str,
        prefix: str,
        settings: S3Settings,
        *,
        retry_seconds: float = 60.0,
        stall_seconds: float = 30.0,
    ) -> None:
        self.name, self.prefix = name, prefix
        self.where = f"s3://{name}/{prefix}".rstrip("/") + (
            f" at {settings.endpoint}" if settings.endpoint else ""
        )
        self._retries = Retries(retry_seconds)
        self._lister = Lister(self.where, self._listing, self._first_listing)
        self._credentials = Credentials(settings, self.where)
        self._wire = Wire(
            name, settings, self._credentials, connections=2 * THREADS, stall_seconds=stall_seconds
        )
        self._control = Control(
            settings, self._credentials, connections=2 * THREADS, stall_seconds=stall_seconds
        )

    def close(self) -> None:
        """Close the connections."""
        self._control.close()
        self._wire.close()

    def pages(self, prefix: str | None = None, delimiter: str = "") -> Iterator[Page]:
        """The pages of one listing, unchecked.

        Args:
            prefix: a longer one than the bucket's own.
            delimiter: leave out what has it after the prefix; pages name it as folders.
        """
        return self._lister.pages(self.prefix if prefix is None else prefix, delimiter)

    def _listing(self, query: str) -> bytes:
        return self._run(self.where, lambda: self._send("GET", "", {}, query=query)).content

    def _first_listing(self, query: str) -> bytes | None:
        def attempt() -> bytes | None:
            answer = self._wire.request("GET", "", {}, query=query)
            if providers.refuses_new_listing(answer.status, answer.code):
                return None
            return self._judged("GET", "", answer).content

        return self._run(self.where, attempt)

    def lane(self, connections: int = THREADS) -> Lane:
        """New connections for requests of one thread that mostly succeed at once."""
        return self._wire.lane(connections)

    def read_head(self, listed: Listed, start: int, length: int) -> bytes:
        """The request for a part of an object, for a lane.

        Raises:
            ValueError: it cannot be made there.
        """
        return self._wire.head(
            "GET", listed.key, _asked_part(listed, start, length), query=_of_version(listed.version)
        )

    def read(self, listed: Listed, start: int, length: int) -> Got:
        """A part of an object, only of the content that was listed.

        Raises:
            Changed: it was written again or deleted since.
        """
        headers = _asked_part(listed, start, length)

        query = _of_version(listed.version)

        def attempt() -> Got:
            answer = self._send("GET", listed.key, headers, query=query)
            if answer.headers.get("ETag", "").strip('"') != listed.etag:
                raise Changed
            if len(answer.content) != length:
                raise Passing(
                    failures.unreachable(
                        self.where, listed.key, f"{len(answer.content)} of {length} bytes came"
                    )
                )
            if providers.is_false(answer.content, listed.size, listed.etag, answer.headers):
                raise Passing(
                    failures.unreachable(
                        self.where, listed.key, "the content that came is not what its ETag says"
                    )
                )
            return Got(answer.content, facts.from_headers(answer.headers))

        return self._run(listed.key, attempt, of_object=True)

    def head(self, key: str) -> Listed | None:
        """What the object is now; None when it is gone."""
        found = self.look(key)
        return found[0] if found else None

    def look(self, key: str) -> tuple[Listed, dict[str, Any]] | None:
        """What the object is now and its metadata, without its content; None when it is gone. Its time has whole seconds."""
        try:
            answer = self._run(key, lambda: self._send("HEAD", key, {}), of_object=True)
        except Changed:
            return None
        return seen(key, {name.lower(): value for name, value in answer.headers.items()})

    def look_head(self, key: str) -> bytes:
        """The request for the same, for a lane."""
        return self._wire.head("HEAD", key, {})

    def tags_of(self, key: str, version: str = "") -> dict[str, str] | None:
        """The tags of an object, or of one version of it; None when it is gone."""
        more = {"VersionId": version} if version else {}
        ask = partial(self._control.call, "get_object_tagging", Bucket=self.name, Key=key, **more)
        try:
            found = self._run(key, ask, of_object=True)["TagSet"]
        except Changed:
            return None
        return {str(tag["Key"]): str(tag["Value"]) for tag in found}

    def copy_from(self, source: Bucket, listed: Listed, meta: Mapping[str, Any]) -> str:
        """Let the server copy an object of another of its buckets, with its metadata; under this bucket's own key.

        Args:
            source: a bucket of the same server that the same credentials may read.
            listed: the object there; only this version of it is copied.
            meta: its metadata, which a copy in parts does not take over by itself.

        Returns:
            The key here.

        Raises:
            Changed: it was written again or deleted since.
        """
        key = self.prefix + listed.key.removeprefix(source.prefix)
        place: dict[str, Any] = {"Bucket": self.name, "Key": key}
        origin = {
            "CopySource": {"Bucket": source.name, "Key": listed.key},
            "CopySourceIfMatch": f'"{listed.etag}"',
        }
        if listed.size <= COPY_LIMIT:
            self._run(key, partial(self._control.call, "copy_object", **place, **origin), of_object=True)
            return key

        def part(here: dict[str, Any], number: int, start: int) -> str:
            last = min(start + size, listed.size) - 1
            send = partial(
                self._control.call,
                "upload_part_copy",
                **here,
                **origin,
                PartNumber=number,
                CopySourceRange=f"bytes={start}-{last}",
            )
            return str(self._run(key, send, of_object=True)["CopyPartResult"]["ETag"])

        size = max(part_size(listed.size), min(COPY_PART, COPY_LIMIT))
        self._in_parts(place, meta, enumerate(range(0, listed.size, size), 1), part)
        return key

    def copy_head(self, source: Bucket, listed: Listed) -> bytes:
        """The request for a copy of a small object, for a lane; it answers at once."""
        headers = {
            "x-amz-copy-source": f"/{source.name}/{quote(listed.key, safe='/~')}",
            "x-amz-copy-source-if-match": f'"{listed.etag}"',
        }
        return self._wire.head("PUT", self.prefix + listed.key.removeprefix(source.prefix), headers, b"")

    def write(self, key: str, content: Content, meta: Mapping[str, Any]) -> str:
        """Write an object by one request; returns the id of the new version, empty without versioning."""
        headers = facts.to_headers(meta) | providers.sealed(content)
        answer = self._run(key, lambda: self._send("PUT", key, headers, content))
        return answer.headers.get("x-amz-version-id", "")

    def write_head(self, key: str, content: Content, meta: Mapping[str, Any]) -> bytes:
        """The request for the same, for a lane.

        Raises:
            ValueError: it cannot be made there.
        """
        headers = facts.to_headers(meta) | providers.sealed(content)
        return self._wire.head("PUT", key, headers, content)

    def ask(self, query: str) -> Answer | None:
        """Ask something about the bucket itself; None where the server does not know the question, or does not answer this user.

        Args:
            query: already encoded.

        Raises:
            SourceUnreachable: the server went away.
            SourceError: there is no such bucket.
        """

        def attempt() -> Answer | None:
            answer = self._wire.request("GET", "", {}, query=query)
            if failures.is_unanswered(answer.status, answer.code):
                return None
            return self._judged("GET", "", answer)

        return self._run(self.where, attempt)

    def _send(
        self,
        method: str,
        key: str,
        headers: Mapping[str, str],
        body: Content = b"",
        query: str = "",
    ) -> Answer:
        return self._judged(method, key, self._wire.request(method, key, headers, body, query))

    def _judged(self, method: str, key: str, answer: Answer) -> Answer:
        if answer.status in _DONE:
            if not key and providers.is_cut(answer.content):
                raise Passing(
                    failures.unreachable(
                        self.where, self.where, "an answer about the bucket ends in its middle"
                    )
                )
            return answer
        of_object = bool(key) and method != "PUT"
        raise failures.of_answer(
            self.where,
            key or self.where,
            answer.status,
            answer.code,
            of_object=of_object,
            right=answer.right,
        )

    def write_parts(self, key: str, parts: Iterator[Content], meta: Mapping[str, Any]) -> str:
        """Write a large object in parts; what is unfinished is given up on any error. Returns the id of the new version."""

        def part(here: dict[str, Any], number: int, content: Content) -> str:
            query = f"partNumber={number}&uploadId={quote(here['UploadId'], safe='')}"
            sealed = providers.sealed(content)
            answer = self._run(key, lambda: self._send("PUT", key, sealed, content, query))
            return answer.headers.get("ETag", "")

        return self._in_parts({"Bucket": self.name, "Key": key}, meta, enumerate(parts, 1), part)

    def _in_parts(
        self,
        place: dict[str, Any],
        meta: Mapping[str, Any],
        parts: Iterable[tuple[int, _Part]],
        send: Callable[[dict[str, Any], int, _Part], str],
    ) -> str:
        key = place["Key"]
        made = self._run(
            key, lambda: self._control.call("create_multipart_upload", **place, **facts.for_put(meta))
        )
        place["UploadId"] = made["UploadId"]
        done = []
        try:
            for number, content in parts:
                done.append({"PartNumber": number, "ETag": send(place, number, content)})
            made = self._run(
                key,
                lambda: self._control.call(
                    "complete_multipart_upload", **place, MultipartUpload={"Parts": done}
                ),
            )
            return str(made.get("VersionId", ""))
        except BaseException:
            self._give_up(place)
            raise

    def _give_up(self, place: dict[str, Any]) -> None:
        """Remove the parts of an upload that failed. What it failed with is what counts: that they stay is said beside it."""
        abort = partial(self._control.call, "abort_multipart_upload", **place)
        try:
            self._run(place["Key"], abort, retries=Retries(min(_GIVE_UP_SECONDS, self._retries.seconds)))
        except DrctlError as error:
            log.get("buckets").warning(
                "the parts of an unfinished upload are left: remove them, or let a rule of the bucket do so (AbortIncompleteMultipartUpload)",
                on=f"{place['Bucket']}/{place['Key']}",
                upload=place["UploadId"],
                reason=error.message,
            )

    def delete(self, key: str) -> str:
        """Delete an object; on a versioned bucket the server keeps it behind a delete marker, whose id is returned."""
        made = self._run(key, lambda: self._control.call("delete_object", Bucket=self.name, Key=key))
        return str(made.get("VersionId", ""))

    def control(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Make a control call about the bucket itself, by boto3's name for it; tried again for a bounded time.

        Raises:
            SourceUnreachable: the server went away.
            SourceError: it refused.
        """
        return self._run(self.where, partial(self._control.call, operation, **parameters))

    def _run(
        self,
        on: str,
        attempt: Callable[[], _Result],
        *,
        of_object: bool = False,
        retries: Retries | None = None,
    ) -> _Result:
        def translated() -> _Result:
            used = self._credentials.generation
            try:
                try:
                    return attempt()
                except failures.OF_LIBRARIES as error:
                    raise failures.of_error(self.where, on, error, of_object=of_object) from error
            except Expired as expired:
                if self._credentials.renew(used):
                    raise Passing(expired.failure) from None
                raise expired.failure from None

        return (retries or self._retries).run(translated)


def seen(key: str, headers: Mapping[str, str]) -> tuple[Listed, dict[str, Any]]:
    """An object and its metadata, of the headers (names in lower case) of an answer about it."""
    modified = parsedate_to_datetime(headers.get("last-modified", "")).isoformat()
    size, etag = int(headers.get("content-length", "0")), headers.get("etag", "").strip('"')
    return Listed(key, size, etag, modified), facts.from_lower(headers)


def _of_version(version: str) -> str:
    return f"versionId={quote(version, safe='')}" if version else ""


def _asked_part(listed: Listed, start: int, length: int) -> dict[str, str]:
    """On the condition that it is what was listed. A range only where it is less than all: no server gets ranges wrong that are not asked for."""
    headers = {"If-Match": f'"{listed.etag}"'} if listed.etag else {}
    if length < listed.size:
        headers["Range"] = f"bytes={start}-{start + length - 1}"
    return headers
