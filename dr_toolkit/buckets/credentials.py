"""Keys for one bucket: given ones, or what boto3's default chain finds, looked for again when the server says that they expired.

botocore renews temporary keys before their time. A server's clock, a role whose session was ended, or a token file that was exchanged may end them
earlier: then the chain is asked anew, once for all threads that noticed.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from dr_toolkit.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dr_toolkit.repository.s3_settings import S3Settings

_TIMES = 100
"""Renewals in one run at most: a server that never takes new keys must not be asked for ever."""


@dataclass(frozen=True, slots=True)
class Given:
    """Keys by reference, in the shape of botocore's."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)

    def get_frozen_credentials(self) -> Self:
        """Themselves: they are what they are."""
        return self


class Credentials:
    """In the shape of botocore's credentials. Safe to use from several threads.

    Args:
        settings: with keys, or without for the default chain.
        where: the bucket, for messages.
    """

    method = "drctl"

    def __init__(self, settings: S3Settings, where: str) -> None:
        self._settings = settings
        self._where = where
        self._lock = threading.Lock()
        self._generation = 0
        self._found = self._look()

    def get_frozen_credentials(self) -> Any:
        """The keys of the moment; renewed by botocore when their time is near."""
        found = self._found
        if isinstance(found, Given):
            return found
        try:
            return found.get_frozen_credentials()
        except _failures() as error:
            raise self._none(type(error).__name__) from error

    @property
    def generation(self) -> int:
        """How often they were renewed."""
        return self._generation

    def renew(self, generation: int) -> bool:
        """Look for other keys, where the chain may have any; whether another attempt makes sense.

        Args:
            generation: of the keys that were refused; another thread may have renewed them meanwhile.
        """
        if self._settings.access_key_id is not None:
            return False
        with self._lock:
            if self._generation != generation:
                return True
            if self._generation >= _TIMES:
                return False
            before = self.get_frozen_credentials()
            self._found = self._look()
            self._generation += 1
            from botocore.credentials import RefreshableCredentials  # noqa: PLC0415 -- slow to import

            return isinstance(self._found, RefreshableCredentials) or self.get_frozen_credentials() != before

    def get_deferred_property(self, _name: str) -> Callable[[], None]:
        """Botocore asks for an account's id, to make addresses of it; S3's need none."""
        return lambda: None

    def load_credentials(self) -> Credentials:
        """As botocore's resolver of credentials does it."""
        return self

    def _look(self) -> Any:
        settings = self._settings
        if settings.access_key_id is not None and settings.secret_access_key is not None:
            return Given(settings.access_key_id, settings.secret_access_key, settings.session_token)
        import botocore.session  # noqa: PLC0415 -- slow to import

        try:
            found = botocore.session.Session().get_credentials()
        except _failures() as error:
            raise self._none(type(error).__name__) from error
        if found is None:
            raise self._none("none are configured")
        return found

    def _none(self, reason: str) -> SourceError:
        return SourceError(
            f"no S3 credentials for {self._where}: {reason}",
            on=self._where,
            hint="set the component's s3.access_key_id and secret_access_key, or what boto3's default chain finds",
        )


def _failures() -> tuple[type[Exception], ...]:
    """What looking for keys may raise: a service that refuses, a file with a token that is not there."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 -- slow to import

    return BotoCoreError, ClientError, OSError
