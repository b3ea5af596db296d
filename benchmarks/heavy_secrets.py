"""``python -m benchmarks.heavy_secrets``: the memory of a backup of 5,000 Secrets of 1 MiB each, and of 2,000 releases as large as Helm can keep.

A server that makes the answers up stands for a control plane: the API's form, page by page, with what real ones send. Takes about two minutes.
With ``--real`` it is the real control plane of the tests (``make kube-assets``), with its watch cache off: 8 GB of disk for each of its two copies, and some
ten minutes to fill it.
"""

from __future__ import annotations

import base64
import json
import os
import random
import re
import shutil
import ssl
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from benchmarks import measure
from benchmarks.measure import Servers
from devstack.kube import ControlPlane

SECRETS, RELEASES, WEIGHT = 5000, 2000, 1 << 20


def _secret(number: int) -> bytes:
    """One Secret of 1 MiB."""
    metadata = {"name": f"s{number:05}", "uid": "u"}
    return json.dumps({"metadata": metadata, "type": "Opaque", "data": {"v": _VALUE}}).encode()


def _release(number: int) -> bytes:
    """One release whose storage Secret is nearly 1 MiB; what it unpacks to is four times as much, with 200 objects."""
    name = f"r{number:05}"
    begin = f'{{"name":"{name}",'.encode()
    packer = zlib.compressobj(wbits=-15)
    deflated = packer.compress(begin) + packer.flush(zlib.Z_FULL_FLUSH) + _REST[1]
    length = len(begin) + len(_REST[0])
    end = struct.pack("<II", zlib.crc32(_REST[0], zlib.crc32(begin)), length)
    packed = base64.b64encode(
        base64.b64encode(b"\x1f\x8b\x08" + bytes(6) + b"\xff" + deflated + end)
    ).decode()
    labels = {"owner": "helm", "name": name, "version": "1", "status": "deployed"}
    metadata = {"name": f"sh.helm.release.v1.{name}.v1", "labels": labels}
    return json.dumps(
        {"metadata": metadata, "type": "helm.sh/release.v1", "data": {"release": packed}}
    ).encode()


def _rest() -> tuple[bytes, bytes]:
    """A release's JSON after its name, and the same deflated: nobody deflates 2,000 times 3 MB."""
    text = base64.b64encode(random.Random(2).randbytes(WEIGHT // 2)).decode()
    manifest = "".join(
        f"---\nkind: ConfigMap\nmetadata:\n  name: c{n}\ndata: {{x: '{'y' * 9000}'}}\n" for n in range(200)
    )
    chart = {"metadata": {"name": "c", "version": "1"}, "templates": [{"name": "t", "data": text}]}
    whole = {"version": 1, "info": {"status": "deployed"}, "chart": chart, "manifest": manifest}
    plain = json.dumps(whole).encode()[1:]
    packer = zlib.compressobj(wbits=-15)
    return plain, packer.compress(plain) + packer.flush()


def _metadata_of(make: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """The same objects without what they hold."""
    return lambda number: json.dumps({"metadata": json.loads(make(number))["metadata"]}).encode()


_ONE = re.compile(r"metadata\.name=\D*?v1\.r(\d+)\.v1")
_VALUE = base64.b64encode(random.Random(1).randbytes(WEIGHT)).decode()
_REST = _rest()


class _Handler(BaseHTTPRequestHandler):
    """Answers lists of Secrets; every other list is empty."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base
        """Say nothing."""

    def do_GET(self) -> None:
        """One page."""
        parts = urlsplit(self.path)
        query = {key: value[0] for key, value in parse_qs(parts.query).items()}
        total = 0
        make: Callable[[int], bytes] = _secret
        if parts.path.endswith("/secrets"):
            of_helm = query.get("fieldSelector", "").startswith("type=")
            total, make = (RELEASES, _release) if of_helm else (SECRETS, _secret)
            if "PartialObjectMetadata" in self.headers.get("Accept", ""):
                make = _metadata_of(make)
            elif one := _ONE.search(query.get("fieldSelector", "")):
                query["continue"], total = one[1], int(one[1]) + 1
        begin = int(query.get("continue") or 0)
        end = min(total, begin + int(query.get("limit", 500)))
        more = str(end) if end < total else ""
        pieces = [json.dumps({"kind": "List", "metadata": {"continue": more}}).encode()[:-1], b',"items":[']
        for number in range(begin, end):
            pieces += [b"," if number > begin else b"", make(number)]
        pieces.append(b"]}")
        self.send_response(200)
        self.send_header("Content-Length", str(sum(map(len, pieces))))
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece)


@contextmanager
def _stand_in(root: Path) -> Iterator[tuple[Path, str, str]]:
    """A server that makes its answers up; its kubeconfig, and the namespaces of Secrets and of releases."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kubeconfig = root / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}
    user = {"name": "u", "user": {"token": "of-nobody"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    document = {"apiVersion": "v1", "kind": "Config", "current-context": "x"}
    kubeconfig.write_text(
        json.dumps(document | {"clusters": [cluster], "users": [user], "contexts": [context]})
    )
    try:
        yield kubeconfig, "n", "n"
    finally:
        server.shutdown()


@contextmanager
def _real(root: Path) -> Iterator[tuple[Path, str, str]]:
    """A real control plane, filled; its kubeconfig, and the namespaces of Secrets and of releases.

    Two namespaces: without its watch cache the API server finds one type of Secret by reading all of a namespace.
    """
    with ControlPlane(root / "kube", heavy=True) as server:
        places = server.make_namespace(), server.make_namespace()
        server.end_manager()  # it would watch every Secret, and has nothing to do here
        trust = ssl.create_default_context(cafile=server.ca_file)
        headers = {
            "Authorization": f"Bearer {server.admin_token}",
            "Content-Type": "application/json",
            "Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        }
        wanted = [(places[0], _secret, n) for n in range(SECRETS)]
        wanted += [(places[1], _release, n) for n in range(RELEASES)]
        local = threading.local()

        def create(one: tuple[str, Callable[[int], bytes], int]) -> None:
            namespace, make, number = one
            if not hasattr(local, "connection"):
                local.connection = HTTPSConnection(server.host, server.port, timeout=60, context=trust)
            path = f"/api/v1/namespaces/{namespace}/secrets"
            local.connection.request("POST", path, make(number), headers)
            answer = local.connection.getresponse()
            said = answer.read()
            if answer.status != 201:
                raise SystemExit(f"the API server answered {answer.status}: {said[:300]!r}")

        began = time.monotonic()
        with ThreadPoolExecutor(3) as pool:
            for number, _done in enumerate(pool.map(create, wanted), 1):
                if number % 500 == 0:
                    print(f"{number} written, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        yield server.kubeconfig, *places


def main() -> None:
    """Measure, then print."""
    drctl, env = str(Path(sys.executable).with_name("drctl")), dict(os.environ)
    root = Path(tempfile.mkdtemp(prefix="drctl-bench-"))
    source = _real if "--real" in sys.argv else _stand_in
    try:
        with source(root) as (kubeconfig, of_secrets, of_releases):
            config = root / "drctl.yaml"
            config.write_text(
                f"version: 1\nrepository: {{url: file://{root}/repository}}\nkeys: {{k: {{type: key-file, path: k.key}}}}\n"
                f"cluster: {{kubeconfig: {kubeconfig}}}\ncomponents:\n"
                f"  releases: {{kind: helm, namespaces: [{of_releases}]}}\n  secrets: {{kind: secrets, namespaces: [{of_secrets}]}}\n"
            )
            for arguments in (["keys", "generate-file", str(root / "k.key")], ["init"]):
                measure.pipeline([[drctl, "-c", str(config), *arguments]], Servers(), env=env)
            print(f"load {os.getloadavg()[0]:.2f}; {os.cpu_count()} cores")
            work = {"secrets": f"{SECRETS} Secrets", "releases": f"{RELEASES} releases"}
            for chosen in (["secrets"], ["releases"], ["secrets", "releases"]):
                run = measure.drctl(
                    [drctl, "-c", str(config), "backup", "--full", *chosen], Servers(), env=env
                )
                what = " and ".join(work[component] for component in chosen)
                print(
                    f"{what} of nearly 1 MiB each: {run.rss / 1e6:.0f} MB of memory, {run.cpu:.0f} s of processor, {run.seconds:.0f} s",
                    flush=True,
                )
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
