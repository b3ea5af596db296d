"""The rights of k8s-cronjobs/platform-rights suffice, on the real API server, for what docs/permissions.md says; and not for more."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from devstack import sql
from tests.integration.test_gate import Site
from tests.kube.test_platform_way import running, site  # noqa: F401  # the fixture: a running application

RIGHTS = Path(__file__).parents[2] / "k8s-cronjobs/platform-rights"
_RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces"


@pytest.fixture
def accounts(site, new_namespace):  # noqa: F811
    """Both accounts, in a namespace of their own, with the rules of the two files and no others; a kubeconfig for each."""
    home, plane = new_namespace(), site.plane
    for document in (d for name in ("backup", "restore") for d in _documents(name)):
        for subject in document.get("subjects", ()):
            subject["namespace"] = home
        plane.create(f"{_RBAC}/{site.namespace}/{document['kind'].lower()}s", document)
    found = {}
    for name in ("drctl-backup", "drctl-restore"):
        plane.make_service_account(home, name)
        found[name] = plane.write_kubeconfig(site.root / f"{name}.kubeconfig", plane.make_token(home, name))
    return found


def _documents(name: str) -> list[dict]:
    return list(yaml.safe_load_all((RIGHTS / f"{name}.yaml").read_text()))


def as_account(site: Site, kubeconfig: Path) -> None:  # noqa: F811
    """From now on this is who asks."""
    lines = site.config.read_text().splitlines()
    kept = [line for line in lines if not line.startswith("cluster:")]
    site.config.write_text("\n".join([*kept, f"cluster: {{kubeconfig: {kubeconfig}}}", ""]))


def test_backup_gate_restore_and_resume_with_exactly_these_rights(site, accounts):  # noqa: F811
    """The account of backups backs up and looks, and can bring nothing to rest; that of restores does the gate at zero, the restore, the resume."""
    text = site.config.read_text().replace(
        "components:\n", f"components:\n  secrets: {{kind: secrets, namespaces: [{site.namespace}]}}\n"
    )
    site.config.write_text(text)
    as_account(site, accounts["drctl-backup"])
    assert {s["component"] for s in site.json("backup")["snapshots"]} == {"secrets", "console-db"}
    looked = site.gate("console", "--to-version", "1.48.0", "--dry-run")
    states = {c["check"]: c["state"] for c in looked["checks"]}
    assert (states["release"], states["versions"], states["health"]) == ("ok", "ok", "ok")
    refused = site.run("pre-upgrade", "--scale-down", "console")
    assert (refused.returncode, running(site)) == (1, (2, None))
    assert "leases" in refused.stderr
    assert "Traceback" not in refused.stderr

    as_account(site, accounts["drctl-restore"])
    gate = site.gate("console", "--to-version", "1.48.0", "--scale-down", "console", "--point", "before")
    assert (gate["go"], running(site)) == (True, (2, None))
    sql.execute(site.dsn, "DROP TABLE users")
    done = site.json("restore", "--point", "before", "--yes")["restored"]
    assert (done["failed"], done["still_at_zero"], [h["well"] for h in done["health"]]) == (None, [], [True])
    assert (running(site), sql.rows(site.dsn, "SELECT count(*) FROM users")) == ((2, None), [(500,)])
    assert site.json("resume")["resumed"]["scaled"] == {}
    assert site.json("post-upgrade", "--point", "before")["after"]["ok"] is True
