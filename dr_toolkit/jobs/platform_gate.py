"""What the gate looks at of the applications themselves: the Helm release, the versions, the health of what runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dr_toolkit import errors
from dr_toolkit.cluster import health, paths
from dr_toolkit.cluster import replicas as workloads
from dr_toolkit.cluster.client import Cluster
from dr_toolkit.cluster.kinds import METADATA_ONLY
from dr_toolkit.cluster.replicas import Workload
from dr_toolkit.config import ApplicationConfig, Config
from dr_toolkit.jobs import quiet, versions
from dr_toolkit.jobs.gate import Check, Question

_VERSION_LABEL = "app.kubernetes.io/version"
_CHART_LABEL = "helm.sh/chart"
_PENDING = ("pending-install", "pending-upgrade", "pending-rollback", "uninstalling")


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision of a release, as Helm's storage labels it.

    Attributes:
        number: of the revision.
        status: ``deployed``, ``failed``, ``pending-upgrade``…
    """

    number: int
    status: str


def facts(config: Config, question: Question) -> list[Check]:
    """Everything about the release that is asked about, and the health of every application. Changes nothing.

    Args:
        config: the configuration.
        question: release and version, and whether the upgrade is over.
    """
    found: list[Check] = []
    with quiet.connected(config) as cluster:
        for name, application in config.platform.items():
            found += _application(cluster, name, application, question)
    return found


def _application(
    cluster: Cluster, name: str, application: ApplicationConfig, question: Question
) -> Iterator[Check]:
    asked = question.release in (name, application.release)
    try:
        running = workloads.find(
            cluster, application.namespace, release=application.release or name, named=application.workloads
        )
        if asked:
            yield release(
                application.release or name, _revisions(cluster, application, name), hook=question.hook
            )
        late = workloads.wait_until_ready(cluster, running, question.wait_s)
    except errors.DrctlError as error:
        missing = ("release", "health") if asked else ("health",)
        yield from (Check(check, name, "unknown", error.message, error.hint) for check in missing)
        running, late = [], None
    said = None
    if application.url is not None:
        url = application.url
        said = quiet.until(lambda: health.ask(application.kind, url, application.ca_file), question.wait_s)
    if late is not None:
        yield _health(name, late, said, running)
    if asked and question.to_version is not None:
        current = (said.version if said else "") or version_of(running)
        yield _versions(current, question.to_version, upgraded=question.upgraded)


def release(name: str, revisions: Sequence[Revision], *, hook: bool = False) -> Check:
    """Whether Helm's storage says that the newest revision is deployed; in Helm's hook, the newest but the one that waits for us. Pure."""
    if not revisions:
        return Check(
            "release", None, "failed", f'there is no release "{name}"', "check its name: helm list -A"
        )
    last = max(revisions, key=lambda one: one.number)
    if hook:
        return _in_hook(name, last, [one for one in revisions if one is not last])
    if last.status in _PENDING:
        return Check(
            "release",
            None,
            "failed",
            f'revision {last.number} of "{name}" is {last.status}: an operation is running, or died',
            f"wait for it; if it died: helm rollback {name}",
        )
    if last.status != "deployed":
        text = f'revision {last.number} of "{name}" is {last.status or "in an unknown state"}'
        return Check("release", None, "failed", text, f"bring it to rest first: helm history {name}")
    return Check("release", None, "ok", f'"{name}" is deployed, revision {last.number}')


def _in_hook(name: str, last: Revision, before: Sequence[Revision]) -> Check:
    """The upgrade that waits for the answer is pending itself; another one must not be. A failed one is mended by the next: a NO-GO leaves one."""
    if last.status != "pending-upgrade":
        text = f'revision {last.number} of "{name}" is {last.status or "in an unknown state"}, and no upgrade is under way'
        return Check("release", None, "failed", text, "--hook is for Helm's pre-upgrade hook alone")
    pending = [one for one in before if one.status in _PENDING]
    deployed = max((one.number for one in before if one.status == "deployed"), default=None)
    if pending or deployed is None:
        text = (
            f'revision {pending[-1].number} of "{name}" is {pending[-1].status}, too'
            if pending
            else f'no revision of "{name}" before {last.number} is deployed'
        )
        return Check("release", None, "failed", text, f"see: helm history {name}")
    return Check(
        "release", None, "ok", f'"{name}" is deployed, revision {deployed}; {last.number} waits for this gate'
    )


def version_of(running: Sequence[Workload]) -> str:
    """The application's version: its image's tag, else what the chart wrote into the labels. Pure."""
    for one in running:
        for image in one.images:
            tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
            if versions.parse(tag):
                return tag
    return next((one.labels[_VERSION_LABEL] for one in running if _VERSION_LABEL in one.labels), "")


def _versions(current: str, wanted: str, *, upgraded: bool) -> Check:
    if not current:
        hint = 'configure "url" of the application, so that it can be asked; or --accept versions'
        return Check("versions", None, "unknown", "the present version is not known", hint)
    return versions.arrived(current, wanted) if upgraded else versions.path(current, wanted)


def _health(name: str, late: Sequence[str], said: health.Health | None, running: Sequence[Workload]) -> Check:
    wrong = [*late, *([said.text] if said and not said.ready else [])]
    if wrong:
        hint = "look at its pods and their logs (kubectl get pods, kubectl logs)"
        return Check("health", name, "failed", "; ".join(wrong), hint)
    charts = sorted({one.labels[_CHART_LABEL] for one in running if _CHART_LABEL in one.labels})
    parts = ["all replicas are ready", *([said.text] if said else []), *charts]
    return Check("health", name, "ok", "; ".join(parts))


def _revisions(cluster: Cluster, application: ApplicationConfig, name: str) -> list[Revision]:
    selector = f"owner=helm,name={application.release or name}"
    pages = cluster.pages(
        paths.of("api/v1/secrets", application.namespace),
        query={"labelSelector": selector},
        accept=METADATA_ONLY,
    )
    found = [item["metadata"].get("labels") or {} for page in pages for item in page]
    return [
        Revision(int(labels["version"]), str(labels.get("status", "")))
        for labels in found
        if str(labels.get("version", "")).isdecimal()
    ]
