"""The recipient ``key-file``: AES-256-GCM with 32 bytes in a file (docs/format.md, section 5.3).

For tests, demonstrations and air-gapped sites: whoever has the file has the key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import stat
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dr_toolkit.errors import ConfigError, KeyRefused

Role = Literal["write", "read", "both"]

FIRST_LINE = "drctl key file, version 1"
PREFIX = "kf1:"
_NONCE_SIZE = 12
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_LARGEST = 4096


class KeyFile:
    """Wraps with a key that is read from a file when it is needed. Its repr shows no key.

    Args:
        name: of the recipient in the configuration.
        role: what it may unwrap.
        path: of the key file.
    """

    kind = "key-file"

    def __init__(self, name: str, role: Role, path: str) -> None:
        self.name = name
        self.role: Role = role
        self._path = path

    def __repr__(self) -> str:
        return f"KeyFile({self.name!r}, {self.role!r}, {self._path!r})"

    def describe(self) -> str:
        """For messages."""
        return f'key file "{self._path}"'

    def wrap(self, secret: bytes, binding: bytes) -> str:
        """``kf1:`` and base64 of nonce and ciphertext."""
        nonce = os.urandom(_NONCE_SIZE)
        sealed = AESGCM(self._key()).encrypt(nonce, hashlib.sha256(binding).digest() + secret, binding)
        return PREFIX + base64.b64encode(nonce + sealed).decode()

    def unwrap(self, wrapped: str, binding: bytes) -> bytes:
        """Open what ``wrap`` made with the same key and binding.

        Raises:
            KeyRefused: another key, another binding, or altered text.
            ConfigError: the key file is missing, unreadable, or not one.
        """
        try:
            raw = base64.b64decode(wrapped.removeprefix(PREFIX), validate=True)
            opened = AESGCM(self._key()).decrypt(raw[:_NONCE_SIZE], raw[_NONCE_SIZE:], binding)
        except (binascii.Error, InvalidTag, ValueError) as error:
            raise self._refused() from error
        bound = hashlib.sha256(binding).digest()
        if not wrapped.startswith(PREFIX) or not hmac.compare_digest(opened[:32], bound):
            raise self._refused()
        return opened[32:]

    def _refused(self) -> KeyRefused:
        return KeyRefused(
            f"{self.describe()} does not open this repository's keys",
            on=self.name,
            hint="it is another key, or the key file of the repository was altered; compare with the copy that was kept safe",
            unaffected="the repository is unchanged",
        )

    def _key(self) -> bytes:
        try:
            with Path(self._path).open(encoding="ascii") as file:
                facts = os.fstat(file.fileno())
                text = file.read(_LARGEST)
        except FileNotFoundError as error:
            raise ConfigError(
                f"{self.describe()} is not there",
                on=self.name,
                hint=f"bring it back from the copy that was kept safe; only for a new repository: drctl keys generate-file {self._path}",
            ) from error
        except OSError as error:
            raise ConfigError(
                f"{self.describe()} cannot be read: {error.strerror}",
                on=self.name,
                hint="run drctl as the user who owns the key file; it must be a plain file that this user may read",
            ) from error
        except UnicodeDecodeError:
            # The cause would show bytes of the file.
            raise self._not_one() from None
        # Kubernetes gives a Secret's files to root, and to a group so that the container's user can read them.
        others = _OTHERS if facts.st_uid == os.geteuid() else _OTHERS & ~stat.S_IRGRP
        if facts.st_mode & others:
            raise ConfigError(
                f"{self.describe()} is open to other users", on=self.name, hint=f"chmod 600 {self._path}"
            )
        match = re.fullmatch(rf"{FIRST_LINE}\n([0-9a-f]{{64}})\n?", text)
        if match is None:
            raise self._not_one()
        return bytes.fromhex(match[1])

    def _not_one(self) -> ConfigError:
        return ConfigError(
            f"{self.describe()} is not a key file of version 1",
            on=self.name,
            hint=f'it has two lines: "{FIRST_LINE}", and 64 hex digits',
        )


def generate(path: str) -> None:
    """Make a new key file, readable by this user only; an existing file is never replaced.

    Raises:
        ConfigError: the file exists, or cannot be made.
    """
    text = f"{FIRST_LINE}\n{os.urandom(32).hex()}\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigError(
            f'the key file "{path}" cannot be made: {error.strerror}',
            on=path,
            hint="a key file is never replaced: choose another path"
            if isinstance(error, FileExistsError)
            else "choose a path in a directory that is there and that this user may write to",
        ) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    folder = os.open(Path(path).absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
