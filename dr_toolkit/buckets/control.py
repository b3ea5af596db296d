"""Control calls through boto3: copies by the server, uploads in parts, tags, deletions. The only place here that imports it.

boto3 takes a quarter of a second of processor time to import and to make a client of. A backup of which nothing has changed makes no control
call, so it is imported with the first one.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from dr_toolkit.buckets import rights
from dr_toolkit.buckets.failures import Refusal, Unreached

if TYPE_CHECKING:
    from dr_toolkit.buckets.credentials import Credentials
    from dr_toolkit.repository.s3_settings import S3Settings


class Control:
    """A client that is made when it is needed. Safe to use from several threads.

    Args:
        settings: how to reach the server.
        credentials: who asks; renewed by themselves.
        connections: kept open at most.
        stall_seconds: how long the server may be silent.
    """

    def __init__(
        self, settings: S3Settings, credentials: Credentials, *, connections: int, stall_seconds: float
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._connections = connections
        self._stall = stall_seconds
        self._lock = threading.Lock()
        self._client: Any = None

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Make one call, once.

        Args:
            operation: boto3's name of it.
            parameters: boto3's.

        Raises:
            Refusal: the server answered with an error.
            Unreached: no whole answer came.
        """
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 -- slow to import

        try:
            found: dict[str, Any] = getattr(self.client(), operation)(**parameters)
        except ClientError as error:
            status = int(error.response["ResponseMetadata"]["HTTPStatusCode"])
            code = str(error.response["Error"].get("Code", ""))
            raise Refusal(status, code, rights.of_control(operation, parameters)) from error
        except BotoCoreError as error:
            raise Unreached(str(error), type(error).__name__) from error
        return found

    def client(self) -> Any:
        """boto3's client."""
        with self._lock:
            if self._client is None:
                self._client = self._made()
            return self._client

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()

    def _made(self) -> Any:
        import boto3  # noqa: PLC0415 -- slow to import
        import botocore.session  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        settings = self._settings
        own = botocore.session.Session()
        own.register_component("credential_provider", self._credentials)
        session = boto3.Session(botocore_session=own, region_name=settings.region)
        return session.client(
            "s3",
            endpoint_url=settings.endpoint,
            verify=settings.ca_file,
            config=Config(
                connect_timeout=min(10.0, self._stall),
                read_timeout=self._stall,
                max_pool_connections=self._connections,
                retries={"total_max_attempts": 1},
                s3={"addressing_style": settings.addressing},
            ),
        )
