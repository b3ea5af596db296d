"""Where a bucket is and how to get in: plain values, secrets already resolved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit, urlunsplit

from dr_toolkit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

Addressing = Literal["path", "virtual"]


@dataclass(frozen=True, slots=True)
class S3Settings:
    """How to reach an S3 server. Its ``repr`` shows no secret.

    Attributes:
        endpoint: URL of the server; Amazon's for the region if there is none.
        region: part of every signature.
        access_key_id: the key's name; without it boto3's default chain is asked (environment, profile, web identity,
            container and instance roles).
        secret_access_key: belongs to ``access_key_id``.
        session_token: where the keys are temporary.
        ca_file: certificates (PEM) that are trusted besides the system's.
        addressing: bucket in the path, or in the host's name.
    """

    endpoint: str | None = None
    region: str = "us-east-1"
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    addressing: Addressing = "path"

    def __post_init__(self) -> None:
        if self.endpoint is not None:
            parts = urlsplit(self.endpoint)
            if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
                raise ConfigError(
                    'the S3 endpoint is not a URL like "https://host:9000"', hint="set repository.s3.endpoint"
                )
            if parts.username or parts.password:
                raise ConfigError(
                    "the S3 endpoint holds a user or a password",
                    hint="use repository.s3.access_key_id and secret_access_key",
                )
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ConfigError(
                "of access_key_id and secret_access_key only one is given", hint="give both, or none"
            )

    @property
    def plain_http(self) -> bool:
        """Whether the server is reached without TLS."""
        return self.endpoint is not None and self.endpoint.lower().startswith("http:")

    def secrets(self) -> Sequence[str]:
        """What must never be seen."""
        return [secret for secret in (self.secret_access_key, self.session_token) if secret]

    def bucket_endpoint(self, bucket: str) -> str | None:
        """The endpoint's URL, with the bucket in its host where that is the style of addressing."""
        if self.endpoint is None or self.addressing == "path":
            return self.endpoint.rstrip("/") if self.endpoint else None
        parts = urlsplit(self.endpoint)
        return urlunsplit((parts.scheme, f"{bucket}.{parts.netloc}", "", "", ""))
