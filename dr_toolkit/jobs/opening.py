"""From the configuration to opened things: the repository with its recipients, and connections with their secrets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

from dr_toolkit import clock, errors, log
from dr_toolkit.config import (
    ComponentConfig,
    Config,
    ConnectionConfig,
    PostgresBaseConfig,
    PostgresDumpConfig,
    S3Config,
    SecretRef,
    resolve_secret,
)
from dr_toolkit.config.secrets import is_reference
from dr_toolkit.jobs.recipients import open_recipients, vault_reader
from dr_toolkit.postgres import connection
from dr_toolkit.postgres.connection import ConnectionSettings
from dr_toolkit.repository import repository
from dr_toolkit.repository.opening import open_store
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.s3_settings import S3Settings
from dr_toolkit.repository.store import Store

_log = log.get("jobs.opening")
_Model = TypeVar("_Model", bound=ComponentConfig)


@contextmanager
def opened_repository(config: Config) -> Iterator[Repository]:
    """The configured repository, verified; its connections are closed at the end."""
    store = store_of(config)
    if config.repository.trust is None:
        _log.warning(
            "repository.trust is not set: the repository's own word is taken for its keys",
            hint="drctl init printed the line",
        )
    try:
        yield repository.open_repository(store, open_recipients(config), config.repository.trust)
    finally:
        store.close()


def moment(repository: Repository) -> datetime:
    """The storage's time; this machine's where a storage that takes no write (read-only, full) cannot tell it.

    For what is shown, and for reading: a copy on a read-only medium restores like any other.
    """
    try:
        return repository.store.now()
    except (errors.StoreUnreachable, errors.StoreFull) as error:
        _log.info("the storage does not tell its time", reason=error.message)
        return clock.now()


def store_of(config: Config, *, create: bool = False) -> Store:
    """The repository's storage. ``create`` makes a missing directory."""
    s3 = s3_settings(config.repository.s3, config) if config.repository.s3 else None
    return open_store(config.repository.url, s3, create=create)


def s3_settings(given: S3Config, config: Config) -> S3Settings:
    """How to reach an S3 server, with secrets resolved."""
    read = vault_reader(config)
    return S3Settings(
        endpoint=given.endpoint,
        region=given.region,
        access_key_id=resolve_secret(given.access_key_id, vault=read),
        secret_access_key=resolve_secret(given.secret_access_key, vault=read),
        session_token=resolve_secret(given.session_token, vault=read),
        ca_file=given.ca_file,
        addressing=given.addressing,
    )


def chosen_components(config: Config, names: tuple[str, ...]) -> dict[str, ComponentConfig]:
    """The components that were named, or all.

    Raises:
        UsageError: one is not configured.
        NothingToDo: none is configured.
    """
    unknown = [name for name in names if name not in config.components]
    if unknown:
        known = ", ".join(sorted(config.components)) or "none"
        raise errors.UsageError(
            f'the component "{unknown[0]}" is not configured',
            on=unknown[0],
            hint=f"configured are: {known}",
            unaffected="nothing was started",
        )
    if not config.components:
        raise errors.NothingToDo(
            "no component is configured", hint='add one under "components"; see: drctl config example'
        )
    return {name: config.components[name] for name in names or config.components}


def expect(component: ComponentConfig, model: type[_Model]) -> _Model:
    """The component, of the kind that the caller works for.

    Raises:
        UsageError: it is of another kind.
    """
    if not isinstance(component, model):
        raise errors.UsageError(
            f'a component of kind "{component.kind}" does not fit here', unaffected="nothing was started"
        )
    return component


def source_settings(component: PostgresDumpConfig | PostgresBaseConfig, config: Config) -> ConnectionSettings:
    """How the backup reaches its database."""
    return _settings(component.connection, config)


def restore_settings(component: PostgresDumpConfig, config: Config) -> ConnectionSettings:
    """How a restore reaches the server: the connection, with what ``restore_connection`` says instead."""
    return _settings(component.connection_for_restore(), config)


def _settings(given: ConnectionConfig, config: Config) -> ConnectionSettings:
    read = vault_reader(config)
    return connection.resolve(
        host=given.host,
        hosts=tuple(given.hosts or ()),
        url=url_of(given, config),
        port=given.port,
        database=given.database,
        user=given.user,
        password=resolve_secret(given.password, vault=read),
        sslmode=given.sslmode,
        sslrootcert=given.sslrootcert,
        sslcert=given.sslcert,
        sslkey=given.sslkey,
        programs=given.programs,
    )


def url_of(given: ConnectionConfig, config: Config) -> str | None:
    """The connection's URL, looked up where it is a reference."""
    if given.url is None or not is_reference(given.url):
        return given.url
    return resolve_secret(SecretRef.parse(given.url), vault=vault_reader(config))


def known_component(config: Config, name: str) -> ComponentConfig:
    """One configured component."""
    return chosen_components(config, (name,))[name]
