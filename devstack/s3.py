"""An S3 server from a package: SeaweedFS, with versioning, Object Lock and conditional writes."""

from __future__ import annotations

import json
import secrets
import signal
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self

import boto3
from botocore.config import Config

from devstack import programs, web
from devstack.managed import Managed
from devstack.tls import Authority
from dr_toolkit.errors import ProgramError

# The admin server's RPC port cannot be chosen: one part of the program computes it in this way.
RPC_OFFSET = 10000
# Every bucket has volumes of its own. They are grown one by one, and there may be many, so that a test run can have
# hundreds of buckets.
ENVIRONMENT = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}


class S3Server(Managed):
    """One S3 server. ``stop`` keeps data and port, so that it can come back. ``with`` removes everything at its end.

    Args:
        root: a directory of its own; made if missing.
        tls: speak HTTPS, with a certificate of a private authority (``ca_file``).
    """

    host = "127.0.0.1"
    region = "us-east-1"

    def __init__(self, root: Path, *, tls: bool = False) -> None:
        root.mkdir(parents=True, exist_ok=True)
        super().__init__(root, programs.Server("weed mini", root / "weed.log"))
        self.access_key = secrets.token_hex(10).upper()
        self.secret_key = secrets.token_urlsafe(30)
        self.authority = Authority(root / "tls") if tls else None
        self._ports = {name: programs.free_port() for name in ("master", "volume", "filer", "s3", "admin")}
        self._rpc_ports = {name: programs.free_port() for name in ("master", "volume", "filer", "s3")}
        self._ports["admin"], self._rpc_ports["admin"] = programs.free_pair(RPC_OFFSET)
        self._https_port = programs.free_port()
        if self.authority:
            self.authority.issue_server()
        self._write_identities()

    @property
    def port(self) -> int:
        """Where S3 is served."""
        return self._https_port if self.authority else self._ports["s3"]

    @property
    def endpoint(self) -> str:
        """The URL of the server."""
        return f"{'https' if self.authority else 'http'}://{self.host}:{self.port}"

    @property
    def ca_file(self) -> Path | None:
        """The certificate of the private authority, where the server speaks HTTPS."""
        return self.authority.ca_file if self.authority else None

    def start(self) -> Self:
        """Start the server and wait until it takes objects.

        Returns:
            The server itself.
        """
        if not self.running:
            self.begin()
            self.finish()
        return self

    def begin(self) -> None:
        """Start the server without waiting."""
        (self.root / "data").mkdir(exist_ok=True)
        self._server.start([_program(), "mini", *self._options()], programs.base_environment() | ENVIRONMENT)

    def finish(self) -> None:
        """Wait until the server takes objects."""
        self._server.wait_until(self._ready)

    def stop(self) -> None:
        """End the server in good order; data and port are kept."""
        self._server.stop(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL the server; ``start`` brings it back."""
        self._server.kill_tree()

    def client(self) -> Any:
        """Make a client with the administrator's keys, with path-style addresses and few retries.

        Returns:
            boto3's client for S3.
        """
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            verify=str(self.ca_file) if self.ca_file else None,
            config=Config(
                s3={"addressing_style": "path"},
                connect_timeout=5,
                read_timeout=30,
                retries={"max_attempts": 1},
                proxies={},
            ),
        )

    def create_bucket(self, name: str, *, versioned: bool = False, object_lock: bool = False) -> None:
        """Make a bucket.

        Args:
            name: its name.
            versioned: keep every version of an object.
            object_lock: let versions be locked; implies ``versioned``.
        """
        client = self.client()
        client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=object_lock)
        if versioned and not object_lock:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        client.close()

    def _write_identities(self) -> None:
        identity = {
            "name": "administrator",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
        path = self.root / "identities.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps({"identities": [identity]}))

    def _options(self) -> list[str]:
        options = {
            "dir": self.root / "data",
            "ip": self.host,
            "ip.bind": self.host,
            "admin.ui": "false",
            "webdav": "false",
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": "1024",
            "volume.max": "10000",
            "volume.preStopSeconds": "0",
            "filer.localSocket": self.root / "filer.sock",
            "s3.localSocket": self.root / "s3.sock",
            "s3.config": self.root / "identities.json",
            "s3.iam": "false",
            "s3.autoCreateBucket": "false",
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
        }
        options |= {f"{name}.port": port for name, port in self._ports.items()}
        options |= {f"{name}.port.grpc": port for name, port in self._rpc_ports.items()}
        if self.authority:
            options |= {
                "s3.port.https": self._https_port,
                "s3.cert.file": self.authority.server_certificate,
                "s3.key.file": self.authority.server_key,
            }
        return [f"-{name}={value}" for name, value in options.items()]

    def _ready(self) -> bool:
        # The S3 side may answer before the master has heard of the volumes, and then refuses objects.
        try:
            _, status = web.request(f"http://{self.host}:{self._ports['master']}/dir/status", timeout=2)
            volumes = json.loads(status).get("Topology", {}).get("Max")
            return bool(volumes) and web.request(self.endpoint, ca_file=self.ca_file, timeout=2)[0] == 403
        except (OSError, HTTPException, ValueError):
            return False


def _program() -> str:
    found = programs.installed_script("weed")
    if found is None:
        raise ProgramError('the program "weed" is not installed', hint="pip install '.[test]'")
    return found
