"""From the configured keys to recipients."""

from __future__ import annotations

from dr_toolkit import errors
from dr_toolkit.config import Config, KeyFileConfig, VaultKeyConfig, resolve_secret
from dr_toolkit.config.secrets import VaultReader
from dr_toolkit.keys.key_file import KeyFile
from dr_toolkit.keys.vault import VaultKey, VaultSettings, read_kv
from dr_toolkit.repository.keyring import Recipient


def open_recipients(config: Config) -> list[Recipient]:
    """Every configured recipient; nothing is contacted yet."""
    if not config.keys:
        raise errors.ConfigError('no recipient is configured under "keys"', hint="see: drctl config example")
    recipients: list[Recipient] = []
    for name, key in config.keys.items():
        if isinstance(key, KeyFileConfig):
            recipients.append(KeyFile(name, key.role or "both", key.path))
        else:
            recipients.append(
                VaultKey(name, key.role or "both", _vault(name, key), key.transit_key, key.mount)
            )
    return recipients


def vault_reader(config: Config) -> VaultReader:
    """Reads ``vault:`` references with the first configured Vault that answers to them."""

    def read(path: str, field: str) -> str:
        for name, key in config.keys.items():
            if isinstance(key, VaultKeyConfig):
                return read_kv(_vault(name, key), path, field)
        raise errors.ConfigError(
            f'the reference "vault:{path}#{field}" needs a key of type vault in the configuration',
            on=f"vault:{path}#{field}",
        )

    return read


def _vault(name: str, key: VaultKeyConfig) -> VaultSettings:
    token = resolve_secret(key.auth.token)
    if token is None:
        raise errors.ConfigError(f'the recipient "{name}" has no token', on=name)
    return VaultSettings(key.address, token, key.namespace, key.ca_file)
