"""One Pod on the node: its containers in order, its phase, its end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from devstack.kube_api import KubeApi
from devstack.kubelet_container import Container, now
from devstack.kubelet_volumes import Environment, NotYetError, Volumes

HOST = "127.0.0.1"


class PodRunner:
    """One Pod that is bound to the node.

    Args:
        api: the control plane.
        pod: the Pod.
        directory: its own.
        address: its own, on loopback.
        images: reads the table of images.
    """

    def __init__(
        self,
        api: KubeApi,
        pod: dict[str, Any],
        directory: Path,
        address: str,
        images: Callable[[], Mapping[str, Any]],
    ) -> None:
        pod.setdefault("status", {})["podIP"] = address
        pod["status"]["hostIP"] = HOST
        self.pod = pod
        self.phase = "Pending"
        self._reason = ""
        self._message = ""
        self._address = address
        self._began = now()
        self._since = time.monotonic()
        self._killed_at: float | None = None
        self._reported: dict[str, Any] = {}
        self.directory = directory
        self.volumes = Volumes(api, pod, directory / "v")
        self._environment = Environment(api, pod)
        self._volumes_made = False
        self._next_try = 0.0

        def containers(kind: str) -> list[Container]:
            return [
                Container(spec, pod, directory / "c" / spec["name"], images)
                for spec in pod["spec"].get(kind, [])
            ]

        self.first = containers("initContainers")
        self.main = containers("containers")

    @property
    def over(self) -> bool:
        """Whether it has ended for good."""
        return self.phase in {"Succeeded", "Failed"}

    @property
    def running(self) -> bool:
        """Whether a process of it is alive."""
        return any(container.running for container in self._all())

    def container(self, name: str) -> Container | None:
        """Find a container.

        Args:
            name: its name.
        """
        return next((container for container in self._all() if container.name == name), None)

    def step(self, evicted: str | None) -> None:
        """Do what is to be done now.

        Args:
            evicted: the reason of an eviction.
        """
        for container in self._all():
            container.watch(self._address)
        if self.over:
            return
        deadline = self.pod["spec"].get("activeDeadlineSeconds")
        if evicted is not None:
            self._fail("Evicted", evicted)
        elif deadline and time.monotonic() - self._since > deadline:
            self._fail("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
        elif self._mounted():
            self._advance()

    def terminate(self) -> bool:
        """End it because it was deleted: SIGTERM, and SIGKILL after its grace.

        Returns:
            Whether all processes are gone.
        """
        for container in self._all():
            container.watch(self._address)
        if self._killed_at is None:
            grace = self.pod["spec"].get("terminationGracePeriodSeconds", 30)
            self._killed_at = time.monotonic() + grace
            for container in self._all():
                container.end(signal.SIGTERM)
        if time.monotonic() > self._killed_at:
            self.kill()
        return not self.running

    def shorten_grace(self, seconds: float) -> None:
        """Take the grace that the deletion asked for.

        Args:
            seconds: from now.
        """
        if self._killed_at is None:
            self.pod["spec"]["terminationGracePeriodSeconds"] = seconds

    def kill(self) -> None:
        """SIGKILL every process of it."""
        for container in self._all():
            container.end(signal.SIGKILL)

    def news(self) -> dict[str, Any] | None:
        """Say what the API server does not know yet: a status, or None."""
        status = self._status()
        if status == self._reported:
            return None
        self._reported = status
        return status

    def _all(self) -> list[Container]:
        return [*self.first, *self.main]

    def _mounted(self) -> bool:
        if self._volumes_made:
            return True
        if time.monotonic() < self._next_try:
            return False
        try:
            self.volumes.make()
        except NotYetError:
            self._next_try = time.monotonic() + 0.3
            return False
        self._volumes_made = True
        return True

    def _advance(self) -> None:
        policy = self.pod["spec"].get("restartPolicy", "Always")
        for container in self.first:
            stays = container.spec.get("restartPolicy") == "Always"
            self._keep(container, "Always" if stays else policy, again=stays)
            if stays and not container.started:
                return
            if not stays and container.exit_code != 0:
                if container.exit_code is not None and policy == "Never":
                    self._fail("", "")
                return
        for container in self.main:
            self._keep(container, policy, again=policy == "Always")
        codes = [container.exit_code for container in self.main]
        if all(code is not None for code in codes):
            self._finish(codes)
        elif self.phase == "Pending" and all("waiting" not in container.state for container in self.main):
            self.phase = "Running"

    def _finish(self, codes: list[int | None]) -> None:
        for container in self.first:
            container.end(signal.SIGTERM)
        self.phase = "Failed" if any(codes) else "Succeeded"

    def _keep(self, container: Container, policy: str, *, again: bool) -> None:
        """Start a container that is not running, unless it has ended for good."""
        if container.running:
            return
        code = container.exit_code
        if code is not None and (again or (code != 0 and policy == "OnFailure")):
            container.restart_later()
            code = None
        if code is None:
            container.start(self.volumes, self._environment)

    def _fail(self, reason: str, message: str) -> None:
        self.kill()
        self.phase, self._reason, self._message = "Failed", reason, message

    def _status(self) -> dict[str, Any]:
        initialized = self._volumes_made and all(
            container.started if container.spec.get("restartPolicy") == "Always" else container.exit_code == 0
            for container in self.first
        )
        ready = self.phase == "Running" and all(container.ready for container in self.main)
        facts = {
            "PodScheduled": True,
            "Initialized": initialized or self.phase == "Succeeded",
            "ContainersReady": ready,
            "Ready": ready,
        }
        conditions = [{"type": kind, "status": str(value)} for kind, value in facts.items()]
        if self._reason == "Evicted":
            disruption = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}
            conditions.append(disruption | {"message": self._message})
        return {
            "phase": self.phase,
            "reason": self._reason or None,
            "message": self._message or None,
            "conditions": conditions,
            "podIP": self._address,
            "podIPs": [{"ip": self._address}],
            "hostIP": HOST,
            "startTime": self._began,
            "initContainerStatuses": [container.status() for container in self.first],
            "containerStatuses": [container.status() for container in self.main],
        }
