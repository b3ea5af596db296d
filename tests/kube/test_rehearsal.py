"""``drctl rehearse`` and ``pre-upgrade --rehearse``: the new Console on a restored copy, on the real API server, with Pods as processes."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from devstack import sql
from devstack.helm import Helm
from devstack.kube import ControlPlane
from devstack.kubelet import EVICT, Kubelet
from devstack.postgres import PostgresServer
from devstack.s3 import S3Server
from tests.kube import scratch_site as sites
from tests.kube.platform_site import DRCTL
from tests.kube.scratch_site import ROOT, ScratchSite

CHARTS = Path(__file__).parent / "charts"
CONSOLE = "docker.io/conduktor/conduktor-console"
PROGRAM = ROOT / "devstack" / "console_program.py"
LIVE = {"database": "live-database-password", "admin": "Live-admin-password1", "license": "live-license-text"}
VALUES = {
    "config": {
        "organization": {"name": "acme"},
        "admin": {"email": "admin@example.invalid", "password": LIVE["admin"]},
        "database": {
            "url": f"postgresql://conduktor:{LIVE['database']}@main-postgresql.cdk-deps:5432/conduktor"
        },
        "license": LIVE["license"],
        "clusters": [{"id": "prod", "bootstrapServers": "kafka:9092", "sasl": "live-kafka-password"}],
        "platform": {"external": {"url": "https://console.example.invalid"}},
    },
    "platform": {
        "replicas": 0,
        "extraEnvVars": [
            {"name": "CDK_LISTENING_PORT", "value": "8080"},
            {"name": "MAIL_PASSWORD", "value": "live-mail-password"},
        ],
    },
    "platformCortex": {"enabled": False},
}
MODES = ("good", "broken", "recorded", "sick", "loud", "crash", "dying", "slow")


class RehearsalSite(ScratchSite):
    """A scratch site with an installed Console, whose new versions go well or wrong as their tag says."""

    platform = ""
    role = ""
    releases = False

    def configure(self, rehearsal: dict | None = None, **changes: object) -> Path:
        path = super().configure(**changes)
        tried = {"settle": "1s", "timeout": "60s", "start_timeout": "30s"} | (rehearsal or {})
        application = {"kind": "console", "namespace": self.platform, "rehearsal": tried}
        releases = f"  releases: {{kind: helm, namespaces: [{self.platform}]}}\n" if self.releases else ""
        self.site.more = releases + self.site.more + yaml.safe_dump({"platform": {"console": application}})
        path.write_text(self.site.configuration())
        return path

    def start(self, config: Path | None = None, *arguments: str) -> subprocess.Popen[str]:
        words = arguments or ("rehearse", "console", "--image", f"{CONSOLE}:good")
        return subprocess.Popen(
            [DRCTL, "-c", config or self.site.config, *words, "--output", "json", "-v"],
            env=os.environ | self.site.secret, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def rehearse(self, mode: str, config: Path | None = None) -> subprocess.Popen[str]:
        return self.start(config, "rehearse", "console", "--image", f"{CONSOLE}:{mode}")

    def guest(self, namespace: str) -> dict:
        path = f"/api/v1/namespaces/{namespace}/pods?labelSelector=drctl%2Fpart%3Drehearsal"
        return self.api.wait_for(
            path,
            "holding a running guest",
            lambda found: found["items"] and found["items"][0]["status"].get("containerStatuses"),
            timeout=90,
        )["items"][0]


@pytest.fixture(scope="module")
def whole(
    control_plane: ControlPlane,
    kubelet: Kubelet,
    postgres: PostgresServer,
    s3_server: S3Server,
    servers_root: Path,
    helm3: Helm,
) -> Iterator[RehearsalSite]:
    name, role = f"rehearsal-{secrets.token_hex(4)}", f"app_{secrets.token_hex(4)}"
    site = sites.in_bucket(servers_root, postgres, s3_server, name)
    sql.execute(
        site.dsn,
        f"CREATE ROLE {role} LOGIN PASSWORD '{LIVE['database']}'",
        f"ALTER TABLE users OWNER TO {role}",
        f"ALTER TABLE flyway_schema_history OWNER TO {role}",
        f"ALTER DATABASE {site.database} OWNER TO {role}",
    )
    site.run("init")
    site.run("backup")
    platform = control_plane.make_namespace()
    helm3.install("console", CHARTS / "console", platform, VALUES)
    sites.add_images(kubelet, postgres)
    for mode in MODES:
        kubelet.add_image(f"{CONSOLE}:{mode}", [sys.executable, str(PROGRAM), mode])
    kubeconfig = sites.operator(control_plane, site.root, platform=platform)
    found = RehearsalSite(site, control_plane, kubeconfig, s3_server, name)
    found.platform, found.role = platform, role
    found.configure()
    yield found
    postgres.drop_database(site.database)
    sql.execute(postgres.dsn(), f"DROP ROLE {role}")


@pytest.fixture
def rehearsal(whole: RehearsalSite) -> Iterator[RehearsalSite]:
    """As configured at first; nothing is left over after the test."""
    whole.configure()
    yield whole
    for one in whole.scratch():
        whole.api.delete(f"/api/v1/namespaces/{one['metadata']['name']}")


def test_good_version_is_tried_on_a_copy(
    rehearsal: RehearsalSite, helm4: Helm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the new chart, rendered: it migrates the copy as the live role, gets healthy, and is gone; the live database is as it was, and the evidence says what was tried."""
    monkeypatch.setenv("PATH", f"{helm4.program.parent}:{os.environ['PATH']}")
    values = tmp_path / "new.yaml"
    values.write_text(yaml.safe_dump({"platform": {"image": {"tag": "good"}}}))
    chart = ("--chart", str(CHARTS / "console"), "--values", str(values))
    planned = rehearsal.finish(rehearsal.start(None, "rehearse", "console", *chart, "--dry-run"), 0)["plan"]
    assert rehearsal.scratch() == []
    answer = rehearsal.finish(rehearsal.start(None, "rehearse", "console", *chart), 0)
    tried = answer["rehearsal"]

    assert answer["proof"]["result"] == "passed"
    assert tried["passed"]
    assert tried["image"] == f"{CONSOLE}:good"
    assert tried["workload"] == "Deployment console"
    assert (planned["image"], planned["source"]) == (tried["image"], tried["source"])
    assert "CDK_DATABASE_URL" in planned["environment"]
    assert tried["source"] == "chart console"
    assert (tried["migrations"]["before"][0]["count"], tried["migrations"]["after"][0]["count"]) == (1, 2)
    assert {"start", "migrations", "health", "all"} <= set(tried["seconds"])
    assert (tried["errors"], tried["expected_errors"]) == ([], 1)
    assert sql.rows(rehearsal.site.dsn, "SELECT count(*) FROM flyway_schema_history") == [(1,)]
    assert rehearsal.scratch() == []
    levels = {(one["level"], one["result"]) for one in rehearsal.evidence()}
    assert {("restore", "passed"), ("rehearsal", "passed")} <= levels


def test_guest_is_closed_in_and_knows_no_secret(rehearsal: RehearsalSite) -> None:
    """One Pod without service account and resolver, out only to the copy, and no live secret in the namespace. SIGKILL leaves both Pods to ``scratch gc``."""
    process = rehearsal.rehearse("slow")
    name = rehearsal.one_scratch()["metadata"]["name"]
    pod = rehearsal.guest(name)
    api, base = rehearsal.api, f"/api/v1/namespaces/{name}"
    policies = {
        one["metadata"]["name"]: one["spec"]
        for one in api.get(f"/apis/networking.k8s.io/v1/namespaces/{name}/networkpolicies")["items"]
    }
    held = api.get(f"{base}/secrets")["items"]
    process.kill()
    process.communicate()
    api.request("PATCH", base, {"metadata": {"labels": {"drctl/expires": "1700000000"}}})
    rows = rehearsal.site.json("scratch", "gc")["scratch"]["namespaces"]

    assert {row["namespace"]: row["state"] for row in rows}[name] == "removed"
    spec = pod["spec"]
    assert (spec["automountServiceAccountToken"], spec["dnsPolicy"]) == (False, "None")
    assert [one["name"] for one in spec["containers"]] == ["rehearsal"]
    assert "drctl/scratch" not in pod["metadata"]["labels"]
    [rule] = policies["rehearsal"]["egress"]
    assert (policies["rehearsal"]["policyTypes"], [one["port"] for one in rule["ports"]]) == (
        ["Egress"],
        [5432],
    )
    assert rule["to"][0]["podSelector"]["matchLabels"].keys() == {"drctl/scratch"}
    assert policies["postgres"]["ingress"][0]["from"] == [
        {"podSelector": {"matchLabels": {"drctl/part": "rehearsal"}}}
    ]
    texts = {
        f"{one['metadata']['name']}/{key}": base64.b64decode(value).decode()
        for one in held
        for key, value in one["data"].items()
    }
    everything = json.dumps(pod) + json.dumps(texts)
    secret = (*LIVE.values(), "live-mail-password", "live-kafka-password", rehearsal.site.postgres.password)
    assert [one for one in secret if one in everything] == []
    assert f"postgresql://{rehearsal.role}:" in texts["rehearsal/CDK_DATABASE_URL"]
    assert texts["rehearsal/CDK_LISTENING_PORT"] == "8080"
    [config] = [text for key, text in texts.items() if key.startswith("rehearsal-files/")]
    assert "console.example.invalid" in config
    assert "kafka" not in config
    api.wait_for(base, "gone", lambda found: found is None)


NOS = {
    "broken": "a migration failed: [main] ERROR io.conduktor.Console - Migration V49__emails.sql failed",
    "recorded": "a migration failed: public: 49 emails",
    "sick": "its health endpoint did not answer within 4 s",
    "loud": "1 error in its log: [main] ERROR io.conduktor.Console - NullPointerException in AlertService",
    "crash": "its container ended with exit code 3",
    "dying": "its container ended with exit code 9",
    "none": f'the image "{CONSOLE}:none" cannot be pulled',
}


def test_what_goes_wrong_is_a_no_with_its_reason(rehearsal: RehearsalSite, tmp_path: Path) -> None:
    """A migration, a health endpoint, a log, a crash, an image: code 3, evidence that says so, and the proof of the snapshot stands."""
    limits = {"sick": {"timeout": "4s"}, "none": {"start_timeout": "4s"}, "dying": {"settle": "30s"}}
    started = {}
    for mode in NOS:
        config = tmp_path / f"{mode}.yaml"
        config.write_text(rehearsal.configure(limits.get(mode)).read_text())
        started[mode] = rehearsal.rehearse(mode, config)
    for mode, process in started.items():
        answer = rehearsal.finish(process, 3)
        texts = [reason["text"] for reason in answer["rehearsal"]["reasons"]]
        assert any(NOS[mode] in text for text in texts), (mode, texts)
        assert answer["proof"]["result"] == "passed"
        assert "live revision 1" in answer["rehearsal"]["source"]
    assert rehearsal.scratch() == []
    failed = [one for one in rehearsal.evidence() if (one["level"], one["result"]) == ("rehearsal", "failed")]
    assert len(failed) == len(NOS)
    assert sql.rows(rehearsal.site.dsn, "SELECT count(*) FROM flyway_schema_history") == [(1,)]


def test_evicted_guest_is_a_no(rehearsal: RehearsalSite) -> None:
    """At once, with what the node said."""
    process = rehearsal.rehearse("slow")
    name = rehearsal.one_scratch()["metadata"]["name"]
    pod = rehearsal.guest(name)
    path = f"/api/v1/namespaces/{name}/pods/{pod['metadata']['name']}"
    rehearsal.api.request("PATCH", path, {"metadata": {"annotations": {EVICT: "low on memory"}}})
    answer = rehearsal.finish(process, 3)

    assert "its Pod was evicted: low on memory" in [one["text"] for one in answer["rehearsal"]["reasons"]]


@pytest.fixture
def gate(rehearsal: RehearsalSite) -> Iterator[RehearsalSite]:
    """With the releases as a component, so that the recovery point has what is started."""
    rehearsal.releases = True
    rehearsal.configure()
    yield rehearsal
    rehearsal.releases = False


def words(mode: str, *more: str) -> tuple[str, ...]:
    tried = ("--rehearse", "--image", f"{CONSOLE}:{mode}")
    return ("pre-upgrade", "console", "--to-version", "1.48.0", *tried, *more)


def test_gate_goes_only_after_a_rehearsal(gate: RehearsalSite, tmp_path: Path) -> None:
    """GO with the rehearsal in the text, the page, JUnit and the evidence; its restore is the proof; the manifest comes from the point's own snapshot."""
    planned = gate.finish(gate.start(None, *words("good", "--dry-run")), 0)["gate"]
    page, xml = tmp_path / "gate.html", tmp_path / "gate.xml"
    answer = gate.finish(gate.start(None, *words("good", "--report", str(page), "--junit", str(xml))), 0)[
        "gate"
    ]
    checks = {(one["check"], one["component"]): one for one in answer["checks"]}
    [kept] = [one for one in answer["snapshots"] if one["component"] == "console-db"]
    proofs = [
        one for shown in gate.site.snapshots() if shown["id"] == kept["id"] for one in shown["evidence"]
    ]

    would = {one["check"]: one["text"] for one in planned["checks"]}["rehearsal"]
    assert "would start" in would
    assert (answer["go"], answer["reasons"]) == (True, [])
    assert "was healthy after" in checks["rehearsal", "console-db"]["text"]
    assert "in snapshot" in answer["rehearsal"]["source"]
    assert answer["rehearsal"]["snapshot"] == kept["id"]
    assert {"rehearsal", "proof", "pin"} <= set(answer["seconds"])
    assert [one["level"] for one in proofs if one["level"] != "gate"] == ["restore", "rehearsal"]
    assert "Rehearsal of the upgrade" in page.read_text()
    assert 'name="rehearsal"' in xml.read_text()


def test_gate_says_no_go_for_what_the_rehearsal_found(gate: RehearsalSite) -> None:
    """Code 3 with the migration that failed; the snapshot's proof and the point stand."""
    refused = gate.finish(gate.start(None, *words("broken", "--reuse", "1h")), 3)["gate"]

    [reason] = refused["reasons"]
    assert (reason["check"], reason["state"]) == ("rehearsal", "failed")
    assert "a migration failed" in reason["text"]
    assert refused["pinned_until"] is not None


def test_deadline_ends_a_rehearsal(gate: RehearsalSite) -> None:
    """What the deadline left undone is unknown, never fine; the namespace is told to end."""
    answer = gate.finish(gate.start(None, *words("slow", "--reuse", "1h", "--deadline", "20s")), 3)["gate"]

    assert "rehearsal" in {one["check"] for one in answer["reasons"]}
    assert gate.scratch() == []
