"""Requests of tests to a real API server: plain HTTP, nothing of the product, so that a test does not trust what it tests."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from devstack import kubeconfig, web
from dr_toolkit.errors import ProgramError


class KubeError(Exception):
    """The API server refused a request of a test.

    Attributes:
        status: the HTTP status.
        answer: the ``Status`` object.
    """

    def __init__(self, what: str, status: int, answer: Any) -> None:
        message = answer.get("message") if isinstance(answer, dict) else answer
        super().__init__(f"{what}: {status} {message}")
        self.status = status
        self.answer = answer


class KubeApi:
    """An API server and its administrator.

    Args:
        url: where the API is served.
        ca_file: the certificate of the authority to trust.
        admin_token: the administrator's token.
    """

    def __init__(self, url: str, ca_file: Path, admin_token: str) -> None:
        self.url = url
        self.ca_file = ca_file
        self.admin_token = admin_token

    def request(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, kind: str | None = None
    ) -> Any:
        """Send one request to the API server, as the administrator unless told otherwise.

        Args:
            method: the HTTP method.
            path: with a query where needed, such as ``/api/v1/namespaces``.
            body: an object to send as JSON.
            token: another identity's token.
            kind: the body's content type; for PATCH a merge patch by default.

        Returns:
            The answer: an object where it is JSON, else text.

        Raises:
            KubeError: the server refused.
        """
        usual = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {token or self.admin_token}", "Content-Type": kind or usual}
        data = None if body is None else json.dumps(body).encode()
        status, raw = web.request(
            self.url + path, method=method, body=data, headers=headers, ca_file=self.ca_file, timeout=60
        )
        answer = _parsed(raw)
        if status >= 400:
            raise KubeError(f"{method} {path}", status, answer)
        return answer

    def get(self, path: str) -> Any:
        """Read an object or a list.

        Args:
            path: its path.

        Returns:
            The answer.
        """
        return self.request("GET", path)

    def create(self, path: str, body: Mapping[str, Any]) -> Any:
        """Make an object.

        Args:
            path: of the collection.
            body: the object.

        Returns:
            The object as the server has it.
        """
        return self.request("POST", path, body)

    def delete(self, path: str, *, missing_is_fine: bool = True) -> None:
        """Delete an object, dependents in the background.

        Args:
            path: its path.
            missing_is_fine: do not complain when it is not there.
        """
        try:
            self.request("DELETE", path, {"propagationPolicy": "Background"})
        except KubeError as error:
            if error.status != 404 or not missing_is_fine:
                raise

    def wait_for(self, path: str, what: str, done: Callable[[Any], object], *, timeout: float = 60) -> Any:
        """Read an object again and again until it is as wanted.

        Args:
            path: its path.
            what: what is waited for, for the message.
            done: a function of the object (None while it is missing) that says whether it is as wanted.
            timeout: seconds after which to give up.

        Returns:
            The object.

        Raises:
            ProgramError: it did not become so in time.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                found = self.get(path)
            except KubeError as error:
                if error.status != 404:
                    raise
                found = None
            if done(found):
                return found
            if time.monotonic() > deadline:
                raise ProgramError(
                    f'"{path}" did not become {what} in {timeout:.0f} s: {json.dumps(found)[:4000]}'
                )
            time.sleep(0.05)

    def make_namespace(self, name: str | None = None, *, labels: Mapping[str, str] | None = None) -> str:
        """Make a namespace, and wait for its default service account.

        Args:
            name: its name; by default a fresh one.
            labels: its labels, such as ``pod-security.kubernetes.io/enforce``.

        Returns:
            The name.
        """
        name = name or f"test-{secrets.token_hex(5)}"
        self.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": dict(labels or {})}})
        self.wait_for(f"/api/v1/namespaces/{name}/serviceaccounts/default", "there", bool)
        self.wait_for(f"/api/v1/namespaces/{name}/configmaps/kube-root-ca.crt", "there", bool)
        return name

    def make_service_account(
        self,
        namespace: str,
        name: str,
        rules: Sequence[Mapping[str, Any]] = (),
        *,
        cluster_wide: bool = False,
    ) -> str:
        """Make a service account with exactly the given rights.

        Args:
            namespace: where it lives.
            name: its name.
            rules: the rules of its role; none means no rights.
            cluster_wide: grant them in every namespace, and for objects outside of namespaces.

        Returns:
            A token that is good for an hour.
        """
        self.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})
        if rules:
            self.grant(namespace, name, rules, cluster_wide=cluster_wide)
        return self.make_token(namespace, name)

    def grant(
        self,
        namespace: str,
        name: str,
        rules: Sequence[Mapping[str, Any]],
        *,
        on: str | None = None,
        cluster_wide: bool = False,
    ) -> None:
        """Give rights to a service account.

        Args:
            namespace: where the account lives.
            name: its name.
            rules: the rules of the new role.
            on: the namespace in which they hold; by default the account's own.
            cluster_wide: they hold everywhere.
        """
        scope = "" if cluster_wide else f"/namespaces/{on or namespace}"
        prefix = "Cluster" if cluster_wide else ""
        base = f"/apis/rbac.authorization.k8s.io/v1{scope}/{prefix.lower()}role"
        role = f"{namespace}-{name}-{secrets.token_hex(3)}"
        group = "rbac.authorization.k8s.io"
        self.create(f"{base}s", {"metadata": {"name": role}, "rules": list(rules)})
        binding = {
            "metadata": {"name": role},
            "roleRef": {"apiGroup": group, "kind": f"{prefix}Role", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        }
        self.create(f"{base}bindings", binding)

    def make_token(self, namespace: str, name: str, *, seconds: int = 3600) -> str:
        """Make a token of a service account.

        Args:
            namespace: where the account lives.
            name: its name.
            seconds: how long it is good; the server wants at least 600.

        Returns:
            The token.
        """
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        return str(self.create(path, {"spec": {"expirationSeconds": seconds}})["status"]["token"])

    def write_kubeconfig(self, path: Path, token: str, *, namespace: str = "default") -> Path:
        """Write a kubeconfig for the owner of a token.

        Args:
            path: where.
            token: of an identity.
            namespace: of the context.

        Returns:
            The path.
        """
        return kubeconfig.write(path, self.url, self.ca_file, {"token": token}, namespace)


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else {}
    except ValueError:
        return raw.decode(errors="replace")
