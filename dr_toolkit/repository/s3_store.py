"""A bucket as a store: ``s3://bucket/prefix`` on any server that speaks S3, through obstore.

Names are created once by conditional writes (``If-None-Match: *``). A server that answers that it does not know them is
asked first whether the name exists, which is as good for the random names of a repository.

Every request is tried again with growing pauses for a bounded time. A response may be lost on the way: when a write
meets a name that exists, the object is read back, and equal content is success.
"""

from __future__ import annotations

import contextlib
import secrets
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store as Client

from dr_toolkit.errors import (
    ConfigError,
    Damaged,
    ObjectMissing,
    StoreConflict,
    StoreUnreachable,
)
from dr_toolkit.repository.retries import Passing, Result, Retries
from dr_toolkit.repository.s3_clock import S3Clock
from dr_toolkit.repository.s3_errors import Verdict, judge
from dr_toolkit.repository.store import Buffer, ListedObject, ObjectFacts, check_name, check_prefix, is_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from obstore import ObjectMeta

    from dr_toolkit.repository.s3_credentials import Credentials
    from dr_toolkit.repository.s3_settings import S3Settings

_VENDOR = (BaseError, FileNotFoundError)
_UNKNOWN_CONDITION = 501
_UNSATISFIABLE = 416
_PAGE = 1000


class S3Store:
    """Objects in a bucket, below a prefix; see ``store.Store`` for what each method promises.

    Args:
        bucket: its name.
        prefix: put before every name, without a slash at its ends; ``""`` for none.
        settings: how to reach the server.
        conditional: whether to begin with conditional writes.
        retry_seconds: no attempt begins later than this after the first one.
        stall_seconds: how long a server may be silent before a read is given up; four times that for a write, which
            includes sending the object.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str,
        settings: S3Settings,
        *,
        conditional: bool = True,
        retry_seconds: float = 60.0,
        stall_seconds: float = 30.0,
    ) -> None:
        self._bucket = bucket
        self._where = f"s3://{bucket}/{prefix}".rstrip("/")
        self._settings = settings
        self._conditional = conditional
        self._retries = Retries(retry_seconds)
        self._clock = S3Clock(bucket, settings, where=self.describe(), stall_seconds=stall_seconds)
        self._bucket_seen = False
        make = partial(_client, bucket, prefix, settings, _credentials(settings))
        self._reader = make(stall=stall_seconds)
        self._writer = make(stall=4 * stall_seconds)

    def put(self, name: str, data: Buffer) -> None:
        """Write under the condition that the name is new; obstore reads the buffer in place."""
        check_name(name)
        if not self._run(name, partial(self._create, name, data)):
            self._must_equal(name, data)

    def get(self, name: str) -> bytes:
        """The whole object."""
        check_name(name)
        return self._run(name, lambda: obstore.get(self._reader, name).bytes().to_bytes())

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """A part of the object; a server cuts what lies beyond the end, which is found out here."""
        check_name(name)
        if length == 0:
            return b""
        data = self._run(
            name,
            lambda: obstore.get_range(self._reader, name, start=offset, length=length).to_bytes(),
            otherwise={_UNSATISFIABLE: lambda: b""},
        )
        if len(data) != length:
            size = self.head(name).size
            raise Damaged(
                f'"{name}" has {size} bytes, expected at least {offset + length}',
                fault="truncated",
                on=name,
                hint="the object was truncated: take it from a copy of the repository, or take a new backup",
            )
        return data

    def get_tail(self, name: str, length: int) -> tuple[bytes, int]:
        """The end of the object in one request."""
        check_name(name)

        def attempt() -> tuple[bytes, int]:
            answer = obstore.get(self._reader, name, options={"range": {"suffix": length}})
            return answer.bytes().to_bytes(), answer.meta["size"]

        # The end of an empty object cannot be asked for.
        data, size = self._run(name, attempt, otherwise={_UNSATISFIABLE: lambda: (b"", 0)})
        if len(data) != min(length, size):
            raise Damaged(
                f'"{name}" gave {len(data)} bytes, expected {min(length, size)}', fault="truncated", on=name
            )
        return data, size

    def head(self, name: str) -> ObjectFacts:
        """Size and time."""
        check_name(name)
        try:
            meta = self._run(name, lambda: obstore.head(self._reader, name))
        except ObjectMissing:
            self._confirm_bucket()
            raise
        return ObjectFacts(meta["size"], meta["last_modified"])

    def exists(self, name: str) -> bool:
        """Whether ``head`` finds it."""
        try:
            self.head(name)
        except ObjectMissing:
            return False
        return True

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """Page by page, in the server's order."""
        folder = check_prefix(prefix).rpartition("/")[0]
        return self._listing(folder or None, prefix)

    def now(self) -> datetime:
        """The ``Date`` of an answer, which is in whole seconds."""
        return self._retries.run(self._clock.now)

    def delete(self, name: str) -> None:
        """One request, whether the object is there or not."""
        check_name(name)
        with contextlib.suppress(ObjectMissing):
            self._run(name, lambda: obstore.delete(self._writer, name))

    def probe_create_only(self) -> bool:
        """Write a random name twice and see whether the second write is refused."""
        name = f"probe/{secrets.token_hex(16)}"
        self._run(name, lambda: obstore.put(self._writer, name, b"first", use_multipart=False))
        try:
            refused = not self._run(name, partial(self._create, name, b"second"))
        finally:
            # A backup's credentials need not be allowed to delete; readers ignore what is left.
            with contextlib.suppress(StoreUnreachable):
                self.delete(name)
        return refused and self._conditional

    def describe(self) -> str:
        """The bucket and prefix as a URL, and the server."""
        return (
            self._where if self._settings.endpoint is None else f"{self._where} at {self._settings.endpoint}"
        )

    def close(self) -> None:
        """Nothing to do: obstore's connections end by themselves."""

    def _create(self, name: str, data: Buffer) -> bool:
        """One attempt to create an object; ``False`` if the name exists."""
        if not self._conditional:
            return self._create_unconditionally(name, data)
        try:
            obstore.put(self._writer, name, data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        except BaseError as error:
            if self._judge(error, name).status != _UNKNOWN_CONDITION:
                raise
            self._conditional = False
            return self._create_unconditionally(name, data)
        return True

    def _create_unconditionally(self, name: str, data: Buffer) -> bool:
        """Look, then write."""
        with contextlib.suppress(FileNotFoundError):
            obstore.head(self._reader, name)
            return False
        obstore.put(self._writer, name, data, use_multipart=False)
        return True

    def _must_equal(self, name: str, data: Buffer) -> None:
        """Accept the existing object if it has the same content."""
        if self.get(name) != data:
            raise StoreConflict(
                f'"{name}" exists in {self.describe()} with other content',
                on=name,
                unaffected="the existing object is as it was",
            )

    def _listing(self, folder: str | None, prefix: str) -> Iterator[ListedObject]:
        """The objects of all pages; a page that fails is tried again."""
        last: str | None = None
        pages: Iterator[Sequence[ObjectMeta]] | None = None

        def attempt() -> Sequence[ObjectMeta] | None:
            nonlocal pages
            if pages is None:
                pages = self._pages(folder, last)
            try:
                return next(pages, None)
            except _VENDOR:
                pages = None
                raise

        while (page := self._run(None, attempt)) is not None:
            for meta in page:
                last = meta["path"]
                if last.startswith(prefix) and is_name(last):
                    yield ListedObject(last, meta["size"], meta["last_modified"])
        self._bucket_seen = True

    def _pages(self, folder: str | None, last: str | None) -> Iterator[Sequence[ObjectMeta]]:
        """The pages of one listing, without what was given up to ``last``.

        obstore cannot go on with a listing that broke. Asking the server for what comes after ``last`` would leave
        objects out where it means another order than the one it lists in, so it is read again from the beginning.
        """
        waiting = last is not None
        for page in obstore.list(self._reader, folder, chunk_size=_PAGE):
            if not waiting:
                yield page
                continue
            at = next((index for index, meta in enumerate(page) if meta["path"] == last), None)
            if at is not None:
                waiting = False
                yield page[at + 1 :]
        if waiting:
            raise StoreUnreachable(
                f"{self.describe()} changed while its listing was read again", hint="run the command again"
            )

    def _confirm_bucket(self) -> None:
        """Tell a missing object from a missing bucket: the answer to a HEAD has no text that would say it."""
        if not self._bucket_seen:
            next(iter(self.list("probe/")), None)
            self._bucket_seen = True

    def _run(
        self,
        name: str | None,
        attempt: Callable[[], Result],
        *,
        otherwise: dict[int, Callable[[], Result]] | None = None,
    ) -> Result:
        """Try until done, for a bounded time, with errors translated.

        Args:
            name: the object that it is about, if it is about one.
            attempt: one request.
            otherwise: what to give instead of failing, by status.
        """

        def translated() -> Result:
            try:
                return attempt()
            except _VENDOR as error:
                verdict = self._judge(error, name)
                instead = (otherwise or {}).get(verdict.status or 0)
                if instead is not None:
                    return instead()
                cause = self._presentable(error)
                if verdict.passing:
                    raise Passing(verdict.failure) from cause
                raise verdict.failure from cause

        return self._retries.run(translated)

    def _judge(self, error: Exception, name: str | None) -> Verdict:
        """What an error means."""
        return judge(str(error), name=name, where=self.describe())

    def _presentable(self, error: Exception) -> Exception | None:
        """The error, if it can be shown: servers repeat a request's headers when they refuse its signature."""
        text = str(error)
        hidden = "<Canonical" in text or "<StringToSign" in text
        return None if hidden or any(secret in text for secret in self._settings.secrets()) else error


def _credentials(settings: S3Settings) -> Callable[[], Credentials]:
    """Where obstore gets its keys. Given as values, they would be mixed with those of the environment."""
    key, secret, token = settings.access_key_id, settings.secret_access_key, settings.session_token
    if key is None or secret is None:
        from dr_toolkit.repository.s3_credentials import CredentialsChain  # noqa: PLC0415 -- boto3 is slow to import

        return CredentialsChain()
    return lambda: {"access_key_id": key, "secret_access_key": secret, "token": token, "expires_at": None}


def _client(
    bucket: str, prefix: str, settings: S3Settings, credentials: Callable[[], Credentials], *, stall: float
) -> Client:
    """One obstore client, with a pool of connections of its own."""
    options: dict[str, Any] = {
        "allow_http": settings.plain_http,
        "connect_timeout": timedelta(seconds=min(10.0, stall)),
        "read_timeout": timedelta(seconds=stall),
        # obstore's own limit for a whole request would end slow transfers that do go on.
        "timeout": timedelta(hours=1),
    }
    if settings.ca_file is not None:
        options["root_certificate"] = _certificates(settings.ca_file)
    arguments: dict[str, Any] = {
        "region": settings.region,
        "virtual_hosted_style_request": settings.addressing == "virtual",
        "credential_provider": credentials,
        "disable_bulk_delete": True,
        "skip_signature": False,
        "client_options": options,
        "retry_config": {"max_retries": 0},
    }
    endpoint = settings.bucket_endpoint(bucket)
    if endpoint is not None:
        # The second name would else be taken from the environment, and go first.
        arguments |= {"endpoint": endpoint, "aws_endpoint_url_s3": endpoint}
    try:
        return Client(bucket, prefix=prefix or None, **arguments)
    except (BaseError, ValueError) as error:
        message = str(error).partition("\n")[0]
        raise ConfigError(f"the S3 settings do not work: {message}", on=f"s3://{bucket}") from error


def _certificates(path: str) -> bytes:
    """The content of ``ca_file``."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise ConfigError(
            f'cannot read ca_file "{path}": {reason}', hint="set repository.s3.ca_file"
        ) from error
