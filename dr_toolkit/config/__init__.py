"""``drctl.yaml``: what it may say (`models`), how it is read (`loading`), and how its secrets are fetched (`secrets`).

Imports pydantic and PyYAML, so the command line imports this late.
"""

from __future__ import annotations

from dr_toolkit.config.example import example
from dr_toolkit.config.loading import SEARCHED, VARIABLE, find, load, parse, schema
from dr_toolkit.config.models import (
    BucketConfig,
    ComponentConfig,
    Config,
    ConnectionConfig,
    KeyConfig,
    KeyFileConfig,
    ObjectivesConfig,
    PostgresBaseConfig,
    PostgresDumpConfig,
    RepositoryConfig,
    RestoreConnectionConfig,
    RetentionConfig,
    S3Config,
    VaultAuthConfig,
    VaultKeyConfig,
    VerifyConfig,
)
from dr_toolkit.config.secrets import SecretRef, resolve_secret

__all__ = [
    "SEARCHED",
    "VARIABLE",
    "BucketConfig",
    "ComponentConfig",
    "Config",
    "ConnectionConfig",
    "KeyConfig",
    "KeyFileConfig",
    "ObjectivesConfig",
    "PostgresBaseConfig",
    "PostgresDumpConfig",
    "RepositoryConfig",
    "RestoreConnectionConfig",
    "RetentionConfig",
    "S3Config",
    "SecretRef",
    "VaultAuthConfig",
    "VaultKeyConfig",
    "VerifyConfig",
    "example",
    "find",
    "load",
    "parse",
    "resolve_secret",
    "schema",
]
