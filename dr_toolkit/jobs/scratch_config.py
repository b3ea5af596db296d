"""The configuration that the Job in a scratch namespace is given: one component, the repository and the read role, nothing else.

References to secrets are looked up here, because what they point to is not in that namespace. The values go into its Secret and come back as
``env:`` and files; the configuration itself holds none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from dr_toolkit import errors
from dr_toolkit.config import BucketConfig, Config, KeyFileConfig, SecretRef, resolve_secret
from dr_toolkit.config.section import Section
from dr_toolkit.jobs.recipients import vault_reader

_FILES = frozenset({"path", "ca_file"})
"""Fields that name a file whose content must come along."""
_HERE_ONLY = frozenset({"schedule", "objectives", "retention", "connection", "restore_connection"})
"""Of a component: what a proof does not use. A dump's source is not asked, so its password stays here."""
_PORTS = {"http": 80, "https": 443}


@dataclass(slots=True)
class Parcel:
    """What the Job is given.

    Attributes:
        files: the configuration and what it names, by name.
        environment: the secrets, by variable.
        ports: where it must reach.
    """

    files: dict[str, str] = field(default_factory=dict, repr=False)
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    ports: list[int] = field(default_factory=list)


def parcel(config: Config, name: str, *, directory: str, sidecar: bool) -> Parcel:
    """Make the configuration for one component.

    Args:
        config: the whole one.
        name: the component.
        directory: where the files will be.
        sidecar: restore into the PostgreSQL of the same Pod.

    Returns:
        Files, variables and ports.

    Raises:
        ConfigError: something of it cannot be reached from a Pod.
    """
    url = config.repository.url
    if url.startswith("file:"):
        raise errors.ConfigError(
            f'the repository "{url}" is a directory, which no Pod can reach',
            hint="verify here (--in local), or keep the repository in a bucket",
        )
    made = _Making(config, directory)
    component = made.value(config.components[name])
    document = {
        "version": 1,
        "repository": made.value(config.repository),
        "keys": {key: made.value(one) for key, one in config.keys.items() if one.role != "write"},
        "components": {name: component},
        "verify": {"scratch": "sidecar" if sidecar else "local"},
    }
    if not document["keys"]:
        raise errors.ConfigError(
            'no recipient with the role "read" is configured', hint="verification needs one"
        )
    if not isinstance(config.components[name], BucketConfig):
        # Whoever reads it back must find a connection: the source's, whose password is nowhere here.
        component["connection"] = _nowhere()
    made.parcel.files["drctl.yaml"] = yaml.safe_dump(document, sort_keys=False)
    return made.parcel


def _nowhere() -> dict[str, Any]:
    return {"host": "not-asked.invalid", "database": "not-asked", "user": "not-asked"}


class _Making:
    """Walks the sections, and takes along what they refer to."""

    def __init__(self, config: Config, directory: str) -> None:
        self.parcel = Parcel()
        self._directory = directory
        self._vault = vault_reader(config)

    def value(self, section: Section) -> dict[str, Any]:
        """One section as plain data."""
        made: dict[str, Any] = {}
        for field_name in type(section).model_fields:
            given = getattr(section, field_name)
            if given is None or field_name in _HERE_ONLY or field_name not in section.model_fields_set:
                continue
            made[field_name] = self._plain(field_name, given, of_key=isinstance(section, KeyFileConfig))
        return made

    def _plain(self, field_name: str, given: Any, *, of_key: bool) -> Any:
        made: Any = given
        if isinstance(given, Section):
            made = self.value(given)
        elif isinstance(given, SecretRef):
            made = self._variable(given)
        elif isinstance(given, timedelta):
            made = f"{int(given.total_seconds())}s"
        elif isinstance(given, Mapping):
            made = {str(key): self._plain("", one, of_key=False) for key, one in given.items()}
        elif isinstance(given, (list, tuple)):
            made = [self._plain("", one, of_key=False) for one in given]
        elif field_name == "ca_file" or (of_key and field_name in _FILES):
            made = self._file(str(given))
        elif field_name in {"endpoint", "address"}:
            self._reach(str(given))
        return made

    def _variable(self, reference: SecretRef) -> str:
        value = resolve_secret(reference, vault=self._vault)
        name = f"DRCTL_SECRET_{len(self.parcel.environment) + 1}"
        self.parcel.environment[name] = value or ""
        return f"env:{name}"

    def _file(self, path: str) -> str:
        try:
            content = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise errors.ConfigError(
                f'"{path}" cannot be read, so it cannot go into the scratch namespace'
            ) from error
        name = f"file-{len(self.parcel.files) + 1}"
        self.parcel.files[name] = content
        return f"{self._directory}/{name}"

    def _reach(self, url: str) -> None:
        parts = urlsplit(url)
        self.parcel.ports.append(parts.port or _PORTS.get(parts.scheme, 443))
