"""A site whose proofs run in scratch namespaces: the repository in a bucket, and an operator with only the rights of k8s-cronjobs/."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path

import yaml

from devstack import programs
from devstack.kube import ControlPlane
from devstack.kubelet import Kubelet
from devstack.postgres import PostgresServer
from devstack.s3 import S3Server
from tests.kube.platform_site import DRCTL, PlatformSite, add_drctl

ROOT = Path(__file__).parents[2]
IMAGE = f"registry.example.com/drctl@sha256:{'1' * 64}"
DATABASE = f"postgres@sha256:{'2' * 64}"
SELECTOR = "/api/v1/namespaces?labelSelector=drctl%2Fscratch"


class ScratchSite:
    """A site whose repository is in a bucket, and an operator who has only the rights for scratch namespaces."""

    def __init__(
        self, site: PlatformSite, api: ControlPlane, kubeconfig: Path, s3: S3Server, bucket: str
    ) -> None:
        self.site, self.api, self.kubeconfig, self.s3, self.bucket = site, api, kubeconfig, s3, bucket
        self.namespace: dict = {
            "image": IMAGE,
            "postgres": {"18": DATABASE},
            "memory": "512Mi",
            "start_timeout": "30s",
            "timeout": "2m",
        }

    def configure(self, **changes: object) -> Path:
        wanted = {key: value for key, value in (self.namespace | changes).items() if value is not None}
        sections = {"cluster": {"kubeconfig": str(self.kubeconfig)}, "verify": {"namespace": wanted}}
        self.site.more = yaml.safe_dump(sections)
        self.site.config.write_text(self.site.configuration())
        return self.site.config

    def start(self, config: Path | None = None) -> subprocess.Popen[str]:
        arguments = ["verify", "console-db", "--restore", "--in", "namespace", "--output", "json", "-v"]
        return subprocess.Popen(
            [DRCTL, "-c", config or self.site.config, *arguments],
            env=os.environ | self.site.secret, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def finish(self, process: subprocess.Popen[str], code: int) -> dict:
        out, said = process.communicate(timeout=240)
        assert process.returncode == code, out + said
        return json.loads(out)

    def scratch(self) -> list[dict]:
        return [one for one in self.api.get(SELECTOR)["items"] if "deletionTimestamp" not in one["metadata"]]

    def one_scratch(self) -> dict:
        self.api.wait_for(SELECTOR, "holding a scratch namespace", lambda _: self.scratch())
        return self.scratch()[0]

    def pod(self, namespace: str, done: Callable[[dict], object]) -> dict:
        path = f"/api/v1/namespaces/{namespace}/pods"
        return self.api.wait_for(
            path, "holding the Pod", lambda found: found["items"] and done(found["items"][0])
        )["items"][0]

    def evidence(self) -> list[dict]:
        return [one for snapshot in self.site.snapshots() for one in snapshot["evidence"]]


def rules(file: str) -> list[dict]:
    """The rules of the first role in a file of k8s-cronjobs/."""
    found: list[dict] = next(yaml.safe_load_all((ROOT / "k8s-cronjobs" / file).read_text()))["rules"]
    return found


def add_images(kubelet: Kubelet, postgres: PostgresServer) -> None:
    """Let the two images of a proof be programs of this machine."""
    add_drctl(kubelet, IMAGE)
    kubelet.add_image(
        DATABASE,
        named={"pg_isready": [str(postgres._server_programs / "pg_isready")]},
        environment={"PATH": f"{postgres._server_programs}:/usr/bin:/bin"},
        user=programs.unprivileged_user(),
    )


def in_bucket(root: Path, postgres: PostgresServer, s3: S3Server, name: str) -> PlatformSite:
    """A database with some rows, and a repository for it in a bucket of this name."""
    database = name.replace("-", "_")
    postgres.create_database(database)
    s3.create_bucket(name)
    keys = 'access_key_id: "env:S3_KEY", secret_access_key: "env:S3_SECRET"'
    section = f'{{url: "s3://{name}/repository", s3: {{endpoint: "{s3.endpoint}", {keys}}}}}'
    site = PlatformSite(root / name, postgres, database, repository=section)
    site.secret |= {"S3_KEY": s3.access_key, "S3_SECRET": s3.secret_key}
    return site


def operator(api: ControlPlane, root: Path, *, platform: str = "") -> Path:
    """A kubeconfig with the rights for scratch namespaces, and to read the platform's namespace."""
    place = api.make_namespace()
    token = api.make_service_account(place, "operator", rules("scratch-rights.yaml"), cluster_wide=True)
    if platform:
        api.grant(place, "operator", rules("platform-rights/backup.yaml"), on=platform)
    return api.write_kubeconfig(root / f"kubeconfig-{secrets.token_hex(3)}", token)
