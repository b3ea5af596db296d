"""What ``drctl discover`` found, as data: proposed components with the reason for each field, and what could not be found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Scalar = str | int | bool


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a proposed configuration.

    Attributes:
        name: as in ``drctl.yaml``.
        value: a scalar, a list of scalars, or fields below this one.
        comment: why, or where it comes from; stands behind the field, or above it where the field has others below.
    """

    name: str
    value: Scalar | tuple[Scalar, ...] | tuple[Field, ...]
    comment: str = ""

    def plain(self) -> Any:
        """The value as ``drctl.yaml`` would give it."""
        if not isinstance(self.value, tuple):
            return self.value
        if fields := [item for item in self.value if isinstance(item, Field)]:
            return {item.name: item.plain() for item in fields}
        return list(self.value)


@dataclass(frozen=True, slots=True)
class Credential:
    """A secret that drctl needs: the variable that the configuration refers to, and where its value lies."""

    variable: str
    source: str
    """In words: ``Secret conduktor/console-secrets, key CDK_DATABASE_PASSWORD``."""
    secret_ref: Mapping[str, str] | None = None
    """``namespace``, ``name`` and ``key`` of the Secret, where it is one."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """One component."""

    name: str
    about: tuple[str, ...]
    """Sentences that stand above it."""
    fields: tuple[Field, ...]
    credentials: tuple[Credential, ...] = ()
    missing: tuple[str, ...] = ()
    """What could not be found out about it, a sentence each."""

    def plain(self) -> dict[str, Any]:
        """The component as ``drctl.yaml`` would give it."""
        return {item.name: item.plain() for item in self.fields}


@dataclass(frozen=True, slots=True)
class Member:
    """A workload of the platform."""

    role: str
    """``console``, ``cortex`` or ``gateway``."""
    namespace: str
    name: str
    release: str
    image: str
    live: bool = True
    """Whether it is there; else its Helm release says that it should be."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """Everything that was found."""

    members: tuple[Member, ...]
    components: tuple[Proposal, ...]
    missing: tuple[str, ...] = ()
    """What could not be found, beside what the components say themselves."""
    not_protected: tuple[str, ...] = ()
    """State of the platform that nothing here protects, a sentence each."""
    topics: tuple[str, ...] = field(default=())
    """Kafka topics with Gateway's state."""

    @property
    def all_missing(self) -> tuple[str, ...]:
        """Everything that could not be found."""
        return (*self.missing, *(f"{c.name}: {text}" for c in self.components for text in c.missing))

    @property
    def credentials(self) -> tuple[Credential, ...]:
        """Every variable that the configuration refers to, once each."""
        return tuple({c.variable: c for part in self.components for c in part.credentials}.values())
