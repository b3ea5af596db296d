"""``drctl.yaml``: what it may say (`models`, with a file for each kind of component), how it is read (`loading`), and how its secrets are fetched (`secrets`).

Imports pydantic and PyYAML, so the command line imports this late.
"""

from __future__ import annotations

from dr_toolkit.config.bucket import BucketConfig
from dr_toolkit.config.cluster import ClusterConfig
from dr_toolkit.config.example import example
from dr_toolkit.config.helm import HelmConfig, IncludeValues, SecretsConfig
from dr_toolkit.config.loading import SEARCHED, VARIABLE, find, load, parse, schema
from dr_toolkit.config.models import (
    ComponentConfig,
    Config,
    KeyConfig,
    KeyFileConfig,
    RepositoryConfig,
    VaultAuthConfig,
    VaultKeyConfig,
    VerifyConfig,
)
from dr_toolkit.config.platform import ApplicationConfig
from dr_toolkit.config.postgres import (
    ConnectionConfig,
    PostgresBaseConfig,
    PostgresDumpConfig,
    RestoreConnectionConfig,
)
from dr_toolkit.config.rehearsal import RehearsalConfig
from dr_toolkit.config.scratch import ScratchNamespaceConfig
from dr_toolkit.config.secrets import SecretRef, is_reference, resolve_secret
from dr_toolkit.config.section import ObjectivesConfig, RetentionConfig, S3Config

__all__ = [
    "SEARCHED",
    "VARIABLE",
    "ApplicationConfig",
    "BucketConfig",
    "ClusterConfig",
    "ComponentConfig",
    "Config",
    "ConnectionConfig",
    "HelmConfig",
    "IncludeValues",
    "KeyConfig",
    "KeyFileConfig",
    "ObjectivesConfig",
    "PostgresBaseConfig",
    "PostgresDumpConfig",
    "RehearsalConfig",
    "RepositoryConfig",
    "RestoreConnectionConfig",
    "RetentionConfig",
    "S3Config",
    "ScratchNamespaceConfig",
    "SecretRef",
    "SecretsConfig",
    "VaultAuthConfig",
    "VaultKeyConfig",
    "VerifyConfig",
    "example",
    "find",
    "is_reference",
    "load",
    "parse",
    "resolve_secret",
    "schema",
]
