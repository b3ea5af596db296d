"""k8s-cronjobs/ on a real API server that enforces the restricted level: applied, allowed no more than it needs, and run."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from devstack import sql
from devstack.helm import Helm
from devstack.kube import ControlPlane
from devstack.kube_api import KubeError
from devstack.kubelet import EVICT, Kubelet
from devstack.postgres import PostgresServer
from devstack.s3 import S3Server
from dr_toolkit.errors import ProgramError
from tests.kube.platform_site import PlatformSite, add_drctl

BASE = Path(__file__).parents[2] / "k8s-cronjobs"
CHARTS = Path(__file__).parent / "charts"
IMAGE = "registry.example.com/drctl:0.1.0"
JOBS = "/apis/batch/v1/namespaces/drctl/jobs"
# The account, the namespace, the verb, the resource, and whether it is needed.
RIGHTS = [
    ("drctl-backup", "conduktor", "list", "", "secrets", True),
    ("drctl-backup", "conduktor", "list", "", "configmaps", True),
    ("drctl-backup", "conduktor", "list", "", "pods", True),
    ("drctl-backup", "conduktor", "list", "apps", "deployments", True),
    ("drctl-backup", "conduktor", "list", "apps", "statefulsets", True),
    ("drctl-backup", "conduktor", "list", "apps", "daemonsets", True),
    ("drctl-backup", "conduktor", "create", "", "secrets", False),
    ("drctl-backup", "conduktor", "delete", "", "secrets", False),
    ("drctl-backup", "drctl", "get", "", "secrets", False),
    ("drctl-backup", "kube-system", "list", "", "secrets", False),
    ("drctl-backup", "", "create", "", "namespaces", False),
    ("drctl-restore", "conduktor", "list", "", "secrets", True),
    ("drctl-backup", "conduktor", "patch", "apps", "deployments", False),
    ("drctl-backup", "conduktor", "create", "coordination.k8s.io", "leases", False),
    ("drctl-restore", "conduktor", "patch", "apps", "deployments", True),
    ("drctl-restore", "conduktor", "patch", "apps", "statefulsets", True),
    ("drctl-restore", "conduktor", "create", "coordination.k8s.io", "leases", True),
    ("drctl-restore", "conduktor", "get", "coordination.k8s.io", "leases", False),
    ("drctl-restore", "conduktor", "delete", "apps", "deployments", False),
    ("drctl-restore", "kube-system", "patch", "apps", "deployments", False),
    ("drctl-restore", "", "create", "", "namespaces", True),
    ("drctl-restore", "some-scratch", "create", "batch", "jobs", True),
    ("drctl-restore", "some-scratch", "get", "", "pods", True),
    ("drctl-restore", "kube-system", "get", "", "secrets", False),
    ("drctl-restore", "kube-system", "create", "", "pods", False),
    ("drctl-restore", "conduktor", "delete", "", "secrets", False),
]


def kubectl(api: ControlPlane, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"KUBECONFIG": str(api.kubeconfig), "HOME": str(api.root), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [api.kubectl, *arguments],
        input=text, env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def site(postgres: PostgresServer, servers_root: Path) -> Iterator[PlatformSite]:
    database = f"manifests_{secrets.token_hex(4)}"
    postgres.create_database(database)
    found = PlatformSite(servers_root / database, postgres, database)
    found.run("init")
    yield found
    postgres.drop_database(database)


@pytest.fixture(scope="module")
def deployed(
    control_plane: ControlPlane, kubelet: Kubelet, site: PlatformSite
) -> subprocess.CompletedProcess[str]:
    """Both kustomizations as README.md says, with the site's own configuration; the hourly CronJob runs every minute."""
    control_plane.make_namespace("conduktor")
    applied = kubectl(control_plane, "apply", "--server-side", "-k", str(BASE))
    kubectl(control_plane, "apply", "--server-side", "-k", str(BASE / "platform-rights"))
    add_drctl(kubelet, IMAGE)
    site.configure(control_plane, "drctl", "drctl-restore")
    configure_backup(control_plane, site)
    dump = control_plane.get("/apis/batch/v1/namespaces/drctl/cronjobs/drctl-dump")
    dump["spec"]["schedule"] = "* * * * *"
    control_plane.request("PUT", "/apis/batch/v1/namespaces/drctl/cronjobs/drctl-dump", dump)
    return applied


def configure_backup(control_plane: ControlPlane, site: PlatformSite, more: str = "") -> None:
    """What the CronJobs' own command lines name: two databases, and what else a test has."""
    where = f'host: {site.postgres.host}, port: {site.postgres.port}, database: {site.database}, user: postgres, password: "env:CONSOLE_DB_PASSWORD"'
    site.more = f"  sql-db: {{kind: postgres-dump, connection: {{{where}}}}}\n{more}"
    site.configure(control_plane, "drctl", "drctl-backup")
    site.more = ""


def test_applied_without_a_warning(
    deployed: subprocess.CompletedProcess[str], control_plane: ControlPlane
) -> None:
    """The API server takes every document, and warns of no Pod that the restricted level would refuse."""
    assert "Warning" not in deployed.stderr
    labels = control_plane.get("/api/v1/namespaces/drctl")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_pod_is_admitted_at_the_restricted_level(deployed, control_plane: ControlPlane) -> None:
    """Not only the template: a Pod of each, and of the gate's Job and hook, is taken where the level is enforced."""
    jobs = control_plane.get("/apis/batch/v1/namespaces/drctl/cronjobs")["items"]
    templates = {job["metadata"]["name"]: job["spec"]["jobTemplate"]["spec"]["template"] for job in jobs}
    templates["job"] = yaml.safe_load((BASE / "job-pre-upgrade.yaml").read_text())["spec"]["template"]
    templates["hook"] = hook()["spec"]["template"]
    path = "/api/v1/namespaces/drctl/pods?dryRun=All"
    for name, template in templates.items():
        control_plane.create(path, {"metadata": {"name": f"try-{name}"}, "spec": template["spec"]})
    template["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(KubeError, match="violates PodSecurity"):
        control_plane.create(path, {"metadata": {"name": "try-worse"}, "spec": template["spec"]})


def test_accounts_have_what_they_need_and_no_more(deployed, control_plane: ControlPlane) -> None:
    """Asked as the accounts themselves."""
    tokens = {name: control_plane.make_token("drctl", name) for name in ("drctl-backup", "drctl-restore")}
    for account, place, verb, group, resource, expected in RIGHTS:
        wanted = {"namespace": place, "verb": verb, "group": group, "resource": resource}
        answer = control_plane.request(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            {"spec": {"resourceAttributes": wanted}},
            token=tokens[account],
        )
        assert answer["status"]["allowed"] is expected, (account, wanted)


def test_restore_account_ends_at_scratch_namespaces(deployed, control_plane: ControlPlane) -> None:
    """RBAC cannot say it, so the policy does: no change outside of a namespace with the label."""
    token = control_plane.make_token("drctl", "drctl-restore")

    def change(method: str, path: str, name: str, labels: dict[str, str] | None = None) -> Any:
        body = None if method == "DELETE" else {"metadata": {"name": name, "labels": labels or {}}}
        return control_plane.request(method, path, body, token=token)

    # A policy is in force some moments after it was made.
    def refused() -> bool:
        try:
            change("POST", "/api/v1/namespaces?dryRun=All", "plain")
        except KubeError as error:
            return "only namespaces with the label" in str(error)
        return False

    control_plane.wait_for("/api/v1/namespaces/drctl", "guarded by the policy", lambda _: refused())
    for method, path in (
        ("POST", "/api/v1/namespaces/conduktor/secrets"),
        ("POST", "/api/v1/namespaces/kube-system/configmaps"),
        ("DELETE", "/api/v1/namespaces/conduktor"),
    ):
        with pytest.raises(KubeError, match="only namespaces with the label"):
            change(method, path, "x")
    change("POST", "/api/v1/namespaces", "drctl-scratch-guard", {"drctl/scratch": "guard"})
    change("POST", "/api/v1/namespaces/drctl-scratch-guard/secrets", "x")
    change("DELETE", "/api/v1/namespaces/drctl-scratch-guard", "")


def test_verify_job_runs_through(deployed, control_plane: ControlPlane, site: PlatformSite) -> None:
    """The weekly proof, started by hand: a Pod that restores, compares, and stores its evidence."""
    site.run("backup")
    kubectl(control_plane, "-n", "drctl", "create", "job", "--from=cronjob/drctl-verify", "first-verify")
    control_plane.wait_for(
        f"{JOBS}/first-verify", "complete", lambda job: job["status"].get("succeeded"), timeout=90
    )

    evidence = [e for snapshot in site.snapshots() for e in snapshot["evidence"]]
    assert ("restore", "passed") in {(e["level"], e["result"]) for e in evidence}


def test_nightly_job_runs_through(
    deployed,
    control_plane: ControlPlane,
    site: PlatformSite,
    s3_server: S3Server,
    helm3: Helm,
    servers_root: Path,
) -> None:
    """The nightly CronJob, started by hand: the whole server, a bucket, and by the account's own rights the releases and the Secrets of the platform."""
    name = f"nightly-{secrets.token_hex(4)}"
    s3_server.create_bucket(name)
    s3_server.client().put_object(Bucket=name, Key="block", Body=b"metrics" * 1000)
    helm3.install("console", CHARTS / "console", "conduktor", {"platform": {"replicas": 0}})
    with PostgresServer(servers_root / name) as server:
        site.secret |= {"BASE": server.password, "S3": s3_server.access_key, "S3S": s3_server.secret_key}
        more = f"""\
  console-base:
    kind: postgres-base
    connection: {{host: {server.host}, port: {server.port}, database: postgres, user: postgres, password: "env:BASE"}}
  cortex:
    kind: bucket
    url: "s3://{name}"
    s3: {{endpoint: "{s3_server.endpoint}", access_key_id: "env:S3", secret_access_key: "env:S3S"}}
  releases: {{kind: helm, namespaces: [conduktor]}}
  secrets: {{kind: secrets, namespaces: [conduktor]}}
"""
        try:
            configure_backup(control_plane, site, more)
            kubectl(
                control_plane, "-n", "drctl", "create", "job", "--from=cronjob/drctl-nightly", "first-night"
            )
            control_plane.wait_for(
                f"{JOBS}/first-night", "complete", lambda job: job["status"].get("succeeded"), timeout=120
            )
        finally:
            configure_backup(control_plane, site)
    taken = {one["component"]: one["status"] for one in site.snapshots()}

    assert {"console-base", "cortex", "releases", "secrets"} <= taken.keys()
    assert set(taken.values()) == {"good"}


def test_wrong_configuration_fails_at_once(deployed, control_plane: ControlPlane, site: PlatformSite) -> None:
    """Exit code 2 is not tried again: the Pod failure policy says so."""
    name = "wrong"
    template = control_plane.get("/apis/batch/v1/namespaces/drctl/cronjobs/drctl-nightly")["spec"][
        "jobTemplate"
    ]
    template["spec"]["template"]["spec"]["containers"][0]["args"] = ["backup", "no-such-component"]
    control_plane.create(JOBS, {"metadata": {"name": name}, "spec": template["spec"]})
    job = control_plane.wait_for(f"{JOBS}/{name}", "failed", lambda found: found["status"].get("failed"))
    job = control_plane.wait_for(
        f"{JOBS}/{name}", "failed for good", lambda found: _condition(found, "Failed")
    )

    assert _condition(job, "Failed")["reason"] == "PodFailurePolicy"
    assert job["status"]["failed"] == 1


@pytest.fixture(scope="module")
def gate_values() -> dict[str, Any]:
    """The values of the file that README.md says to paste."""
    return {"platform": {"replicas": 0}, "platformCortex": {"enabled": False}} | yaml.safe_load(
        (BASE / "helm-hook-pre-upgrade.yaml").read_text()
    )


def test_helm_upgrade_is_stopped_by_no_go(
    control_plane: ControlPlane, kubelet: Kubelet, site: PlatformSite, namespace: str, helm: Helm, gate_values
) -> None:
    """With a failed migration in the database the hook says NO-GO and nothing is changed; when that is mended, GO lets the upgrade through. It names its release, whose pending revision is its own."""
    add_drctl(kubelet, IMAGE)
    may_look_at_its_release(site, control_plane, namespace)
    chart = CHARTS / "console"
    deployment = f"/apis/apps/v1/namespaces/{namespace}/deployments/console"

    def image() -> str:
        return control_plane.get(deployment)["spec"]["template"]["spec"]["containers"][0]["image"].rpartition(
            ":"
        )[2]

    helm.install("console", chart, namespace, gate_values)
    newer = gate_values | {"platform": {"replicas": 0, "image": {"tag": "1.48.0"}}}
    sql.execute(site.dsn, "UPDATE flyway_schema_history SET success = false")
    with pytest.raises(ProgramError) as stopped:
        helm.upgrade("console", chart, namespace, newer, "--timeout", "2m")
    after_no_go = image()
    pods = control_plane.get(
        f"/api/v1/namespaces/{namespace}/pods?labelSelector=job-name%3Ddrctl-pre-upgrade"
    )["items"]
    said = control_plane.get(f"/api/v1/namespaces/{namespace}/pods/{pods[0]['metadata']['name']}/log")
    sql.execute(site.dsn, "UPDATE flyway_schema_history SET success = true")
    helm.upgrade("console", chart, namespace, newer, "--timeout", "2m")
    gate = site.json("report", "gate")["gate"]

    assert (gate["release"], gate["to_version"]) == ("console", "1.48.0")
    states = {one["check"]: (one["state"], one["text"]) for one in gate["checks"]}
    assert states["release"] == ("ok", '"console" is deployed, revision 1; 3 waits for this gate')
    assert (states["versions"][0], states["health"][0]) == ("ok", "ok")
    assert "pre-upgrade hooks failed" in stopped.value.stderr
    assert pods[0]["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    assert "NO-GO" in said
    assert "migration" in said
    assert after_no_go == "1.47.0"
    assert image() == "1.48.0"
    assert [revision["status"] for revision in helm.history("console", namespace)] == [
        "superseded",
        "failed",
        "deployed",
    ]


def test_an_evicted_hook_is_started_again(
    control_plane: ControlPlane,
    kubelet: Kubelet,
    postgres: PostgresServer,
    servers_root: Path,
    namespace: str,
    helm3: Helm,
    gate_values,
) -> None:
    """Its node ran out of memory in the middle: the Job makes another Pod, which is not counted as a failure, and its GO lets the upgrade through."""
    add_drctl(kubelet, IMAGE)
    database = f"evicted_{secrets.token_hex(4)}"
    postgres.create_database(database)
    site = PlatformSite(servers_root / database, postgres, database)
    site.run("init")
    may_look_at_its_release(site, control_plane, namespace)
    helm3.install("console", CHARTS / "console", namespace, gate_values)
    newer = gate_values | {"platform": {"replicas": 0, "image": {"tag": "1.48.0"}}}
    pods = f"/api/v1/namespaces/{namespace}/pods"
    mine = f"{pods}?labelSelector=job-name%3Ddrctl-pre-upgrade"

    def running(found: Any, besides: str = "") -> list[str]:
        items = found["items"] if found else []
        alive = [p["metadata"]["name"] for p in items if p.get("status", {}).get("phase") == "Running"]
        return [name for name in alive if name != besides]

    with sql.connect(site.dsn, autocommit=False) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")  # the gate's dump waits
        upgrade = pool.submit(
            helm3.upgrade, "console", CHARTS / "console", namespace, newer, "--timeout", "4m"
        )
        try:
            [first] = running(control_plane.wait_for(mine, "running", running))
            control_plane.request(
                "PATCH",
                f"{pods}/{first}",
                {"metadata": {"annotations": {EVICT: "The node was low on memory"}}},
            )
            control_plane.wait_for(mine, "started again", lambda found: running(found, first))
        finally:
            holder.rollback()
        upgrade.result(timeout=240)
    ends = [p["status"].get("reason") for p in control_plane.get(mine)["items"]]
    assert sorted(filter(None, ends)) == ["Evicted"]
    assert len(ends) == 2
    assert [revision["status"] for revision in helm3.history("console", namespace)] == [
        "superseded",
        "deployed",
    ]
    assert [e["result"] for s in site.snapshots() for e in s["evidence"]] == ["passed"]
    postgres.drop_database(database)


def test_cron_job_runs_through(deployed, control_plane: ControlPlane, site: PlatformSite) -> None:
    """By the clock: the CronJob makes a Job, that a Pod, that a process, and a snapshot is in the repository."""
    jobs = control_plane.wait_for(
        JOBS,
        "holding a complete run of the CronJob",
        lambda found: [
            job for job in found["items"]
            if (job["metadata"].get("ownerReferences") or [{}])[0].get("name") == "drctl-dump" and _condition(job, "Complete")
        ],
        timeout=100,
    )  # fmt: skip
    assert jobs
    assert {"console-db", "sql-db"} <= {snapshot["component"] for snapshot in site.snapshots()}
    cron = control_plane.get("/apis/batch/v1/namespaces/drctl/cronjobs/drctl-dump")
    assert cron["status"]["lastSuccessfulTime"]


def may_look_at_its_release(site: PlatformSite, control_plane: ControlPlane, namespace: str) -> None:
    """What the hook's gate needs besides the database: the platform's name, and the right to read there."""
    reading = next(yaml.safe_load_all((BASE / "platform-rights/backup.yaml").read_text()))["rules"]
    control_plane.make_service_account(namespace, "drctl-restore", reading)
    site.more = f"platform: {{console: {{kind: console, namespace: {namespace}}}}}\n"
    site.configure(control_plane, namespace, "drctl-restore")
    site.more = ""


def hook() -> dict[str, Any]:
    [found] = yaml.safe_load((BASE / "helm-hook-pre-upgrade.yaml").read_text())["extraDeploy"]
    return found


def _condition(job: dict[str, Any], kind: str) -> dict[str, Any] | None:
    conditions = job["status"].get("conditions", [])
    return next((c for c in conditions if (c["type"], c["status"]) == (kind, "True")), None)
