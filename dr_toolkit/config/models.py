"""What ``drctl.yaml`` may say, field by field. The docstring under a field is its description in the JSON Schema.

Frozen, and closed: an unknown key is an error. Checks that need several fields sit on one of them rather than on the model, so
that they are reported together with every other problem.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from dr_toolkit.config.secrets import SecretRef
from dr_toolkit.config.values import (
    BucketUrl,
    CertificatePath,
    ConnectionUrl,
    Count,
    Cron,
    Duration,
    HttpUrl,
    LocalPath,
    Name,
    Port,
    RepositoryUrl,
    Text,
    Trust,
)

PLACE = ("host", "hosts", "url")
"""The three ways to say where a server is; exactly one is used."""

OF_PARENT = "of_parent"
"""The type of a problem that is the whole section's rather than the field's that found it."""

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
Role = Literal["write", "read"]


class Section(BaseModel):
    """What all parts of the configuration have in common."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        validate_default=True,  # the checks of several fields run whether their own field is given or not
    )


class S3Config(Section):
    """How to reach an S3 server."""

    endpoint: HttpUrl | None = None
    """URL of the server (`https://minio:9000`). Without it Amazon's, for the region."""
    region: Text = "us-east-1"
    """The region; a part of every signature."""
    access_key_id: SecretRef | None = None
    """Reference to the access key's id. Without it the usual AWS chain is asked (environment, profile, web identity, roles)."""
    secret_access_key: SecretRef | None = None
    """Reference to the secret that belongs to `access_key_id`."""
    session_token: SecretRef | None = None
    """Reference to the session token, where the keys are temporary."""
    ca_file: LocalPath | None = None
    """File with certificates (PEM) that are trusted besides the system's."""
    addressing: Literal["path", "virtual"] = "path"
    """Where the bucket's name goes: into the path (most servers), or in front of the host's name."""

    @field_validator("secret_access_key")
    @classmethod
    def _both_or_none(cls, value: SecretRef | None, info: ValidationInfo) -> SecretRef | None:
        if "access_key_id" in info.data and (info.data["access_key_id"] is None) != (value is None):
            raise PydanticCustomError(OF_PARENT, "give both access_key_id and secret_access_key, or neither")
        return value


class RepositoryConfig(Section):
    """A bucket and prefix, or a directory."""

    url: RepositoryUrl
    """`s3://bucket/prefix`, or `file:///path` for a directory."""
    trust: Trust | None = None
    """The repository's signing public key as `drctl init` printed it (`ed25519:…`). A backup seals only to keys that it vouches for."""
    s3: S3Config | None = None
    """How to reach the S3 server; only with an `s3://` URL."""

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


class _ConnectionFields(Section):
    """The fields of a connection; which of them are needed, the subclasses say."""

    host: Text | None = None
    """Name or address of the server, or the directory of its Unix socket. One of `host`, `hosts`, `url`."""
    hosts: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    """Several servers, tried in order: `host` or `host:port`. One of `host`, `hosts`, `url`."""
    url: ConnectionUrl | None = None
    """`postgresql://…` or `jdbc:postgresql://…` without a password, or a reference to a whole URL (`env:CDK_DATABASE_URL`),
    which may hold one. Fields beside it win over what it says. One of `host`, `hosts`, `url`."""
    port: Port | None = None
    """Port of every host that does not name its own. Default: 5432."""
    database: Text | None = None
    """Name of the database."""
    user: Text | None = None
    """Role to log in as."""
    password: SecretRef | None = None
    """Reference to the password. Not needed with a client certificate or a socket."""
    sslmode: SslMode | None = None
    """How much TLS is asked for, as in libpq. Default: `prefer`; `verify-full` is what protects."""
    sslrootcert: CertificatePath | None = None
    """File with the authorities (PEM) that the server's certificate must come from, or `system`."""
    sslcert: LocalPath | None = None
    """File with the client's certificate (PEM)."""
    sslkey: LocalPath | None = None
    """File with the client's private key (PEM)."""
    programs: LocalPath | None = None
    """Directory with PostgreSQL's programs (`pg_dump`, `pg_restore`, …). Default: looked for."""

    @field_validator("sslkey")
    @classmethod
    def _certificate_and_key(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "sslcert" in info.data and (info.data["sslcert"] is None) != (value is None):
            raise PydanticCustomError(OF_PARENT, "give both sslcert and sslkey, or neither")
        return value

    def given(self) -> dict[str, Any]:
        """The fields that the configuration sets, with their values."""
        return {name: value for name in self.model_fields_set if (value := getattr(self, name)) is not None}


class ConnectionConfig(_ConnectionFields):
    """How to reach a PostgreSQL database."""

    @field_validator("url")
    @classmethod
    def _one_place(cls, value: str | None, info: ValidationInfo) -> str | None:
        known = {"host", "hosts"} <= info.data.keys()  # else one of them has a problem of its own
        places = [value, info.data.get("host"), info.data.get("hosts")]
        if known and sum(place is not None for place in places) != 1:
            raise PydanticCustomError(OF_PARENT, "give exactly one of host, hosts and url")
        return value

    @field_validator("database", "user")
    @classmethod
    def _needed_without_url(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("url", "unknown") is None:
            raise PydanticCustomError("missing", "missing")
        return value


class RestoreConnectionConfig(_ConnectionFields):
    """What is different about the connection where restore runs: another role, another server."""

    @field_validator("url")
    @classmethod
    def _one_place_at_most(cls, value: str | None, info: ValidationInfo) -> str | None:
        places = [value, info.data.get("host"), info.data.get("hosts")]
        if sum(place is not None for place in places) > 1:
            raise PydanticCustomError(OF_PARENT, "give at most one of host, hosts and url")
        return value

    def over(self, connection: ConnectionConfig) -> ConnectionConfig:
        """The connection with these fields in place of its own.

        Another server replaces the whole of the old place (host, hosts, url and port). A url also replaces who logs in and where
        to, because it says so itself.
        """
        base, own = connection.given(), self.given()
        replaced: set[str] = set()
        if any(place in own for place in PLACE):
            replaced |= {*PLACE, "port"}
        if "url" in own:
            replaced |= {"database", "user", "password"}
        return ConnectionConfig.model_validate({k: v for k, v in base.items() if k not in replaced} | own)


class ObjectivesConfig(Section):
    """What was promised for a component; `drctl status` compares."""

    rpo: Duration | None = None
    """How much time of data may be lost (`2h`)."""
    rto: Duration | None = None
    """How long coming back may take (`30m`)."""


class RetentionConfig(Section):
    """How many proven snapshots are kept, by age. The newest proven ones are kept whatever is written here."""

    last: Count = 0
    """The newest so many."""
    daily: Count = 0
    """The newest of each of so many days."""
    weekly: Count = 0
    """The newest of each of so many weeks."""
    monthly: Count = 0
    """The newest of each of so many months."""
    yearly: Count = 0
    """The newest of each of so many years."""

    @field_validator("yearly")
    @classmethod
    def _keeps_something(cls, value: int, info: ValidationInfo) -> int:
        if value == 0 and info.data and not any(info.data.values()):
            raise PydanticCustomError(OF_PARENT, "would keep nothing; give at least one number above 0")
        return value


class _ComponentFields(Section):
    """What every kind of component has."""

    schedule: Cron | None = None
    """When to back up: the five fields of cron, in UTC (`15 * * * *`)."""
    objectives: ObjectivesConfig | None = None
    """How much may be lost and how long coming back may take."""
    retention: RetentionConfig | None = None
    """Which snapshots are kept. Without it, all."""


class PostgresDumpConfig(_ComponentFields):
    """A PostgreSQL database, backed up with pg_dump."""

    kind: Literal["postgres-dump"]
    """The kind of component: `postgres-dump`."""
    connection: ConnectionConfig
    """How backup reaches the database."""
    restore_connection: RestoreConnectionConfig | None = None
    """What is different where restore runs; the rest is as in `connection`."""
    check_source: Annotated[bool, Field(strict=True)] = False
    """Also compare row counts by SQL, in the dump's own snapshot of the source."""

    @field_validator("restore_connection")
    @classmethod
    def _fits_connection(
        cls, value: RestoreConnectionConfig | None, info: ValidationInfo
    ) -> RestoreConnectionConfig | None:
        connection = info.data.get("connection")
        if value is not None and isinstance(connection, ConnectionConfig):
            try:
                value.over(connection)
            except ValidationError as error:
                lacking = sorted({".".join(map(str, problem["loc"])) for problem in error.errors()})
                raise ValueError(
                    f"does not fit the connection that it changes: {', '.join(lacking)} missing"
                ) from None
        return value

    def connection_for_restore(self) -> ConnectionConfig:
        """The connection that restore uses: `connection`, changed by `restore_connection`."""
        if self.restore_connection is None:
            return self.connection
        return self.restore_connection.over(self.connection)


class PostgresBaseConfig(_ComponentFields):
    """A whole PostgreSQL server (cluster), backed up with pg_basebackup."""

    kind: Literal["postgres-base"]
    """The kind of component: `postgres-base`."""
    connection: ConnectionConfig
    """How backup reaches the server: any database of it, and a role with REPLICATION."""
    checkpoint: Literal["fast", "spread"] = "fast"
    """How the server's checkpoint at the start is made: at once, or spread over time to spare its disk."""
    max_rate: Annotated[int, Field(ge=32, le=1048576)] | None = None
    """At most so many KiB each second are read from the server. Without it, no limit."""


class BucketConfig(_ComponentFields):
    """The objects of a bucket, or of a folder in it."""

    kind: Literal["bucket"]
    """The kind of component: `bucket`."""
    url: BucketUrl
    """`s3://bucket`, or `s3://bucket/folder` for the keys that begin with `folder/`."""
    s3: S3Config = S3Config()
    """How to reach the server."""
    max_change: Annotated[int, Field(strict=True, ge=0, le=100)] = 50
    """More than this percentage of the last snapshot's objects gone, or rewritten, and the run ends with code 3: a snapshot is taken all the same."""


class _Kinds:
    """Chooses a component's model by its ``kind``: pydantic's own way wants at least two kinds, and this list grows."""

    models: Mapping[str, type[Section]] = {
        "postgres-dump": PostgresDumpConfig,
        "postgres-base": PostgresBaseConfig,
        "bucket": BucketConfig,
    }

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {kind: handler.generate_schema(model) for kind, model in cls.models.items()}
        return core_schema.tagged_union_schema(choices, discriminator="kind")


ComponentConfig = PostgresDumpConfig | PostgresBaseConfig | BucketConfig
"""Any kind of component. A new kind joins this union and `_Kinds.models`."""


def _where_it_wraps(key: KeyConfig) -> tuple[str, ...]:
    if isinstance(key, KeyFileConfig):
        return (key.type, key.path)
    return (key.type, key.address, key.namespace or "", key.mount, key.transit_key)


class VerifyConfig(Section):
    """How `drctl verify --restore` works."""

    scratch: Literal["local"] = "local"
    """Where it restores into: `local`, a throw-away PostgreSQL on this machine."""
    programs: LocalPath | None = None
    """Directory with the programs of the PostgreSQL to start (`initdb`, `postgres`). Default: looked for."""


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
    verify: VerifyConfig = VerifyConfig()
    """How verification works."""

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
