"""The kinds of component that live in Kubernetes: Helm releases, and Secrets."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, field_validator

from dr_toolkit.config.section import ComponentFields, Section
from dr_toolkit.config.values import HttpUrl, Text

Namespace = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


def _each_once(value: list[str]) -> list[str]:
    twice = sorted({one for one in value if value.count(one) > 1})
    if twice:
        raise ValueError(f'"{twice[0]}" is given twice')
    return value


Namespaces = Annotated[list[Namespace], Field(min_length=1), AfterValidator(_each_once)]


class HelmConfig(ComponentFields):
    """The Helm releases of some namespaces, read from Helm's own storage; no `helm` program is needed."""

    kind: Literal["helm"]
    """The kind of component: `helm`."""
    namespaces: Namespaces
    """Where the releases are installed."""
    revisions: Literal["all", "deployed"] = "all"
    """`all` revisions that Helm keeps, or of each release the `deployed` one."""
    drivers: Annotated[list[Literal["secrets", "configmaps"]], Field(min_length=1)] = Field(
        default=["secrets"]
    )
    """Where Helm keeps them: `secrets`, unless `HELM_DRIVER` says otherwise; `configmaps`."""
    workloads: bool = Field(default=True, strict=True)
    """Also the live state: images with digests, replicas, ConfigMaps of the releases."""
    repositories: dict[Text, HttpUrl] = Field(default={})
    """Chart repositories, by name of the chart: where `restore.sh` installs it from. Conduktor's charts are known."""


class IncludeValues(Section):
    """A Secret whose values are kept, sealed."""

    name: Text
    """Name of the Secret."""
    namespace: Namespace | None = None
    """Its namespace; without it, in every configured one."""
    keys: list[Text] | None = None
    """Only these keys; without it, all."""

    def covers(self, namespace: str, name: str) -> bool:
        """Whether this means the Secret."""
        return name == self.name and self.namespace in {None, namespace}


def _from_text(value: Any) -> Any:
    """``name``, or ``name/key``."""
    if not isinstance(value, str):
        return value
    name, _, key = value.partition("/")
    return {"name": name, "keys": [key]} if key else {"name": name}


class SecretsConfig(ComponentFields):
    """The metadata of the Secrets of some namespaces, with a fingerprint of each value; values only where they are asked for."""

    kind: Literal["secrets"]
    """The kind of component: `secrets`."""
    namespaces: Namespaces
    """Whose Secrets."""
    include_values: list[
        Annotated[IncludeValues, BeforeValidator(_from_text, json_schema_input_type=str | IncludeValues)]
    ] = Field(default=[])
    """Secrets whose values are kept as well, sealed (a write role can add them and never read them): `NAME`, `NAME/KEY`, or a section."""

    @field_validator("include_values")
    @classmethod
    def _no_wildcards(cls, value: list[IncludeValues]) -> list[IncludeValues]:
        if any("*" in one.name for one in value):
            raise ValueError("each Secret is named; there are no wildcards")
        return value
