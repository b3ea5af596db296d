"""Every kind that is worth a namespace is proved in one: a whole cluster, a bucket, a replica, a sample; the gate and the drill do so by configuration."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.kube import ControlPlane
from devstack.kubelet import Kubelet
from devstack.postgres import PostgresServer
from devstack.s3 import S3Server
from dr_toolkit.config import load
from dr_toolkit.jobs import opening
from tests.kube import scratch_site as sites
from tests.kube.scratch_site import ScratchSite

KINDS = ("console-base", "console-db", "cortex", "mirror")


class KindsSite(ScratchSite):
    """With a component of every kind, and scratch in a namespace."""

    components = ""

    def configure(self, **changes: object) -> Path:
        path = super().configure(**changes)
        self.site.more = self.components + self.site.more.replace(
            "verify:", "verify:\n  scratch: namespace", 1
        )
        path.write_text(self.site.configuration())
        return path

    def evidence_of(self, snapshots: set[str]) -> dict[str, dict]:
        with opening.opened_repository(load(self.site.config)) as repository:
            rows, _damaged = repository.evidence()
        return {
            row.result["component"]: row.result["checks"]
            for row in rows
            if row.result["snapshot"] in snapshots and row.result["level"] == "restore"
        }


@pytest.fixture(scope="module")
def kinds(
    control_plane: ControlPlane, kubelet: Kubelet, s3_server: S3Server, servers_root: Path
) -> Iterator[KindsSite]:
    name = f"kinds-{secrets.token_hex(4)}"
    with PostgresServer(servers_root / name) as server:
        site = sites.in_bucket(servers_root, server, s3_server, name)
        client = s3_server.client()
        for bucket in (f"{name}-source", f"{name}-mirror"):
            s3_server.create_bucket(bucket)
        for number in range(5):
            client.put_object(Bucket=f"{name}-source", Key=f"blocks/{number}", Body=b"metrics" * 100 * number)
        s3 = f's3: {{endpoint: "{s3_server.endpoint}", access_key_id: "env:S3_KEY", secret_access_key: "env:S3_SECRET"}}'
        sites.add_images(kubelet, server)
        found = KindsSite(site, control_plane, sites.operator(control_plane, site.root), s3_server, name)
        found.components = f"""\
  console-base:
    kind: postgres-base
    connection: {{host: {server.host}, port: {server.port}, database: postgres, user: postgres, password: "env:CONSOLE_DB_PASSWORD"}}
  cortex: {{kind: bucket, url: "s3://{name}-source", {s3}}}
  mirror: {{kind: bucket, mode: replica, url: "s3://{name}-source", {s3}, to: {{url: "s3://{name}-mirror", {s3}}}}}
"""
        found.configure()
        site.run("init")
        with pytest.MonkeyPatch.context() as environment:
            for variable, value in site.secret.items():
                environment.setenv(variable, value)
            yield found


def test_gate_proves_each_kind_there(kinds: KindsSite) -> None:
    """GO rests on restores in namespaces beside each other: started, read, compared in the Pods; the evidence of each has its namespace's mark, and nothing is left over."""
    gate = kinds.site.json("pre-upgrade", "--accept", "space")["gate"]
    checks = kinds.evidence_of({one["id"] for one in gate["snapshots"]})

    assert gate["go"], gate["reasons"]
    assert {row["component"] for row in gate["way_back"] if row["rto_measured_seconds"]} == set(KINDS)
    assert checks.keys() == set(KINDS)
    assert len({one["scratch"] for one in checks.values()}) == len(KINDS)
    assert checks["console-base"]["pg_verifybackup"]
    assert checks["console-base"]["databases"] >= 2
    assert (checks["cortex"]["objects"], checks["mirror"]["objects"]) == (5, 5)
    assert kinds.scratch() == []


def test_sample_is_proved_there_and_is_none(kinds: KindsSite) -> None:
    """The options reach the Pod, and the evidence says what was not looked at. Of a bucket there is no part."""
    part = kinds.site.json("verify", "console-db", "--restore", "--tables", "public.users", "--budget", "1m")
    [result] = part["results"]
    refused = kinds.site.json("verify", "cortex", "--restore", "--schema-only", code=2)

    assert (result["result"], result["level"]) == ("passed", "sample")
    assert result["checks"]["proven"]["names"] == ["public.users"]
    assert result["checks"]["sample"]["budget_seconds"] == 60
    assert "NOT proved: the rows of 1 of 2 tables (public.flyway_schema_history)" in result["notes"][0]
    assert "no part can be restored" in refused["error"]["message"]
    [shown] = [one for one in kinds.site.snapshots() if one["id"] == result["snapshot"]]
    assert [one["level"] for one in shown["evidence"]][-1] == "sample"


def test_drill_restores_there(kinds: KindsSite) -> None:
    """Its history has all of its components, although a namespace stores evidence of its own."""
    kinds.site.run("backup", "console-db", "cortex", "--point", "small")
    done = kinds.site.json("drill", "--point", "small")["drill"]
    [past] = kinds.site.json("drill", "--history")["drills"]

    assert (done["passed"], past["passed"], past["expected"]) == (True, True, 2)
    assert {one["component"] for one in past["components"]} == {"console-db", "cortex"}
    assert kinds.scratch() == []
