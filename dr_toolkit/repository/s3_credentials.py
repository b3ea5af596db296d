"""boto3's default chain of credentials, for obstore.

boto3 takes a third of a second and 30 MB to import, so this module is imported late, only where no keys are configured.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypedDict

import boto3
from botocore.exceptions import BotoCoreError

from dr_toolkit import clock
from dr_toolkit.errors import StoreUnreachable

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


def _no_credentials(reason: str) -> StoreUnreachable:
    """An error that names the ways to give credentials."""
    return StoreUnreachable(
        f"no S3 credentials: {reason}",
        hint="set repository.s3.access_key_id and secret_access_key, or what boto3's default chain finds",
    )
