"""What obstore cannot do on S3, through boto3: the server's clock and the default chain of credentials.

boto3 takes a third of a second to import, so this module is imported late, by the first call that needs it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypedDict

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, SSLError

from dr_toolkit import clock
from dr_toolkit.errors import StoreUnreachable
from dr_toolkit.repository.retries import Passing

if TYPE_CHECKING:
    from dr_toolkit.repository.s3_settings import S3Settings

_SERVER_ERROR = 500
_NOT_NOW = frozenset({408, 429})
_CREDENTIALS_LAST = timedelta(minutes=5)


class Credentials(TypedDict):
    """Keys for a while, in the shape that obstore takes."""

    access_key_id: str
    secret_access_key: str
    token: str | None
    expires_at: datetime | None


class CredentialsChain:
    """boto3's default chain: environment, profile, web identity, container and instance roles. Renews what expires."""

    def __init__(self) -> None:
        try:
            credentials = boto3.Session().get_credentials()
        except BotoCoreError as error:
            raise _no_credentials(type(error).__name__) from error
        if credentials is None:
            raise _no_credentials("none are configured")
        self._credentials = credentials

    def __call__(self) -> Credentials:
        """The keys of the moment. Asked again every few minutes, so that renewed ones are seen in time."""
        try:
            frozen = self._credentials.get_frozen_credentials()
        except BotoCoreError as error:
            raise _no_credentials(type(error).__name__) from error
        return {
            "access_key_id": frozen.access_key or "",
            "secret_access_key": frozen.secret_key or "",
            "token": frozen.token,
            "expires_at": clock.now() + _CREDENTIALS_LAST,
        }


class S3Control:
    """The control path of one bucket. Safe to use from several threads.

    Args:
        bucket: its name.
        settings: how to reach the server.
        where: the store, for messages.
        stall_seconds: how long the server may be silent.
    """

    def __init__(self, bucket: str, settings: S3Settings, *, where: str, stall_seconds: float) -> None:
        self._bucket = bucket
        self._where = where
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=settings.endpoint,
            region_name=settings.region,
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=settings.secret_access_key,
            aws_session_token=settings.session_token,
            verify=settings.ca_file,
            config=Config(
                connect_timeout=min(10.0, stall_seconds),
                read_timeout=stall_seconds,
                retries={"total_max_attempts": 1},
                s3={"addressing_style": settings.addressing},
            ),
        )

    def now(self) -> datetime:
        """The server's clock, from the ``Date`` of its answer, whatever the answer is.

        Raises:
            Passing: trying again may help.
            StoreUnreachable: it will not.
        """
        try:
            answer = self._client.head_bucket(Bucket=self._bucket)["ResponseMetadata"]
        except ClientError as error:
            answer = error.response["ResponseMetadata"]
            if answer["HTTPStatusCode"] >= _SERVER_ERROR or answer["HTTPStatusCode"] in _NOT_NOW:
                raise Passing(self._failure(f"status {answer['HTTPStatusCode']}")) from None
        except SSLError as error:
            raise self._failure("its certificate is not trusted") from error
        except BotoCoreError as error:
            raise Passing(self._failure(type(error).__name__)) from error
        return self._date(answer["HTTPHeaders"].get("date", ""))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

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


def _no_credentials(reason: str) -> StoreUnreachable:
    """An error that names the ways to give credentials."""
    return StoreUnreachable(
        f"no S3 credentials: {reason}",
        hint="set repository.s3.access_key_id and secret_access_key, or what boto3's default chain finds",
    )
