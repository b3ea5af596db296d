"""The process of the node: a loop over all Pods, and the server of their logs. ``devstack/kubelet.py`` starts it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

from devstack.kube_api import KubeApi, KubeError
from devstack.kubelet import EVICT, NODE
from devstack.kubelet_logs import LogServer
from devstack.kubelet_pod import HOST, PodRunner
from devstack.kubelet_volumes import amount

PERIOD = 0.1
GONE = {404, 409}


class Node:
    """Binds Pods, runs them, and reports.

    Args:
        settings: what ``Kubelet`` wrote.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._api = KubeApi(settings["url"], Path(settings["ca_file"]), settings["token"])
        self._root = Path(settings["root"])
        self._pods: dict[str, PodRunner] = {}
        self._made = 0
        self._logs = LogServer(settings, self._find)

    def register(self) -> None:
        """Make the node known."""
        capacity = self._settings["capacity"]
        self._api.create(
            "/api/v1/nodes", {"metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}}}
        )
        status = {
            "addresses": [{"type": "InternalIP", "address": HOST}, {"type": "Hostname", "address": NODE}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._settings["port"]}},
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        self._api.request("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": status})
        self._logs.start()
        (self._root / "ready").touch()

    def run(self) -> None:
        """Go on until the process is told to end."""
        while True:
            began = time.monotonic()
            try:
                self.turn()
            except (KubeError, OSError, HTTPException):
                # The API server may be away for a while: Pods go on, as on a real node.
                traceback.print_exc()
            time.sleep(max(0.01, PERIOD - (time.monotonic() - began)))

    def turn(self) -> None:
        """Look at every Pod once."""
        self._provide()
        pods = {
            pod["metadata"]["uid"]: pod for pod in self._api.get("/api/v1/pods?resourceVersion=0")["items"]
        }
        for uid, pod in pods.items():
            with contextlib.suppress(KubeError):
                self._look_at(uid, pod)
        for uid in self._pods.keys() - pods.keys():
            self._forget(uid)

    def end(self) -> None:
        """Kill everything."""
        for runner in self._pods.values():
            runner.kill()

    def _look_at(self, uid: str, pod: dict[str, Any]) -> None:
        runner = self._pods.get(uid)
        path = _path(pod)
        deleted = pod["metadata"].get("deletionTimestamp")
        if runner is None:
            if pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
                return
            if deleted:
                self._delete(path)
            elif self._binds(pod, path):
                self._made += 1
                place = self._root / str(self._made)
                address = f"127.{10 + self._made // 250}.0.{1 + self._made % 250}"
                self._pods[uid] = PodRunner(self._api, pod, place, address, self._images)
            return
        if deleted:
            runner.shorten_grace(pod["metadata"].get("deletionGracePeriodSeconds", 30))
            if runner.terminate():
                self._report(runner, path)
                self._delete(path)
            return
        runner.step(pod["metadata"].get("annotations", {}).get(EVICT))
        self._report(runner, path)

    def _binds(self, pod: Mapping[str, Any], path: str) -> bool:
        if pod["spec"].get("nodeName"):
            return bool(pod["spec"]["nodeName"] == NODE)
        obstacle = self._obstacle(pod)
        if obstacle:
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": f"0/1 nodes are available: {obstacle}",
            }
            if condition not in pod.get("status", {}).get("conditions", []):
                self._api.request("PATCH", f"{path}/status", {"status": {"conditions": [condition]}})
            return False
        target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
        self._api.create(f"{path}/binding", {"metadata": {"name": pod["metadata"]["name"]}, "target": target})
        return True

    def _obstacle(self, pod: Mapping[str, Any]) -> str:
        """Say why a scheduler would not bind it."""
        for kind in ("cpu", "memory"):
            wanted = sum(
                amount(container.get("resources", {}).get("requests", {}).get(kind, "0"))
                for container in pod["spec"]["containers"]
            )
            if wanted > amount(self._settings["capacity"][kind]):
                return f"1 Insufficient {kind}."
        for volume in pod["spec"].get("volumes", []):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if not claim:
                continue
            path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/persistentvolumeclaims/{claim}"
            try:
                phase = self._api.get(path)["status"].get("phase")
            except KubeError:
                return f'persistentvolumeclaim "{claim}" not found.'
            if phase != "Bound":
                return "pod has unbound immediate PersistentVolumeClaims."
        return ""

    def _provide(self) -> None:
        """Make a volume for each claim whose class is one of ours; the controller manager binds them."""
        for claim in self._api.get("/api/v1/persistentvolumeclaims?resourceVersion=0")["items"]:
            wanted = claim["spec"].get("storageClassName")
            if wanted not in self._settings["storage_classes"] or claim["spec"].get("volumeName"):
                continue
            name = f"pv-{claim['metadata']['uid']}"
            reference = {key: claim["metadata"][key] for key in ("namespace", "name", "uid")}
            spec = {
                "capacity": claim["spec"]["resources"]["requests"],
                "accessModes": claim["spec"]["accessModes"],
                "storageClassName": wanted,
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": str(self._root / "pv" / claim["metadata"]["uid"][:8])},
                "claimRef": {"kind": "PersistentVolumeClaim", "apiVersion": "v1"} | reference,
            }
            with contextlib.suppress(KubeError):
                self._api.create("/api/v1/persistentvolumes", {"metadata": {"name": name}, "spec": spec})

    def _report(self, runner: PodRunner, path: str) -> None:
        news = runner.news()
        if news is not None:
            self._api.request("PATCH", f"{path}/status", {"status": news})

    def _delete(self, path: str) -> None:
        try:
            self._api.request("DELETE", path, {"gracePeriodSeconds": 0})
        except KubeError as error:
            if error.status not in GONE:
                raise

    def _forget(self, uid: str) -> None:
        runner = self._pods.pop(uid)
        runner.kill()
        shutil.rmtree(runner.directory, ignore_errors=True)

    def _find(self, namespace: str, name: str) -> PodRunner | None:
        for runner in list(self._pods.values()):
            meta = runner.pod["metadata"]
            if (meta["namespace"], meta["name"]) == (namespace, name):
                return runner
        return None

    def _images(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads((self._root / "images.json").read_text())
        return found


def _path(pod: Mapping[str, Any]) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def main(settings: str) -> None:
    """Be the node.

    Args:
        settings: the file that ``Kubelet`` wrote.
    """
    # What the launcher has set would close the volumes to programs that run as another user.
    os.umask(0o022)
    node = Node(json.loads(Path(settings).read_text()))

    def end(*_: object) -> None:
        node.end()
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    node.register()
    node.run()


if __name__ == "__main__":
    main(sys.argv[1])
