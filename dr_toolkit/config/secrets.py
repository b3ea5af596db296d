"""References to secrets, and fetching what they point to.

A configuration never holds a secret, so it can be kept in Git, mounted from a ConfigMap and attached to a ticket.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from dr_toolkit import log
from dr_toolkit.errors import ConfigError

VaultReader = Callable[[str, str], str]
"""Reads one field of a secret in Vault: ``(path, field)`` gives the value."""

_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/.+|vault:[^#\s]+#[^#\s]+")
_LARGEST_FILE = 64 << 10
_FORMS = '"env:NAME", "file:/path" or "vault:path#field"'
_SECRET_PARAMETERS = ("password", "sslpassword")


class SecretRef(str):
    """Where a secret is: ``env:NAME``, ``file:/path`` or ``vault:path#field``. The reference itself is no secret."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        """Accept a reference; refuse anything else without repeating it, because it may be the secret."""
        return core_schema.no_info_plain_validator_function(
            cls.parse, json_schema_input_schema=core_schema.str_schema(pattern=f"^({_REFERENCE.pattern})$")
        )

    @classmethod
    def parse(cls, value: Any) -> SecretRef:
        """Make a reference of a text.

        Raises:
            ValueError: it is none; the message does not repeat it.
        """
        if not isinstance(value, str) or not is_reference(value):
            raise ValueError(f"expected a reference to a secret, not the secret: {_FORMS}")
        return cls(value)


def is_reference(text: str) -> bool:
    """Whether a text has the form of a reference to a secret."""
    return _REFERENCE.fullmatch(text) is not None


def resolve_secret(ref: SecretRef | None, *, vault: VaultReader | None = None) -> str | None:
    """Fetch what a reference points to, and mask it in everything that is written from now on.

    Args:
        ref: the reference; ``None`` gives ``None``.
        vault: how to read Vault, where a reference asks for it.

    Raises:
        ConfigError: there is nothing there; the message names the reference and never a value.
    """
    if ref is None:
        return None
    scheme, _, place = ref.partition(":")
    if scheme == "env":
        value = _from_environment(place)
    elif scheme == "file":
        value = _from_file(place)
    else:
        value = _from_vault(ref, place, vault)
    if not value:
        raise ConfigError(f'the secret "{ref}" is empty')
    _mask(value)
    return value


def literal_password(url: str) -> bool:
    """Whether a connection URL holds a password of its own."""
    return any(True for _ in _passwords(url))


def _from_environment(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise ConfigError(
            f'the secret "env:{name}" is not there: the environment variable is not set',
            hint=f"set {name} in the environment of drctl",
        )
    return value


def _from_file(place: str) -> str:
    try:
        with Path(place).open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
        text = data.decode()
    except OSError as error:
        raise ConfigError(f'the secret "file:{place}" cannot be read: {error.strerror}') from error
    except UnicodeDecodeError:
        raise ConfigError(
            f'the secret "file:{place}" is not UTF-8 text'
        ) from None  # the cause would show bytes of it
    if len(data) > _LARGEST_FILE:
        raise ConfigError(f'the secret "file:{place}" is larger than 64 KiB')
    return text.removesuffix("\n").removesuffix("\r")


def _from_vault(ref: str, place: str, vault: VaultReader | None) -> str:
    if vault is None:
        raise ConfigError(
            f'the secret "{ref}" cannot be read: no Vault is known here',
            hint='configure a key of type "vault", or use an "env:" or "file:" reference',
        )
    path, _, field = place.partition("#")
    return vault(path, field)


def _mask(value: str) -> None:
    log.mask(value)
    for password in _passwords(value):
        log.mask(password)
        log.mask(unquote(password))


def _passwords(url: str) -> list[str]:
    try:
        parts = urlsplit(url.strip().removeprefix("jdbc:"))
        query = parse_qs(parts.query)
        found = [parts.password] if parts.netloc and parts.password else []
    except ValueError:  # not a URL, so nothing of one inside
        return []
    return found + [value for name in _SECRET_PARAMETERS for value in query.get(name, []) if parts.scheme]
