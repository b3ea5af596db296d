"""``python -m benchmarks.cluster``: a backup of releases and Secrets against the bare list of the same objects, and its memory. Takes some two minutes.

The control plane is the real one of the tests (``make kube-assets``). Releases are storage Secrets in Helm's form with a chart and a manifest in them.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.config import kube_config

from benchmarks import measure
from benchmarks.measure import Run, Servers
from devstack.kube import ControlPlane
from dr_toolkit.cluster import releases, secrets_snapshot
from dr_toolkit.cluster.client import Cluster
from dr_toolkit.cluster.releases import Wanted
from dr_toolkit.config import ClusterConfig
from dr_toolkit.log import NoProgress

ROUNDS = 5
SMALL, LARGE = (1000, 100), (5000, 2000)
"""Secrets and releases."""
_BARE = """
import json, sys
from kubernetes import client, config
config.load_kube_config(sys.argv[1])
token, count = None, 0
while True:
    answer = client.CoreV1Api().list_namespaced_secret(sys.argv[2], limit=500, _continue=token, _preload_content=False)
    page = json.loads(answer.data)
    count += len(page["items"])
    token = page["metadata"].get("continue")
    if not token:
        break
print(json.dumps({"secrets": count}))
"""


class _Discard:
    """A sink that keeps nothing: what reading alone costs."""

    def begin(self, path: str, kind: str, *, cutting: str = "content") -> None:
        del path, kind, cutting

    def write(self, data: bytes | bytearray | memoryview) -> None:
        del data

    def cut(self) -> None:
        pass

    def end(self, meta: Any) -> None:
        del meta


def _fill(server: ControlPlane, namespace: str, secrets: int, count: int) -> None:
    random.seed(1)
    path = f"/api/v1/namespaces/{namespace}/secrets"
    text = base64.b64encode(random.randbytes(9000)).decode()
    manifest = "".join(f"---\nkind: ConfigMap\nmetadata:\n  name: c{n}\ndata: {{}}\n" for n in range(30))

    def secret(number: int) -> dict[str, Any]:
        return {
            "metadata": {"name": f"s{number:05}"},
            "stringData": {"username": f"u{number}", "password": random.randbytes(48).hex()},
        }

    def release(number: int) -> dict[str, Any]:
        name = f"r{number:05}"
        chart = {
            "metadata": {"name": "c", "version": "1.0.0"},
            "values": {"a": 1},
            "templates": [{"name": "templates/t", "data": text}],
        }
        whole = {
            "name": name,
            "namespace": namespace,
            "version": 1,
            "info": {"status": "deployed"},
            "chart": chart,
            "config": {},
            "manifest": manifest,
        }
        payload = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(whole).encode(), 6))).decode()
        labels = {"owner": "helm", "name": name, "version": "1", "status": "deployed"}
        return {
            "metadata": {"name": f"sh.helm.release.v1.{name}.v1", "labels": labels},
            "type": "helm.sh/release.v1",
            "data": {"release": payload},
        }

    made = [secret(n) for n in range(secrets)] + [release(n) for n in range(count)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: server.create(path, one), made))


def _configured(root: Path, server: ControlPlane, namespace: str, drctl: str, env: dict[str, str]) -> Path:
    root.mkdir()
    file = root / "drctl.yaml"
    file.write_text(
        f"version: 1\nrepository: {{url: file://{root}/repository}}\nkeys: {{k: {{type: key-file, path: k.key}}}}\n"
        f"cluster: {{kubeconfig: {server.kubeconfig}}}\ncomponents:\n"
        f"  releases: {{kind: helm, namespaces: [{namespace}]}}\n  secrets: {{kind: secrets, namespaces: [{namespace}]}}\n"
    )
    for arguments in (["keys", "generate-file", str(root / "k.key")], ["init"]):
        measure.pipeline([[drctl, "-c", str(file), *arguments]], Servers(), env=env)
    return file


def _inside(cluster: Cluster, api: client.CoreV1Api, namespace: str) -> tuple[float, float, float]:
    """Processor seconds of the library's list, of the bare list by our client, and of both kinds' reading, in one process."""
    began = time.process_time()
    more: Any = ""
    while more is not None:
        more = api.list_namespaced_secret(namespace, limit=500, _continue=more).metadata._continue  # noqa: SLF001 - its name
    library = time.process_time() - began
    began = time.process_time()
    for page in cluster.pages(f"/api/v1/namespaces/{namespace}/secrets", limit=500):
        del page
    bare = time.process_time() - began
    began = time.process_time()
    sink: Any = _Discard()
    releases.take(cluster, Wanted((namespace,)), sink, NoProgress())
    secrets_snapshot.take(cluster, (namespace,), lambda _namespace, _name: (False, ()), sink, NoProgress())
    return library, bare, time.process_time() - began


def _row(name: str, runs: list[Run], bare: list[Run]) -> str:
    seconds, base = (statistics.median(one.seconds for one in these) for these in (runs, bare))
    cpu, least = (statistics.median(one.cpu for one in these) for these in (runs, bare))
    memory = max(one.rss for one in runs) / 1e6
    return f"| {name} | {seconds:.2f} | {seconds / base:.2f} | {cpu:.2f} | {cpu / least:.2f} | {memory:.0f} |"


def main() -> None:
    """Measure, then print."""
    drctl, env = str(Path(sys.executable).with_name("drctl")), dict(os.environ)
    root = Path(tempfile.mkdtemp(prefix="drctl-bench-"))
    try:
        with ControlPlane(root / "kube") as server:
            lines = [f"load {os.getloadavg()[0]:.2f}; {os.cpu_count()} cores", ""]
            small, large = server.make_namespace(), server.make_namespace()
            _fill(server, small, *SMALL)
            config = _configured(root / "small", server, small, drctl, env)
            runs: dict[str, list[Run]] = {"bare": [], "kubectl": [], "drctl": []}
            inside: list[tuple[float, float, float]] = []
            kube_config.load_kube_config(str(server.kubeconfig))
            api = client.CoreV1Api()
            with Cluster(ClusterConfig(kubeconfig=str(server.kubeconfig))) as cluster:
                for _round in range(ROUNDS):
                    bare = [sys.executable, "-c", _BARE, str(server.kubeconfig), small]
                    runs["bare"].append(measure.pipeline([bare], Servers(), env=env, watch=True)[0])
                    listing = [
                        str(server.kubectl),
                        "--kubeconfig",
                        str(server.kubeconfig),
                        "-n",
                        small,
                        "get",
                        "secrets",
                        "-o",
                        "json",
                    ]
                    runs["kubectl"].append(measure.pipeline([listing], Servers(), env=env, watch=True)[0])
                    runs["drctl"].append(
                        measure.drctl([drctl, "-c", str(config), "backup"], Servers(), env=env)
                    )
                    inside.append(_inside(cluster, api, small))
            base = runs["bare"]
            lines += [
                f"| {SMALL[0]} Secrets, {SMALL[1]} releases | s | of the bare list | CPU s | of the bare list | memory MB |",
                "| --- | ---: | ---: | ---: | ---: | ---: |",
            ]
            lines += [_row("bare list by the kubernetes library, a process", runs["bare"], base)]
            lines += [_row("kubectl get secrets -o json", runs["kubectl"], base)]
            lines += [_row("drctl backup of both kinds, a process", runs["drctl"], base)]
            library, bare_list, both = (statistics.median(one[n] for one in inside) for n in range(3))
            lines += [
                "",
                f"In one process, processor seconds: list by the kubernetes library {library:.3f}, by our client {bare_list:.3f},",
                f"both kinds read and nothing stored {both:.3f} ({both / library:.2f} and {both / bare_list:.2f})",
                "",
            ]
            print("\n".join(lines), flush=True)
            _fill(server, large, *LARGE)
            config = _configured(root / "large", server, large, drctl, env)
            for component in ("releases", "secrets"):
                run = measure.drctl([drctl, "-c", str(config), "backup", component], Servers(), env=env)
                print(
                    f"{LARGE[0]} Secrets, {LARGE[1]} releases: backup of {component}: {run.rss / 1e6:.0f} MB, {run.seconds:.1f} s",
                    flush=True,
                )
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
