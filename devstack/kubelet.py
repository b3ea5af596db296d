"""A node without containers: Pods of a real API server run as local processes.

The control plane has no scheduler and no kubelet; this is both, small. It binds Pods to one node, gives each container
its environment and its volumes, runs its command as a process, and reports status, exit codes and logs. An image stands for
programs of this machine, by a table of the test.

What is different from a real node: there are no namespaces of the kernel. A mount path is replaced by the volume's directory
in arguments, in the environment and in the files of ConfigMaps and Secrets (``/tmp`` only by ``TMPDIR``); the root file
system is ours; limits are not enforced; a user is changed only where the table says so; Pods have loopback addresses of
their own, Services none.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from devstack import programs
from devstack.kube_api import KubeApi
from devstack.managed import Managed
from devstack.tls import Authority

NODE = "devstack"
EVICT = "devstack/evict"
"""An annotation: the kubelet evicts the Pod, with its value as the message."""
REPOSITORY = Path(__file__).resolve().parent.parent


class Kubelet(Managed):
    """The node's process. ``with`` removes everything at its end, the Pods' processes too.

    Args:
        api: the control plane.
        authority: that of the control plane; the API server reads logs over TLS.
        capacity: what the node has, such as ``{"memory": "8Gi"}``; a Pod that asks for more stays pending.
        storage_classes: those of which a claim gets a volume; a claim of another stays pending.
    """

    def __init__(
        self,
        api: KubeApi,
        authority: Authority,
        *,
        capacity: Mapping[str, str] | None = None,
        storage_classes: Sequence[str] = ("standard",),
    ) -> None:
        # Short, because Unix sockets lie in volumes; open, because some programs run as another user.
        root = Path(tempfile.mkdtemp(prefix="drctl-kl-"))
        root.chmod(0o755)
        super().__init__(root, programs.Server("kubelet", root / "kubelet.log", death_signal=signal.SIGTERM))
        self.port = programs.free_port()
        self._images: dict[str, dict[str, Any]] = {}
        self._settings = {
            "url": api.url,
            "ca_file": str(api.ca_file),
            "token": api.admin_token,
            "root": str(self.root),
            "port": self.port,
            "certificate": str(authority.server_certificate),
            "key": str(authority.server_key),
            "capacity": {"cpu": "64", "memory": "64Gi", "pods": "1000"} | dict(capacity or {}),
            "storage_classes": list(storage_classes),
        }

    def add_image(
        self,
        name: str,
        entrypoint: Sequence[str] = (),
        *,
        named: Mapping[str, Sequence[str]] | None = None,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        """Say what an image is. Others cannot be pulled.

        Args:
            name: as Pods name it.
            entrypoint: the program that runs where a container has no command.
            named: what a container's command may name: the program and its first arguments.
            environment: of every process.
            user: who runs it, where we are root.
        """
        self._images[name] = {
            "entrypoint": list(entrypoint),
            "named": {word: list(argv) for word, argv in (named or {}).items()},
            "environment": dict(environment or {}),
            "user": user if programs.unprivileged_user() else None,
        }
        self._write_images()

    def remove_image(self, name: str) -> None:
        """Let an image not be pulled any more.

        Args:
            name: as Pods name it.
        """
        self._images.pop(name, None)
        self._write_images()

    def start(self) -> Self:
        """Start the node, and wait until it is registered.

        Returns:
            The node itself.
        """
        self._write_images()
        settings = self.root / "settings.json"
        settings.touch(mode=0o600)
        settings.write_text(json.dumps(self._settings))
        environment = programs.base_environment() | {"PYTHONPATH": str(REPOSITORY)}
        self._server.start([sys.executable, "-m", "devstack.kubelet_node", str(settings)], environment)
        self._server.wait_until(self._ready)
        return self

    def stop(self) -> None:
        """End the node in good order: all its processes end with it."""
        self._server.stop(signal.SIGTERM)

    def remove(self) -> None:
        """Stop the node, and delete everything that it wrote."""
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def _write_images(self) -> None:
        partial = self.root / "images.partial"
        partial.write_text(json.dumps(self._images))
        partial.rename(self.root / "images.json")

    def _ready(self) -> bool:
        return (self.root / "ready").exists()
