"""Restore into another place than the configuration says: another namespace, another server, another bucket. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from dr_toolkit import errors
from dr_toolkit.config import BucketConfig, ComponentConfig, Config, ConnectionConfig, PostgresDumpConfig

_KEYS = "namespace, host, port, COMPONENT.host, COMPONENT.port, COMPONENT.database, COMPONENT.url"
_CONNECTION = ("host", "port", "database")


def apply(config: Config, texts: Iterable[str]) -> Config:
    """The configuration with what was mapped; what is not mapped stays where it is.

    Args:
        config: as it was read.
        texts: each ``KEY=VALUE``, or several with commas.

    Raises:
        UsageError: a key is unknown, or does not fit its component.
    """
    given = _parse(texts)
    if not given:
        return config
    components = dict(config.components)
    for key, value in given.items():
        name, dot, field = key.rpartition(".")
        if dot:
            if name not in components:
                raise _wrong(key, f'there is no component "{name}"')
            components[name] = _mapped(key, components[name], field, value)
        elif key in ("host", "port"):
            for other, component in components.items():
                if isinstance(component, PostgresDumpConfig) and f"{other}.{key}" not in given:
                    components[other] = _mapped(key, component, key, value)
        elif key != "namespace":
            raise _wrong(key, "it is unknown")
    platform = config.platform
    if "namespace" in given:
        platform = {
            name: application.model_copy(update={"namespace": given["namespace"], "url": None})
            for name, application in platform.items()
        }
    return config.model_copy(update={"components": components, "platform": platform})


def namespace_of(texts: Iterable[str]) -> str | None:
    """The namespace that is mapped; None where none is.

    Raises:
        UsageError: a text is no ``KEY=VALUE``.
    """
    return _parse(texts).get("namespace")


def _parse(texts: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in (part for text in texts for part in text.split(",")):
        key, sign, value = item.strip().partition("=")
        if not sign or not key or not value:
            raise errors.UsageError(
                f'"{item}" is no KEY=VALUE', hint=f"keys: {_KEYS}", unaffected="nothing was started"
            )
        found[key] = value
    return found


def _mapped(key: str, component: ComponentConfig, field: str, value: str) -> ComponentConfig:
    try:
        if isinstance(component, PostgresDumpConfig) and field in _CONNECTION:
            changed = _connection(key, component.connection_for_restore(), field, value)
            return component.model_copy(update={"connection": changed, "restore_connection": None})
        if isinstance(component, BucketConfig) and field == "url":
            probe = {"kind": "bucket", "url": value}
            return component.model_copy(update={"url": BucketConfig.model_validate(probe).url})
    except ValidationError as error:
        raise _wrong(key, str(error.errors()[0]["msg"])) from error
    raise _wrong(key, f"a {component.kind} has no such thing")


def _connection(key: str, old: ConnectionConfig, field: str, value: str) -> ConnectionConfig:
    """The connection that restore uses, elsewhere; as strictly checked as the file is."""
    given = old.given()
    if "url" in given:
        raise _wrong(key, "its connection is given as a URL; write host, port and database instead")
    if field == "host":
        given.pop("hosts", None)
    number = field == "port" and value.isdecimal()
    return ConnectionConfig.model_validate(given | {field: int(value) if number else value})


def _wrong(key: str, why: str) -> errors.UsageError:
    return errors.UsageError(
        f'"{key}" cannot be mapped: {why}', on=key, hint=f"keys: {_KEYS}", unaffected="nothing was started"
    )
