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

from dr_toolkit.errors import ConfigError, DrctlError, KeyRefused, KeyUnreachable

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
        with _translated(self.describe(), self.name, f"{self._mount}/encrypt/{self._key}", "update"):
            transit = _client(self._settings).secrets.transit
            answer = transit.encrypt_data(
                name=self._key, plaintext=_text(bound + secret), context=_text(bound), mount_point=self._mount
            )
        return str(answer["data"]["ciphertext"])

    def unwrap(self, wrapped: str, binding: bytes) -> bytes:
        """Open what ``wrap`` made with the same key and binding.

        Raises:
            KeyUnreachable: the server cannot be reached, is sealed, or is overloaded.
            KeyRefused: the token may not, the key is another, or the binding does not fit.
        """
        bound = hashlib.sha256(binding).digest()
        with _translated(self.describe(), self.name, f"{self._mount}/decrypt/{self._key}", "update"):
            transit = _client(self._settings).secrets.transit
            answer = transit.decrypt_data(
                name=self._key, ciphertext=wrapped, context=_text(bound), mount_point=self._mount
            )
        try:
            opened = base64.b64decode(answer["data"]["plaintext"], validate=True)
        except (KeyError, TypeError, binascii.Error) as error:
            raise KeyUnreachable(f"{self.describe()} gave an answer that is none", on=self.name) from error
        if not hmac.compare_digest(opened[:32], bound):
            raise KeyRefused(
                f"{self.describe()} opened something that belongs elsewhere",
                on=self.name,
                hint="the key file of the repository was altered, or belongs to another repository",
            )
        return opened[32:]


def read_kv(settings: VaultSettings, path: str, field_name: str) -> str:
    """One field of a secret, for ``vault:kv/path#field``; KV version 2, else version 1.

    Args:
        settings: the server.
        path: mount, then the secret's path.
        field_name: the field.
    """
    mount, _, rest = path.partition("/")
    on = f"vault:{path}#{field_name}"
    with _translated(f'the secret "{path}"', on, f"{mount}/data/{rest}", "read"):
        client = _client(settings)
        answer = client.read(f"{mount}/data/{rest}") or client.read(path)
    data: Any = (answer or {}).get("data") or {}
    fields = data["data"] if isinstance(data.get("data"), dict) else data
    if field_name not in fields:
        raise ConfigError(
            f'the reference "{on}" points to nothing', on=on, hint=f"look with: vault kv get {path}"
        )
    return str(fields[field_name])


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _client(settings: VaultSettings) -> Any:
    import hvac  # noqa: PLC0415  # slow to import, and only some commands need it
    import requests  # noqa: PLC0415
    from requests.adapters import HTTPAdapter  # noqa: PLC0415
    from urllib3.util import Retry  # noqa: PLC0415

    session = requests.Session()
    session.trust_env = settings.ca_file is None
    retry = Retry(
        total=ATTEMPTS,
        backoff_factor=0.3,
        status_forcelist=(412, 429, 500, 502, 503),
        allowed_methods=None,
        raise_on_status=False,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    verify: str | bool = settings.ca_file or True
    session.verify = verify
    return hvac.Client(
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

    policy = f'path "{path}" {{ capabilities = ["{capability}"] }}'
    unaffected = "the repository is unchanged"
    try:
        yield
    except (
        requests.exceptions.ConnectionError,
        requests.exceptions.Timeout,
        requests.exceptions.RetryError,
    ) as error:
        raise KeyUnreachable(
            f"{what} cannot be reached: {type(error).__name__}",
            on=on,
            hint="check the address, the network and the CA",
            unaffected=unaffected,
        ) from error
    except (refused.Forbidden, refused.Unauthorized) as error:
        raise KeyRefused(
            f"{what} refuses this token",
            on=on,
            hint=f"the token's policy needs: {policy}",
            unaffected=unaffected,
        ) from error
    except (refused.InvalidRequest, refused.InvalidPath) as error:
        raise KeyRefused(
            f"{what} cannot do this: it does not exist, or what it was given was not made by it",
            on=on,
            hint="check transit_key and mount; was the key deleted, or is the repository another one?",
            unaffected=unaffected,
        ) from error
    except refused.VaultError as error:
        raise _unavailable(what, on, error, unaffected) from error


def _unavailable(what: str, on: str, error: Exception, unaffected: str) -> DrctlError:
    return KeyUnreachable(
        f"{what} does not answer as it should: {type(error).__name__}",
        on=on,
        hint="is the server sealed? vault status",
        unaffected=unaffected,
    )
