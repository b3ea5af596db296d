"""``python -m benchmarks.heavy_secrets``: the memory of a backup of 5,000 Secrets of 1 MiB each, and of 2,000 releases as large as Helm can keep.

No real control plane holds 7 GB, so a server that makes the answers up stands for it: the API's form, page by page, with what real ones send. Takes about
two minutes.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import random
import shutil
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmarks import measure
from benchmarks.measure import Servers

SECRETS, RELEASES, WEIGHT = 5000, 2000, 1 << 20
_NAME = "name-to-replace"


def _secret() -> tuple[bytes, bytes]:
    """One Secret of 1 MiB, before its name and after it."""
    value = base64.b64encode(random.Random(1).randbytes(WEIGHT)).decode()
    return _split({"metadata": {"name": _NAME, "uid": "u"}, "type": "Opaque", "data": {"v": value}})


def _release() -> tuple[bytes, bytes]:
    """One release whose storage Secret is nearly 1 MiB; what it unpacks to is four times as much."""
    chance = random.Random(2)
    text = base64.b64encode(chance.randbytes(WEIGHT // 2)).decode()
    manifest = "".join(
        f"---\nkind: ConfigMap\nmetadata:\n  name: c{n}\ndata: {{x: '{'y' * 900}'}}\n" for n in range(2000)
    )
    chart = {"metadata": {"name": "c", "version": "1"}, "templates": [{"name": "t", "data": text}]}
    whole = {"name": "r", "version": 1, "info": {"status": "deployed"}, "chart": chart, "manifest": manifest}
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(whole).encode(), 6))).decode()
    labels = {"owner": "helm", "name": "r", "version": "1", "status": "deployed"}
    metadata = {"name": _NAME, "labels": labels}
    return _split({"metadata": metadata, "type": "helm.sh/release.v1", "data": {"release": packed}})


def _split(one: dict[str, Any]) -> tuple[bytes, bytes]:
    before, _name, after = json.dumps(one).encode().partition(_NAME.encode())
    return before, after


class _Handler(BaseHTTPRequestHandler):
    """Answers lists of Secrets; every other list is empty."""

    protocol_version = "HTTP/1.1"
    bodies: tuple[tuple[bytes, bytes], tuple[bytes, bytes]]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base
        """Say nothing."""

    def do_GET(self) -> None:
        """One page."""
        parts = urlsplit(self.path)
        query = {key: value[0] for key, value in parse_qs(parts.query).items()}
        total = 0
        if parts.path.endswith("/secrets"):
            of_helm = query.get("fieldSelector", "").startswith("type=")
            total = RELEASES if of_helm else SECRETS
            before, after = self.bodies[of_helm]
        begin = int(query.get("continue") or 0)
        end = min(total, begin + int(query.get("limit", 500)))
        more = str(end) if end < total else ""
        pieces = [json.dumps({"kind": "List", "metadata": {"continue": more}}).encode()[:-1], b',"items":[']
        for number in range(begin, end):
            pieces += [b"," if number > begin else b"", before, b"s%05d" % number, after]
        pieces.append(b"]}")
        self.send_response(200)
        self.send_header("Content-Length", str(sum(map(len, pieces))))
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece)


def main() -> None:
    """Measure, then print."""
    drctl, env = str(Path(sys.executable).with_name("drctl")), dict(os.environ)
    root = Path(tempfile.mkdtemp(prefix="drctl-bench-"))
    _Handler.bodies = (_secret(), _release())
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        kubeconfig = root / "kubeconfig"
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}
        user = {"name": "u", "user": {"token": "of-nobody"}}
        context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
        document = {"apiVersion": "v1", "kind": "Config", "current-context": "x"}
        kubeconfig.write_text(
            json.dumps(document | {"clusters": [cluster], "users": [user], "contexts": [context]})
        )
        config = root / "drctl.yaml"
        config.write_text(
            f"version: 1\nrepository: {{url: file://{root}/repository}}\nkeys: {{k: {{type: key-file, path: k.key}}}}\n"
            f"cluster: {{kubeconfig: {kubeconfig}}}\ncomponents:\n"
            "  releases: {kind: helm, namespaces: [n]}\n  secrets: {kind: secrets, namespaces: [n]}\n"
        )
        for arguments in (["keys", "generate-file", str(root / "k.key")], ["init"]):
            measure.pipeline([[drctl, "-c", str(config), *arguments]], Servers(), env=env)
        print(f"load {os.getloadavg()[0]:.2f}; {os.cpu_count()} cores")
        for component, count in (("secrets", SECRETS), ("releases", RELEASES)):
            run = measure.drctl([drctl, "-c", str(config), "backup", component], Servers(), env=env)
            print(
                f"{count} {component} of nearly 1 MiB each: {run.rss / 1e6:.0f} MB of memory, {run.cpu:.0f} s of processor, {run.seconds:.0f} s",
                flush=True,
            )
    finally:
        server.shutdown()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
