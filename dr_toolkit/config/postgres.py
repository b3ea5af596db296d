"""The kinds of component that are PostgreSQL databases, and how such a server is reached."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from dr_toolkit.config.secrets import SecretRef
from dr_toolkit.config.section import OF_PARENT, ComponentFields, Section
from dr_toolkit.config.values import CertificatePath, ConnectionUrl, LocalPath, Port, Size, SizeOrNone, Text

PLACE = ("host", "hosts", "url")
"""The three ways to say where a server is; exactly one is used."""

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


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


class PostgresDumpConfig(ComponentFields):
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


class PostgresBaseConfig(ComponentFields):
    """A whole PostgreSQL server (cluster), backed up with pg_basebackup."""

    kind: Literal["postgres-base"]
    """The kind of component: `postgres-base`."""
    connection: ConnectionConfig
    """How backup reaches the server: any database of it, and a role with REPLICATION."""
    checkpoint: Literal["fast", "spread"] = "fast"
    """How the server's checkpoint at the start is made: at once, or spread over time to spare its disk."""
    max_rate: Annotated[int, Field(ge=32, le=1048576)] | None = None
    """At most so many KiB each second are read from the server. Without it, no limit."""
    max_wal_kept: Size | None = None
    """At most so much WAL (`10Gi`) is held on the server while a backup runs; the backup ends with an error before it is more, so that
    the server's disk never fills up. Default: half of what is free there, where drctl runs on the same machine and may ask; else twice
    the server's `max_wal_size`, or a quarter of all databases when that is more."""
    count_rows: SizeOrNone = 64 << 20
    """Tables of at most this size (`64Mi`) are counted while the backup runs, and a verification by restore is held against that. 0:
    none. The role needs SELECT on them (`pg_read_all_data`); others are left out, and the evidence says how many."""
    audit_every: Annotated[int, Field(ge=0, le=1000)] = 10
    """After so many increments (PostgreSQL 17 and newer, with `summarize_wal`) the cluster is read whole once, and every page is held
    against what the increments said. 0: never, but where an increment cannot be had."""
