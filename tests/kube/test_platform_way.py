"""Gate and restore with a running application on the real API server: at zero while it must be, and back whatever happens."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from devstack import sql
from devstack.postgres import PostgresServer
from dr_toolkit.cluster import replicas
from dr_toolkit.cluster.client import Cluster
from dr_toolkit.config import ClusterConfig
from tests.health_server import HealthServer
from tests.integration.test_gate import Site, drop, names

CHARTS = Path(__file__).parent / "charts"
IMAGE = "example.invalid/console:1.46.0"
AWAY = float(os.environ.get("DEVSTACK_AWAY", "5"))


@pytest.fixture
def site(tmp_path, postgres: PostgresServer, control_plane, kubelet, namespace):
    """A database, and an application of two replicas that really run; Helm's storage says that it is deployed."""
    kubelet.add_image(IMAGE, ["/bin/sh"], named={"sh": ["/bin/sh"]})
    container = {"name": "c", "image": IMAGE, "command": ["sh", "-c", "exec sleep 600"]}
    pod = {
        "metadata": {"labels": {"app": "console"}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }
    control_plane.create(
        f"/apis/apps/v1/namespaces/{namespace}/deployments",
        {
            "metadata": {"name": "console", "labels": {replicas.INSTANCE: "console"}},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "console"}}, "template": pod},
        },
    )
    release(control_plane, namespace, 1, "deployed")
    found = Site(tmp_path, postgres, more=f"""
cluster: {{kubeconfig: {control_plane.kubeconfig}}}
platform: {{console: {{kind: console, namespace: {namespace}}}}}
""")  # fmt: skip
    found.environment["XDG_STATE_HOME"] = str(tmp_path / "state")
    found.namespace, found.plane = namespace, control_plane
    control_plane.wait_for(path(namespace), "ready", lambda d: d and d["status"].get("readyReplicas") == 2)
    yield found
    drop(found)


def path(namespace: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/deployments/console"


def release(plane, namespace: str, number: int, status: str) -> None:
    labels = {"owner": "helm", "name": "console", "version": str(number), "status": status}
    meta = {"name": f"sh.helm.release.v1.console.v{number}", "labels": labels}
    plane.create(f"/api/v1/namespaces/{namespace}/secrets", {"metadata": meta, "type": "helm.sh/release.v1"})


def running(site: Site) -> tuple[int, int | None]:
    with Cluster(ClusterConfig(kubeconfig=str(site.plane.kubeconfig))) as cluster:
        [found] = replicas.find(cluster, site.namespace, release="console", named=None)
    return found.replicas, found.intended


def test_gate_and_restore_bring_the_application_to_rest_and_back(site):
    """GO with health, release and version looked at; a pending revision and a step too far are NO-GO; a restore ends with a ready application."""
    gate = site.gate("console", "--to-version", "1.48.0", "--scale-down", "console", "--point", "before")
    assert (gate["go"], gate["reasons"], running(site)) == (True, [], (2, None))
    assert "scale down" in gate["seconds"]
    states = {c["check"]: c["state"] for c in gate["checks"]}
    assert (states["release"], states["versions"], states["health"]) == ("ok", "ok", "ok")
    assert site.run("pre-upgrade", "--scale-down", "other").returncode == 2
    late = site.gate("console", "--to-version", "1.50.0", "--reuse", "1h", code=3)
    assert names(late) == [("versions", None)]
    sql.execute(site.dsn, "DROP TABLE users")
    planned = site.json("restore", "--point", "before", "--dry-run")["plan"]["scale_down"]
    assert planned[0]["workloads"] == [{"workload": "deployment/console", "replicas": 2, "intended": 2}]
    done = site.json("restore", "--point", "before", "--yes")["restored"]
    assert (done["failed"], done["still_at_zero"], [h["well"] for h in done["health"]]) == (None, [], [True])
    assert (running(site), sql.rows(site.dsn, "SELECT count(*) FROM users")) == ((2, None), [(500,)])
    old = site.json(
        "post-upgrade", "console", "--point", "before", "--to-version", "1.48.0", "--wait", "1s", code=3
    )
    assert names(old["after"]) == [("versions", None)]  # the old version still runs
    release(site.plane, site.namespace, 2, "pending-upgrade")
    pending = site.gate("console", "--reuse", "1h", code=3)
    assert names(pending) == [("release", None)]


def test_after_an_upgrade_the_applications_answer_for_themselves(site):
    """Both ready, the new version, no row less, a new snapshot: OK; not ready, the old version and fewer rows: NOT OK, with the way back."""
    before = site.gate("--point", "before")
    sql.execute(site.dsn, "INSERT INTO users VALUES (501, 'new')")
    with HealthServer() as server:
        console = f"console: {{kind: console, namespace: {site.namespace}"
        more = f"  gateway: {{kind: gateway, namespace: {site.namespace}, workloads: [deployment/console], url: {server.url}}}\n"
        text = site.config.read_text().replace(console, f"{console}, url: {server.url}")
        text = text.replace("platform: {console", "platform:\n  console").replace("}}\n", "}\n" + more)
        site.config.write_text(text)
        server.versions = b'{"platform": "1.48.0", "gateway": "3.10.0"}'
        asked = ("post-upgrade", "console", "--point", "before", "--to-version", "1.48.0")
        good = site.json(*asked)["after"]
        found = {(c["check"], c["component"]): c["text"] for c in good["checks"] if c["state"] == "ok"}
        assert (good["ok"], good["reasons"]) == (True, [])
        assert "version 1.48.0" in found["health", "console"]
        assert "version 3.10.0" in found["health", "gateway"]
        assert "2 tables, none smaller: 501 rows, now 502" in found["counts", "console-db"]
        assert good["snapshots"][0]["id"] > before["snapshots"][0]["id"]
        server.status, server.versions = 503, b'{"platform": "1.46.0"}'
        sql.execute(site.dsn, "DELETE FROM users WHERE id < 100")
        bad = site.run(*asked, "--wait", "1s")
    assert (bad.returncode, bad.stdout.splitlines()[0]) == (3, "NOT OK")
    for said in ("answers 503", "has 402 rows, and had 500", "1.46.0", "drctl restore console-db --snapshot"):
        assert said in bad.stdout


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_gate_that_is_ended_at_zero_leaves_what_is_meant(site, number):
    """Asked to end, it scales up itself; killed, the workload says what it is meant to have and resume gives it back."""
    with sql.connect(site.dsn, autocommit=False) as holder:
        holder.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")  # the dump waits, at zero
        process = site.start("pre-upgrade", "--scale-down", "console")
        for _ in range(300):
            if running(site) == (0, 2) and _dumping(site):
                break
            time.sleep(0.1)
        process.send_signal(number)
        _out, said = process.communicate(timeout=60)
        assert process.returncode == (143 if number == signal.SIGTERM else -9), said
    if number == signal.SIGKILL:
        assert running(site) == (0, 2)
        assert site.json("resume", "--take-over")["resumed"]["scaled"] == {
            f"{site.namespace}/deployment/console": 2
        }
    assert running(site) == (2, None)


def test_an_api_server_that_is_away_for_a_while_is_waited_for(site):
    """It dies while the application is at zero and comes back some seconds later: the gate scales up all the same, and says GO.

    ``DEVSTACK_AWAY=60`` lets it be away for a minute, which `make matrix-kube` does.
    """
    with sql.connect(site.dsn, autocommit=False) as holder:
        holder.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        process = site.start("pre-upgrade", "--scale-down", "console", "--output", "json")
        for _ in range(300):
            if running(site) == (0, 2) and _dumping(site):
                break
            time.sleep(0.1)
        site.plane.kill_api()
    try:
        time.sleep(AWAY)
    finally:
        site.plane.start_api()
    out, said = process.communicate(timeout=120 + 2 * AWAY)
    assert (process.returncode, running(site)) == (0, (2, None)), out + said


def _dumping(site: Site) -> bool:
    waiting = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{site.database}' AND wait_event_type = 'Lock'"
    return sql.rows(site.postgres.dsn(), waiting) != [(0,)]


def test_a_restore_that_fails_leaves_it_at_rest_and_goes_on(site):
    """A damaged snapshot: nothing is swapped, the application stays at zero and that is said, until the restore went on; --no-scale leaves it alone."""
    noise = "SELECT n, md5(n::text) || md5((-n)::text) AS noise FROM generate_series(1, 30000) n"
    sql.execute(site.dsn, f"CREATE TABLE topics AS {noise}")
    site.json("backup", "--point", "before")
    packs = [p for p in (site.root / "repository/packs").rglob("*") if p.is_file()]
    pack = max(packs, key=lambda p: p.stat().st_size)
    content = bytearray(pack.read_bytes())
    half = len(content) // 2  # in that table
    pack.chmod(0o600)
    pack.write_bytes(content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :])
    alone = site.run("restore", "--point", "before", "--yes", "--no-scale")
    assert (alone.returncode, running(site)) == (3, (2, None))
    done = site.json("restore", "--point", "before", "--yes", code=3)["restored"]
    assert (done["still_at_zero"], running(site)) == (["console"], (0, 2))
    pack.write_bytes(content)
    went_on = site.json("restore", "--point", "before", "--yes", "--resume")["restored"]
    assert (went_on["failed"], running(site)) == (None, (2, None))
    assert site.json("resume")["resumed"]["scaled"] == {}


def test_everything_in_its_order_and_into_another_namespace(site, helm3, new_namespace):
    """Databases, then what differs of releases and Secrets, then replicas and health; who else is at it is named; --map does it elsewhere and leaves this alone."""
    secret = f"/api/v1/namespaces/{site.namespace}/secrets"
    site.plane.delete(f"{secret}/sh.helm.release.v1.console.v1")
    helm3.install("main", CHARTS / "console", site.namespace, {"platform": {"replicas": 0}})
    site.plane.create(secret, {"metadata": {"name": "kept"}, "stringData": {"KEY": "kept-value-1"}})
    both = "".join(
        f"  {name}: {{kind: {kind}, namespaces: [{site.namespace}]}}\n"
        for name, kind in (("releases", "helm"), ("secrets", "secrets"))
    )
    site.config.write_text(site.config.read_text().replace("components:\n", f"components:\n{both}"))
    site.json("backup", "--point", "before")
    sql.execute(site.dsn, "DROP TABLE users")
    site.plane.delete(f"{secret}/kept")
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{site.namespace}/leases"
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    held = {
        "holderIdentity": "ann@laptop (pid 7)",
        "acquireTime": now,
        "renewTime": now,
        "leaseDurationSeconds": 180,
    }
    site.plane.create(lease, {"metadata": {"name": "drctl-restore"}, "spec": held})
    refused = site.run("restore", "--point", "before", "--yes")
    assert (refused.returncode, "ann@laptop (pid 7)" in refused.stderr, "--take-over" in refused.stderr) == (
        1,
        True,
        True,
    )
    done = site.json("restore", "--point", "before", "--yes", "--take-over")["restored"]
    assert list(done["components"]) == ["console-db", "secrets", "releases"]
    assert [(d["release"], d["same"]) for d in done["components"]["releases"]["differences"]] == [
        ("main", True)
    ]
    assert [(d["secret"], d["change"]) for d in done["components"]["secrets"]["differences"]] == [
        ("kept", "missing")
    ]
    assert (running(site), sql.rows(site.dsn, "SELECT count(*) FROM users")) == ((2, None), [(500,)])

    elsewhere = new_namespace()
    deployment = site.plane.get(path(site.namespace))
    spec = deployment["spec"] | {"replicas": 1}
    meta = {"name": "console", "labels": deployment["metadata"]["labels"]}
    site.plane.create(f"/apis/apps/v1/namespaces/{elsewhere}/deployments", {"metadata": meta, "spec": spec})
    site.plane.wait_for(path(elsewhere), "ready", lambda d: d and d["status"].get("readyReplicas") == 1)
    sql.execute(site.dsn, "DELETE FROM users")
    mapped = f"namespace={elsewhere},console-db.database={site.database}_drill"
    moved = site.json("restore", "--point", "before", "--yes", "--map", mapped)["restored"]
    assert {d["change"] for d in moved["components"]["secrets"]["differences"]} >= {"missing"}
    assert [d["same"] for d in moved["components"]["releases"]["differences"]] == [False]
    assert [h["well"] for h in moved["health"]] == [True]
    assert sql.rows(site.postgres.dsn(f"{site.database}_drill"), "SELECT count(*) FROM users") == [(500,)]
    assert sql.rows(site.dsn, "SELECT count(*) FROM users") == [(0,)]
    assert site.plane.get(f"/apis/coordination.k8s.io/v1/namespaces/{elsewhere}/leases/drctl-restore")
