"""A real Kubernetes control plane on loopback: etcd, the API server with RBAC, and the controller manager.

No scheduler and no node: ``devstack/kubelet.py`` is the one, where a test needs Pods to run.
"""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import signal
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from devstack import kube_assets, kubeconfig, programs, web
from devstack.kube_api import KubeApi, KubeError
from devstack.tls import Authority
from dr_toolkit.errors import ProgramError

SERVICE_RANGE = "10.255.0.0/24"
# Names of servers and issuer that are written into tokens; nothing is resolved.
ISSUER = "https://kubernetes.default.svc"
# There is no node that could be lost, no cloud and no certificate to sign; each would only take time.
CONTROLLERS = (
    "*",
    "-node-lifecycle-controller",
    "-node-ipam-controller",
    "-certificatesigningrequest-signing-controller",
    "-certificatesigningrequest-approving-controller",
)


class ControlPlane(KubeApi):
    """One control plane. ``with`` removes everything at its end.

    Args:
        root: a directory of its own; made if missing.
        release: what to run; by default what the test run asks for.
        heavy: for many GB of objects: etcd takes them, and neither it nor the API server holds them in its memory.
    """

    host = "127.0.0.1"

    def __init__(
        self, root: Path, *, release: kube_assets.Release | None = None, heavy: bool = False
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._heavy = heavy
        self.root = root
        self.port = programs.free_port()
        self.authority = Authority(root / "tls")
        self.authority.issue_server()
        super().__init__(
            f"https://{self.host}:{self.port}", self.authority.ca_file, secrets.token_urlsafe(24)
        )
        self.release = release or kube_assets.release()
        self._programs = {name: kube_assets.program(name, self.release) for name in kube_assets.PROGRAMS}
        self._etcd_port, self._etcd_peer = programs.free_port(), programs.free_port()
        self._manager_port = programs.free_port()
        self._write_identities()
        self._etcd = programs.Server("etcd", root / "etcd.log")
        self._api = programs.Server("kube-apiserver", root / "kube-apiserver.log")
        self._manager = programs.Server("kube-controller-manager", root / "kube-controller-manager.log")

    @property
    def kubeconfig(self) -> Path:
        """The file with which an administrator logs in, by a client certificate."""
        return self.root / "admin.kubeconfig"

    @property
    def kubectl(self) -> Path:
        """The program ``kubectl`` of the same release."""
        return self._programs["kubectl"]

    @property
    def log(self) -> Path:
        """The API server's log."""
        return self._api.log

    @property
    def running(self) -> bool:
        """Whether the API server's process is alive."""
        return self._api.running

    def start(self) -> Self:
        """Start everything and wait until namespaces get their service account.

        Returns:
            The control plane itself.
        """
        self._start_etcd()
        self.start_api()
        self._start_manager()
        return self

    def start_api(self) -> None:
        """Start the API server, and wait until it is ready."""
        if self._api.running:
            return
        self._api.start([str(self._programs["kube-apiserver"]), *self._api_options()], self._environment())
        self._api.wait_until(self._api_ready, timeout=60)

    def kill_api(self) -> None:
        """SIGKILL the API server; ``start_api`` brings it back at the same port."""
        self._api.kill_tree()

    def pause_api(self) -> None:
        """Freeze the API server: connections are taken by the kernel, and nothing answers."""
        self._api.pause()

    def resume_api(self) -> None:
        """Let a frozen API server go on."""
        self._api.resume()

    def forget_history(self) -> None:
        """Drop every old state of every object, and restart the API server, which keeps some of them: lists that began before are 410 now."""
        url = f"http://{self.host}:{self._etcd_port}/v3/kv"
        answer = json.loads(_posted(f"{url}/range", {"key": base64.b64encode(b"x").decode()}))
        now = answer["header"]["revision"]
        _posted(f"{url}/compaction", {"revision": now, "physical": True})
        self.kill_api()
        self.start_api()

    def stop(self) -> None:
        """End everything."""
        # Killed, not asked: the API server would hold its port for some seconds, and the data are thrown away.
        for server in (self._manager, self._api, self._etcd):
            server.stop()

    def remove(self) -> None:
        """Stop and delete everything that was written."""
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _write_identities(self) -> None:
        tokens = self.root / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text(f"{self.admin_token},admin,admin,system:masters\n")
        certificate, key = self.authority.issue_client("admin-certificate", group="system:masters")
        identity = {"client-certificate": str(certificate), "client-key": str(key)}
        kubeconfig.write(self.kubeconfig, self.url, self.ca_file, identity, "default")
        self.authority.issue_client("kube-apiserver", group="system:masters")
        signing = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        path = self.root / "tls" / "tokens.key"
        path.touch(mode=0o600)
        path.write_bytes(
            signing.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )

    def _environment(self) -> dict[str, str]:
        return programs.base_environment() | {"HOME": str(self.root)}

    def _start_etcd(self) -> None:
        client, peer = (f"http://{self.host}:{port}" for port in (self._etcd_port, self._etcd_peer))
        options = {
            "data-dir": self.root / "etcd",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "unsafe-no-fsync": "true",
            "log-level": "error",
            "quota-backend-bytes": 4 << 30,
        }
        if self._heavy:
            options |= {
                "quota-backend-bytes": 16 << 30,
                "snapshot-count": 100,
                "snapshot-catchup-entries": 20,
            }
        self._etcd.start([str(self._programs["etcd"]), *_options(options)], self._environment())
        self._etcd.wait_until(lambda: _answers(f"{client}/health"))

    def _api_options(self) -> list[str]:
        tls = self.root / "tls"
        return _options(
            {
                "etcd-servers": f"http://{self.host}:{self._etcd_port}",
                "bind-address": self.host,
                "secure-port": self.port,
                # Never dialled: with the reconciler off nobody writes it anywhere. A loopback address is refused.
                "advertise-address": "192.0.2.1",
                "endpoint-reconciler-type": "none",
                "tls-cert-file": self.authority.server_certificate,
                "tls-private-key-file": self.authority.server_key,
                "client-ca-file": self.ca_file,
                "token-auth-file": self.root / "tokens.csv",
                "service-account-issuer": ISSUER,
                "service-account-key-file": tls / "tokens.key",
                "service-account-signing-key-file": tls / "tokens.key",
                "service-cluster-ip-range": SERVICE_RANGE,
                "authorization-mode": "RBAC",
                "allow-privileged": "false",
                "kubelet-certificate-authority": self.ca_file,
                "kubelet-client-certificate": tls / "kube-apiserver.crt",
                "kubelet-client-key": tls / "kube-apiserver.key",
                "kubelet-preferred-address-types": "InternalIP",
                "event-ttl": "1h",
                "shutdown-delay-duration": "0s",
                **({"watch-cache": "false"} if self._heavy else {}),
            }
        )

    def _api_ready(self) -> bool:
        return _answers(f"{self.url}/readyz", self.ca_file, self.admin_token)

    def _start_manager(self) -> None:
        options = {
            "kubeconfig": self.kubeconfig,
            "bind-address": self.host,
            "secure-port": self._manager_port,
            "tls-cert-file": self.authority.server_certificate,
            "tls-private-key-file": self.authority.server_key,
            "root-ca-file": self.ca_file,
            "service-account-private-key-file": self.root / "tls" / "tokens.key",
            "controllers": ",".join(CONTROLLERS),
            "leader-elect": "false",
            "kube-api-qps": 500,
            "kube-api-burst": 1000,
        }
        program = str(self._programs["kube-controller-manager"])
        self._manager.start([program, *_options(options)], self._environment())
        self._manager.wait_until(self._namespaces_are_served, timeout=60)

    def _namespaces_are_served(self) -> bool:
        try:
            self.get("/api/v1/namespaces/default/serviceaccounts/default")
        except (KubeError, OSError, HTTPException):
            return False
        return True

    def pids(self) -> dict[str, int | None]:
        """Name the processes that run.

        Returns:
            Each program's process id.
        """
        return {server.name: server.pid for server in (self._etcd, self._api, self._manager)}

    def end_manager(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the controller manager: nothing makes Pods of Jobs any more, and namespaces do not end.

        Args:
            number: the signal.
        """
        self._manager.stop(number)

    def start_manager(self) -> None:
        """Bring the controller manager back."""
        if not self._manager.running:
            self._start_manager()


def _options(options: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


def _posted(url: str, body: Mapping[str, object]) -> bytes:
    """Ask etcd by its JSON gateway."""
    status, answer = web.request(url, method="POST", body=json.dumps(body).encode())
    if status != 200:
        raise ProgramError(f"etcd answered {status} to {url}")
    return answer


def _answers(url: str, ca_file: Path | None = None, token: str | None = None) -> bool:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        return web.request(url, ca_file=ca_file, headers=headers, timeout=2)[0] == 200
    except (OSError, HTTPException):
        return False
