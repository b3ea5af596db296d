"""What is deployed: manifests, image and compose file are held against the API's schemas, the real command line and the real configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from dr_toolkit import config
from dr_toolkit.cli.context import Context
from dr_toolkit.cli.main import drctl
from dr_toolkit.cli.options import CODES

ROOT = Path(__file__).parents[2]
BASE = ROOT / "k8s-cronjobs"
VERSION = "1.31"
# Only these ask the Kubernetes API.
WITH_TOKEN = {"pre-upgrade", "releases", "secrets", "verify"}
KUSTOMIZATION = yaml.safe_load((BASE / "kustomization.yaml").read_text())


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every manifest with its file; the hook's is inside the values."""
    for path in sorted(BASE.rglob("*.yaml")):
        if path.name.startswith(("config-", "kustomization")):
            continue
        for document in yaml.safe_load_all(path.read_text()):
            for item in document.get("extraDeploy", [document]):
                yield path.name, item


MANIFESTS = [pytest.param(document, id=f"{name}-{document['kind']}") for name, document in documents()]


def job_of(document: dict[str, Any]) -> dict[str, Any] | None:
    if document["kind"] == "CronJob":
        return document["spec"]["jobTemplate"]["spec"]
    return document["spec"] if document["kind"] == "Job" else None


JOBS = [pytest.param(job, id=name) for name, document in documents() if (job := job_of(document)) is not None]


@pytest.mark.parametrize("document", MANIFESTS)
def test_a_manifest_is_what_the_api_takes(document):
    """No field is misspelt or of the wrong type: the API's own schema, strictly."""
    kubernetes_validate.validate(document, VERSION, strict=True)


def test_the_schema_would_find_a_mistake():
    """A validation that takes everything would be none."""
    [document] = [d for name, d in documents() if name == "cronjob-dump.yaml"]
    document["spec"]["concurencyPolicy"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSION, strict=True)


@pytest.mark.parametrize("job", JOBS)
def test_the_restricted_level_is_kept_and_nothing_is_writable(job):
    """Field by field what Pod Security asks for at its restricted level, and more: a token only for who needs it, no writable root, bounded memory and disk."""
    pod = job["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    words = {word for container in pod["containers"] for word in container["args"]}
    assert pod["automountServiceAccountToken"] is bool(words & WITH_TOKEN)
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert {next(iter(v.keys() - {"name"})) for v in pod["volumes"]} <= {"configMap", "emptyDir"}
    assert all(v["emptyDir"]["sizeLimit"] for v in pod["volumes"] if "emptyDir" in v)
    for container in pod["containers"]:
        own = container["securityContext"]
        assert (own["allowPrivilegeEscalation"], own["readOnlyRootFilesystem"]) == (False, True)
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}


def parse(arguments: list[str]) -> None:
    """As the real command line does, without running anything."""
    parent = click.Context(drctl, obj=Context())
    command = drctl.get_command(parent, arguments[0])
    assert command is not None, arguments
    command.make_context(arguments[0], list(arguments[1:]), parent=parent)


@pytest.mark.parametrize("job", JOBS)
def test_a_job_runs_a_command_that_exists_on_components_that_are_configured(job):
    """With the configuration of its own account; a backup job never has the read role's."""
    pod = job["template"]["spec"]
    [container] = pod["containers"]
    parse(container["args"])
    account = pod["serviceAccountName"]
    [mounted] = [v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v]
    assert mounted == account.replace("drctl-", "drctl-config-")
    assert container["envFrom"] == [{"secretRef": {"name": account}}]
    assert (account == "drctl-backup") == (container["args"][0] == "backup")
    components = loaded(account.removeprefix("drctl-")).components
    words = [w for w in container["args"][1:] if not w.startswith("-")]
    if container["args"][0] == "backup":
        assert set(words) - {"json"} <= components.keys()


@pytest.mark.parametrize("job", JOBS)
def test_a_job_ends_by_itself_and_retries_only_what_may_get_better(job):
    """Codes 2 and 3 fail at once, an eviction counts for nothing, and every named code is one that drctl has."""
    eviction, final = job["podFailurePolicy"]["rules"]
    assert (eviction["action"], eviction["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert (final["action"], final["onExitCodes"]["values"]) == ("FailJob", [2, 3])
    assert set(final["onExitCodes"]["values"]) <= CODES.keys()
    assert final["onExitCodes"]["containerName"] == job["template"]["spec"]["containers"][0]["name"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert job["activeDeadlineSeconds"] > 0


def test_cron_jobs_do_not_overlap_and_say_their_time_zone():
    """A run that is late starts late or not at all, and ends before the next one."""
    jobs = [d["spec"] for _, d in documents() if d["kind"] == "CronJob"]
    assert len(jobs) == 3
    for spec in jobs:
        assert (spec["concurrencyPolicy"], spec["timeZone"]) == ("Forbid", "Etc/UTC")
        assert 0 < spec["startingDeadlineSeconds"] <= spec["jobTemplate"]["spec"]["activeDeadlineSeconds"]


def loaded(which: str) -> config.Config:
    path = BASE / f"config-{which}.yaml"
    return config.parse(path.read_text())


def test_a_backup_job_is_given_the_write_role_only():
    """And the other account the same components, with both."""
    backup, restore = loaded("backup"), loaded("restore")
    assert {key.role for key in backup.keys.values()} == {"write"}
    assert {key.role for key in restore.keys.values()} == {"write", "read"}
    assert backup.components == restore.components


@pytest.mark.parametrize("which", ["backup", "restore"])
def test_every_variable_is_in_the_list_of_the_secrets(which):
    """Whoever makes the Secret as the README says has all that the configuration refers to."""
    wanted = set(re.findall(r"env:(\w+)", (BASE / f"config-{which}.yaml").read_text()))
    text = (BASE / "README.md").read_text()
    listed = set(re.findall(r"`([A-Z_]{5,})`", text.split("`drctl-backup` has")[1].split("[permissions")[0]))
    assert wanted == (listed if which == "restore" else listed - {"VAULT_READ_TOKEN"})


def test_the_kustomization_has_every_file():
    """What is not in it is named as such: the gate is not for every day."""
    aside = {"job-pre-upgrade.yaml", "helm-hook-pre-upgrade.yaml", "kustomization.yaml"}
    files = {entry.split("=")[1] for g in KUSTOMIZATION["configMapGenerator"] for entry in g["files"]}
    assert {*KUSTOMIZATION["resources"], *files, *aside} == {p.name for p in BASE.glob("*.yaml")}
    [namespace] = [d for _, d in documents() if d["kind"] == "Namespace"]
    assert namespace["metadata"]["name"] == KUSTOMIZATION["namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_hook_runs_before_an_upgrade_and_stops_it():
    """Helm's annotations; and no second try after a NO-GO."""
    [hook] = [d for name, d in documents() if name == "helm-hook-pre-upgrade.yaml"]
    annotations = hook["metadata"]["annotations"]
    assert (annotations["helm.sh/hook"], annotations["helm.sh/hook-delete-policy"]) == (
        "pre-upgrade",
        "before-hook-creation",
    )
    assert all(isinstance(value, str) for value in annotations.values())
    assert (hook["spec"]["backoffLimit"], "ttlSecondsAfterFinished" in hook["spec"]) == (0, False)
    assert hook["spec"]["template"]["spec"]["containers"][0]["args"][0] == "pre-upgrade"


COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_the_compose_site_is_whole():
    """Its configuration loads, with every variable given; whom a service waits for is there; drctl's own containers are read-only."""
    content = COMPOSE["configs"]["drctl"]["content"]
    found = config.parse(content)
    assert all(component.schedule for component in found.components.values())
    services = COMPOSE["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= services.keys(), name
        if service["image"] == "drctl:demo":
            assert (service["read_only"], service["cap_drop"], service["tmpfs"]) == (True, ["ALL"], ["/tmp"])
            assert set(re.findall(r"env:(\w+)", content)) <= service["environment"].keys()
            parse(service["command"])
    hosts = set(re.findall(r"host: ([\w-]+)", content)) | set(re.findall(r"http://([\w-]+):", content))
    assert hosts <= services.keys()


EXACT = re.compile(r"[\w./-]+:v?\d+\.\d+(\.\d+)?(-\w+)*")
"""An image with a version that nobody moves: not `latest`, not a major version alone, not without a tag."""


def test_every_image_has_an_exact_version():
    """What is pulled tomorrow is what was pulled today, in the compose file and in the image's own base."""
    pulled = {service["image"] for service in COMPOSE["services"].values() if "build" not in service}
    assert {image for image in pulled if not EXACT.fullmatch(image)} == set()
    stages = {
        rest.rpartition(" AS ")[2] for word, rest in instructions() if word == "FROM" and " AS " in rest
    }
    bases = {rest.split()[0] for word, rest in instructions() if word == "FROM"} - stages
    assert {base for base in bases if not re.fullmatch(r"python:\d+\.\d+\.\d+(-\w+)+", base)} == set()
    for loose in ("postgres", "postgres:18", "postgres:18-bookworm", "openbao/openbao:latest"):
        assert EXACT.fullmatch(loose) is None


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (word, rest.strip())
        for line in text.splitlines()
        if line.strip()
        for word, _, rest in [line.partition(" ")]
    ]


def test_the_image_runs_drctl_as_the_manifests_user():
    """Not root, by number so that Kubernetes can tell; and everything that is copied into it is there."""
    found = instructions()
    assert {word for word, _ in found} <= {
        "FROM",
        "WORKDIR",
        "COPY",
        "RUN",
        "ARG",
        "ENV",
        "USER",
        "ENTRYPOINT",
        "CMD",
    }
    [user] = [rest for word, rest in found if word == "USER"]
    users = {job.values[0]["template"]["spec"]["securityContext"]["runAsUser"] for job in JOBS}
    assert {user.partition(":")[0]} == {str(number) for number in users}
    last = max(i for i, (word, _) in enumerate(found) if word == "FROM")
    assert [w for w, _ in found[last:]].index("USER") < [w for w, _ in found[last:]].index("ENTRYPOINT")
    assert dict(found)["ENTRYPOINT"] == '["drctl"]'
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for _word, rest in (i for i in found if i[0] == "COPY" and "--from" not in i[1]):
        for source in rest.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source.removeprefix('./')}" in ignored
