"""An S3 server's clock: the ``Date`` of its answer to an unsigned request, whatever the answer is (RFC 9110, section 6.6.1)."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from dr_toolkit.errors import StoreUnreachable
from dr_toolkit.repository.retries import Passing

if TYPE_CHECKING:
    from dr_toolkit.repository.s3_settings import S3Settings

_SERVER_ERROR = 500
_NOT_NOW = frozenset({408, 429})


class S3Clock:
    """The clock of the server of one bucket. Safe to use from several threads.

    Args:
        bucket: its name.
        settings: how to reach the server; its keys are not used.
        where: the store, for messages.
        stall_seconds: how long the server may be silent.
    """

    def __init__(self, bucket: str, settings: S3Settings, *, where: str, stall_seconds: float) -> None:
        self._url = settings.bucket_endpoint(bucket) or f"https://s3.{settings.region}.amazonaws.com"
        self._where = where
        self._stall = stall_seconds
        self._trust: ssl.SSLContext | None = None
        if not settings.plain_http:
            self._trust = ssl.create_default_context()
            if settings.ca_file is not None:
                self._trust.load_verify_locations(settings.ca_file)

    def now(self) -> datetime:
        """The server's time, in whole seconds.

        Raises:
            Passing: trying again may help.
            StoreUnreachable: it will not.
        """
        return self._date(self._answer().get("Date", ""))

    def _answer(self) -> Message:
        """The headers of an answer; a refusal has them as well."""
        ask = Request(f"{self._url}/", method="HEAD")  # noqa: S310 -- http or https, checked by S3Settings
        try:
            with urlopen(ask, timeout=self._stall, context=self._trust) as found:  # noqa: S310 -- as above
                headers: Message = found.headers
                return headers
        except HTTPError as error:
            with error:
                if error.code >= _SERVER_ERROR or error.code in _NOT_NOW:
                    raise Passing(self._failure(f"status {error.code}")) from None
                return error.headers
        except URLError as error:
            if isinstance(error.reason, ssl.SSLError):
                raise self._failure("its certificate is not trusted") from error
            raise Passing(self._failure(type(error.reason).__name__)) from error
        except (OSError, HTTPException) as error:
            raise Passing(self._failure(type(error).__name__)) from error

    def _date(self, text: str) -> datetime:
        """Read a ``Date`` header."""
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            raise StoreUnreachable(
                f"{self._where} does not tell its time", hint="a proxy in between may remove the Date header"
            ) from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)

    def _failure(self, reason: str) -> StoreUnreachable:
        """An error that names the store."""
        return StoreUnreachable(
            f"cannot ask {self._where} for its time: {reason}",
            on=self._where,
            hint="check the endpoint and the network",
        )
