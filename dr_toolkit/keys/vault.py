"""The recipient ``vault``: a Transit key of Vault or OpenBao, and secrets from its KV engine. The only file that imports hvac.

The Transit key should be made with ``derived=true``: then the binding, sent as ``context``, becomes part of the key. The binding's
hash is also inside what is encrypted, so a key that is not derived is bound as well (docs/format.md, section 5.3).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from dr_toolkit.errors import ConfigError, KeyRefused, KeyUnreachable

Role = Literal["write", "read", "both"]

TIMEOUT_S = 20
ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """Where a Vault is and how to get in. Its repr shows no token.

    Attributes:
        address: URL of the server.
        token: for every request.
        namespace: where the server has them.
        ca_file: certificates (PEM) that are trusted instead of the system's.
    """

    address: str
    token: str = field(repr=False)
    namespace: str | None = None
    ca_file: str | None = None

    def __post_init__(self) -> None:
        # What cannot be sent as a header would be repeated in the library's error.
        if not (self.token.isascii() and self.token.isprintable() and self.token.strip() == self.token != ""):
            raise ConfigError(
                f"the token for {self.address} is not one: it is empty, or has spaces or line ends",
                on=self.address,
                hint="check the reference auth.token",
            )


class VaultKey:
    """Wraps with Transit's ``encrypt`` and ``decrypt``.

    Args:
        name: of the recipient in the configuration.
        role: what it may unwrap.
        settings: the server.
        transit_key: name of the key.
        mount: where the Transit engine is.
    """

    kind = "vault"

    def __init__(
        self, name: str, role: Role, settings: VaultSettings, transit_key: str, mount: str = "transit"
    ) -> None:
        self.name = name
        self.role: Role = role
        self._settings = settings
        self._key = transit_key
        self._mount = mount

    def __repr__(self) -> str:
        return f"VaultKey({self.name!r}, {self.role!r}, {self._settings.address!r}, {self._key!r})"

    def describe(self) -> str:
        """For messages."""
        return f'Transit key "{self._key}" at {self._settings.address}'

    def wrap(self, secret: bytes, binding: bytes) -> str:
        """The text that Transit answers: ``vault:v1:…``."""
        bound = hashlib.sha256(binding).digest()
        path = f"{self._mount}/encrypt/{self._key}"
        with _translated(self.describe(), self.name, path, "update"), _client(self._settings) as client:
            answer = client.secrets.transit.encrypt_data(
                name=self._key,
                plaintext=_text(bound + secret),
                context=_text(bound),
                mount_point=self._mount,
            )
        return str(self._given(answer, "ciphertext"))

    def unwrap(self, wrapped: str, binding: bytes) -> bytes:
        """Open what ``wrap`` made with the same key and binding.

        Raises:
            KeyUnreachable: the server cannot be reached, is sealed, or is overloaded.
            KeyRefused: the token may not, the key is another, or the binding does not fit.
        """
        bound = hashlib.sha256(binding).digest()
        path = f"{self._mount}/decrypt/{self._key}"
        with _translated(self.describe(), self.name, path, "update"), _client(self._settings) as client:
            answer = client.secrets.transit.decrypt_data(
                name=self._key, ciphertext=wrapped, context=_text(bound), mount_point=self._mount
            )
        try:
            opened = base64.b64decode(self._given(answer, "plaintext"), validate=True)
        except binascii.Error as error:
            raise self._strange() from error
        if not hmac.compare_digest(opened[:32], bound):
            raise KeyRefused(
                f"{self.describe()} opened something that belongs elsewhere",
                on=self.name,
                hint="the key file of the repository was altered, or belongs to another repository",
            )
        return opened[32:]

    def binds_context(self) -> bool:
        """Whether the server itself binds what it wraps, which it does for keys made with ``derived=true``.

        Found out by wrapping nothing without a context: a derived key refuses that, another ignores the context.
        Needs the right to encrypt, as ``wrap`` does.
        """
        import hvac.exceptions  # noqa: PLC0415

        with _translated(self.describe(), self.name, f"{self._mount}/encrypt/{self._key}", "update"):
            try:
                with _client(self._settings) as client:
                    client.secrets.transit.encrypt_data(
                        name=self._key, plaintext=_text(b""), mount_point=self._mount
                    )
            except hvac.exceptions.InvalidRequest as error:
                if "context" in str(error):
                    return True
                raise
        return False

    def _given(self, answer: Any, name: str) -> str:
        """A field of Transit's answer. A proxy in between may answer anything."""
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, dict) or not isinstance(data.get(name), str):
            raise self._strange()
        return str(data[name])

    def _strange(self) -> KeyUnreachable:
        return _unreachable(self.describe(), self.name, "the answer is not Transit's", "check the address")


def read_kv(settings: VaultSettings, path: str, field_name: str) -> str:
    """One field of a secret, for ``vault:kv/path#field``, from KV version 2 or 1.

    Args:
        settings: the server.
        path: mount, then the secret's path, as ``vault kv get`` takes it.
        field_name: the field.

    Raises:
        ConfigError: there is no such secret or field.
        KeyUnreachable: the server cannot be reached, is sealed, or is overloaded.
        KeyRefused: the token may not.
    """
    on = f"vault:{path}#{field_name}"
    place = path
    with _client(settings) as client:
        # Which version the mount has: any token may ask that knows a secret below it.
        with _translated(f'the secret "{path}"', on, path, "read"):
            mount = _data(client.read(f"sys/internal/ui/mounts/{path}"))
        versioned = (mount.get("options") or {}).get("version") == "2"
        if versioned:
            place = f"{mount['path']}data/{path.removeprefix(mount['path'])}"
        with _translated(f'the secret "{path}"', on, place, "read"):
            fields = _data(client.read(place))
    if versioned:
        fields = fields.get("data") or {}
    if not isinstance(fields.get(field_name), str):
        raise ConfigError(
            f'the reference "{on}" points to no text', on=on, hint=f"look with: vault kv get {path}"
        )
    return str(fields[field_name])


def _data(answer: Any) -> dict[str, Any]:
    """The data of an answer; hvac gives ``None`` for what is not there, and a response for what is not JSON."""
    data = answer.get("data") if isinstance(answer, dict) else None
    return data if isinstance(data, dict) else {}


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


@contextmanager
def _client(settings: VaultSettings) -> Iterator[Any]:
    import hvac  # noqa: PLC0415 -- slow to import, and only some commands need it
    import requests  # noqa: PLC0415
    from requests.adapters import HTTPAdapter  # noqa: PLC0415
    from urllib3.util import Retry  # noqa: PLC0415

    retry = Retry(
        total=ATTEMPTS,
        read=1,
        backoff_factor=0.3,
        status_forcelist=(412, 429, 500, 502, 503),
        allowed_methods=None,
        raise_on_status=False,
        respect_retry_after_header=False,
    )
    verify = settings.ca_file or True
    with requests.Session() as session:
        # hvac prefers the session's own setting to its argument.
        session.verify = verify
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        yield hvac.Client(
            url=settings.address,
            token=settings.token,
            namespace=settings.namespace,
            verify=verify,
            timeout=TIMEOUT_S,
            session=session,
        )


@contextmanager
def _translated(what: str, on: str, path: str, capability: str) -> Iterator[None]:
    """Turn hvac's and requests' errors into ours. Their texts are dropped: they may repeat what was sent."""
    import hvac.exceptions as refused  # noqa: PLC0415
    import requests  # noqa: PLC0415

    try:
        yield
    except requests.exceptions.SSLError as error:
        raise _unreachable(
            what, on, "its TLS certificate is not trusted", "set ca_file, and check the host name"
        ) from error
    except requests.exceptions.RequestException as error:
        raise _unreachable(
            what, on, type(error).__name__, "check the address, the network and the server"
        ) from error
    except (refused.Forbidden, refused.Unauthorized) as error:
        raise _refused(
            f"{what} refuses this token",
            on,
            f'check that the token is valid; its policy needs: path "{path}" {{ capabilities = ["{capability}"] }}',
        ) from error
    except (refused.InvalidRequest, refused.InvalidPath) as error:
        raise _not_possible(what, on, path, str(error)) from error
    except refused.VaultError as error:
        raise _unreachable(what, on, type(error).__name__, "is the server sealed? vault status") from error
    except OSError as error:
        # requests says so before it connects, when it cannot read the file of certificates.
        raise ConfigError(
            f"{what}: ca_file cannot be used", on=on, hint="set ca_file to a file of certificates (PEM)"
        ) from error


def _not_possible(what: str, on: str, path: str, said: str) -> KeyRefused:
    """A request that the server understood and cannot do."""
    if "no handler for route" in said:
        return _refused(f'{what}: nothing is mounted that serves "{path}"', on, "check mount")
    if "key not found" in said:
        return _refused(
            f"{what} does not exist",
            on,
            f"an administrator makes it: vault write -f {path.replace('/decrypt/', '/keys/')} derived=true",
        )
    return _refused(
        f"{what} does not open this",
        on,
        "it is another key, or the key file of the repository was altered or moved",
    )


def _refused(message: str, on: str, hint: str) -> KeyRefused:
    return KeyRefused(message, on=on, hint=hint, unaffected="the repository is unchanged")


def _unreachable(what: str, on: str, reason: str, hint: str) -> KeyUnreachable:
    return KeyUnreachable(
        f"{what} cannot be reached: {reason}", on=on, hint=hint, unaffected="the repository is unchanged"
    )
