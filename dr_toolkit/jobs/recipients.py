"""From the configured keys to recipients."""

from __future__ import annotations

from dataclasses import dataclass

from dr_toolkit import errors
from dr_toolkit.config import Config, KeyFileConfig, VaultKeyConfig, resolve_secret
from dr_toolkit.config.secrets import VaultReader
from dr_toolkit.keys.key_file import KeyFile
from dr_toolkit.keys.vault import VaultKey, VaultSettings, read_kv
from dr_toolkit.repository.keyring import Recipient, Role


def open_recipients(config: Config) -> list[Recipient]:
    """Every configured recipient; nothing is contacted yet."""
    if not config.keys:
        raise errors.ConfigError('no recipient is configured under "keys"', hint="see: drctl config example")
    return [_recipient(name, key) for name, key in config.keys.items()]


def _recipient(name: str, key: KeyFileConfig | VaultKeyConfig) -> Recipient:
    role = key.role or "both"
    if isinstance(key, KeyFileConfig):
        return KeyFile(name, role, key.path)
    try:
        return VaultKey(name, role, _vault(name, key), key.transit_key, key.mount)
    except errors.ConfigError as error:
        # One configuration serves all duties: a backup job has no token of the read role, and needs none.
        return Absent(name, "vault", role, error)


@dataclass(frozen=True, slots=True)
class Absent:
    """A configured recipient whose own secret is not at hand here. It fails only when it is needed."""

    name: str
    kind: str
    role: Role
    reason: errors.ConfigError

    def wrap(self, secret: bytes, binding: bytes) -> str:
        """Cannot.

        Raises:
            ConfigError: why.
        """
        del secret, binding
        raise self.reason

    def unwrap(self, wrapped: str, binding: bytes) -> bytes:
        """Cannot.

        Raises:
            KeyRefused: why.
        """
        del wrapped, binding
        raise errors.KeyRefused(
            f'the recipient "{self.name}" cannot be used here: {self.reason.message}',
            on=self.name,
            hint=f"this needs a recipient whose secret is at hand; role of this one: {self.role}",
            unaffected="the repository is unchanged",
        ) from self.reason


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
