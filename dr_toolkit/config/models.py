"""What ``drctl.yaml`` may say as a whole, field by field. The docstring under a field is its description in the JSON Schema.

Frozen, and closed: an unknown key is an error. Checks that need several fields sit on one of them rather than on the model, so
that they are reported together with every other problem.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, GetCoreSchemaHandler, ValidationInfo, field_validator
from pydantic_core import CoreSchema, core_schema

from dr_toolkit.config.bucket import BucketConfig
from dr_toolkit.config.cluster import ClusterConfig
from dr_toolkit.config.helm import HelmConfig, SecretsConfig
from dr_toolkit.config.platform import ApplicationConfig
from dr_toolkit.config.postgres import PostgresBaseConfig, PostgresDumpConfig
from dr_toolkit.config.schedule import ScheduleConfig
from dr_toolkit.config.scratch import ScratchNamespaceConfig
from dr_toolkit.config.secrets import SecretRef
from dr_toolkit.config.section import S3Config, Section
from dr_toolkit.config.values import HttpUrl, LocalPath, Name, RepositoryUrl, Text, Trust

Role = Literal["write", "read"]


class RepositoryConfig(Section):
    """A bucket and prefix, or a directory."""

    url: RepositoryUrl
    """`s3://bucket/prefix`, or `file:///path` for a directory."""
    trust: Trust | None = None
    """The repository's signing public key as `drctl init` printed it (`ed25519:…`). A backup seals only to keys that it vouches for."""
    s3: S3Config | None = None
    """How to reach the S3 server; only with an `s3://` URL."""

    @property
    def directory(self) -> Path | None:
        """The directory that the URL names; None for a bucket."""
        parts = urlsplit(self.url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    @field_validator("s3")
    @classmethod
    def _only_for_s3(cls, value: S3Config | None, info: ValidationInfo) -> S3Config | None:
        if value is not None and str(info.data.get("url", "s3:")).startswith("file:"):
            raise ValueError("has no meaning for a file:// repository; remove it, or change the url")
        return value


class VaultAuthConfig(Section):
    """How to log in to Vault."""

    method: Literal["token"]
    """The way to log in: `token`."""
    token: SecretRef
    """Reference to the token."""


class VaultKeyConfig(Section):
    """A recipient that wraps with a Transit key of Vault or OpenBao."""

    type: Literal["vault"]
    """The type of recipient: `vault`."""
    role: Role | None = None
    """What it may unwrap: `write` (back up, list) or `read` (also restore, verify, prune). Without a role: both."""
    address: HttpUrl
    """URL of the server (`https://vault:8200`)."""
    transit_key: Text
    """Name of the Transit key. Each role needs a key of its own."""
    mount: Text = "transit"
    """Where the Transit engine is mounted."""
    auth: VaultAuthConfig
    """How to log in."""
    ca_file: LocalPath | None = None
    """File with certificates (PEM) that are trusted instead of the system's."""
    namespace: Text | None = None
    """Namespace, where the server has them."""


class KeyFileConfig(Section):
    """A recipient that wraps with a file of 32 random bytes: for tests, demonstrations and air-gapped sites."""

    type: Literal["key-file"]
    """The type of recipient: `key-file`."""
    role: Role | None = None
    """What it may unwrap: `write` (back up, list) or `read` (also restore, verify, prune). Without a role: both."""
    path: LocalPath
    """The key file. A relative path counts from the directory of this configuration."""


KeyConfig = VaultKeyConfig | KeyFileConfig


class _Kinds:
    """Chooses a component's model by its ``kind``: pydantic's own way wants at least two kinds, and this list grows."""

    models: Mapping[str, type[Section]] = {
        "postgres-dump": PostgresDumpConfig,
        "postgres-base": PostgresBaseConfig,
        "bucket": BucketConfig,
        "helm": HelmConfig,
        "secrets": SecretsConfig,
    }

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {kind: handler.generate_schema(model) for kind, model in cls.models.items()}
        return core_schema.tagged_union_schema(choices, discriminator="kind")


ComponentConfig = PostgresDumpConfig | PostgresBaseConfig | BucketConfig | HelmConfig | SecretsConfig
"""Any kind of component. A new kind joins this union and `_Kinds.models`."""


def _where_it_wraps(key: KeyConfig) -> tuple[str, ...]:
    if isinstance(key, KeyFileConfig):
        return (key.type, key.path)
    return (key.type, key.address, key.namespace or "", key.mount, key.transit_key)


class VerifyConfig(Section):
    """How `drctl verify --restore` works."""

    scratch: Literal["local", "namespace", "sidecar"] = "local"
    """Where it restores into: `local`, a throw-away PostgreSQL on this machine; `namespace`, one in a Kubernetes namespace that is made for it and deleted; `sidecar`, one beside drctl in its Pod (what the Job of `namespace` uses)."""
    programs: LocalPath | None = None
    """Directory with the programs of the PostgreSQL to start (`initdb`, `postgres`). Default: looked for."""
    namespace: ScratchNamespaceConfig | None = None
    """What runs in a scratch namespace; needed for `namespace`."""
    parallel: Annotated[int, Field(ge=1, le=16)] | None = None
    """How many components `drctl pre-upgrade` proves beside each other, where scratch has room for them. Default: as many as there are cores, at most 4."""


class Config(Section):
    """The configuration of drctl."""

    version: Literal[1]
    """Version of this configuration's form: 1."""
    repository: RepositoryConfig
    """Where snapshots live."""
    keys: Annotated[dict[Name, Annotated[KeyConfig, Field(discriminator="type")]], Field(min_length=1)]
    """The recipients: who can unwrap the repository's keys. Two of different types are better than one."""
    components: Annotated[dict[Name, Annotated[ComponentConfig, _Kinds]], Field(min_length=1)]
    """What is protected, by name."""
    cluster: ClusterConfig = ClusterConfig()
    """How to reach the Kubernetes API, for what needs it."""
    platform: dict[Name, ApplicationConfig] = Field(default={})
    """The applications that use what is protected, by name: what is scaled down for a restore, and asked about its health."""
    verify: VerifyConfig = VerifyConfig()
    """How verification works."""
    schedule: ScheduleConfig = ScheduleConfig()
    """How `drctl schedule` works."""

    def with_scratch(self, place: str) -> Config:
        """The same, with another place for scratch."""
        return self.model_copy(update={"verify": self.verify.model_copy(update={"scratch": place})})

    @field_validator("keys")
    @classmethod
    def _a_transit_key_for_each_role(cls, keys: dict[str, KeyConfig]) -> dict[str, KeyConfig]:
        seen: dict[tuple[str, ...], tuple[str, Role | None]] = {}
        for name, key in keys.items():
            place = _where_it_wraps(key)
            other, role = seen.setdefault(place, (name, key.role))
            if role != key.role:
                raise ValueError(
                    f"{other} and {name} wrap with the same key but have different roles; give each role a key of its own"
                )
        return keys
