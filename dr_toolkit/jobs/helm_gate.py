"""What the gate looks at in Helm's storage: that the release is deployed, and no revision is pending."""

from __future__ import annotations

from dr_toolkit.cluster import helm_storage, releases
from dr_toolkit.cluster.releases import State
from dr_toolkit.config import ComponentConfig, Config, HelmConfig
from dr_toolkit.jobs import clusters, opening
from dr_toolkit.jobs.gate import Check, Question

NAMES = ("release",)
"""The checks that are made here, and are unknown when the API server cannot be asked."""


def facts(config: Config, name: str, component: ComponentConfig, question: Question) -> list[Check]:
    """One check of the named release, where it is here and no application of ``platform`` is asked about it.

    Without a name there is none: other releases of a namespace say nothing of an upgrade, and in Helm's own hook one is always pending.

    Raises:
        SourceError, SourceUnreachable: the API server cannot be asked.
    """
    wanted = opening.expect(component, HelmConfig)
    if question.release is None or _is_asked(config, question.release):
        return []
    found: list[tuple[str, State]] = []
    with clusters.opened(config) as cluster:
        for namespace in wanted.namespaces:
            for driver in wanted.drivers:
                states = releases.states(cluster, namespace, driver, release=question.release)
                found += [(namespace, state) for state in states.values()]
    return [judge(name, question.release, found, hook=question.hook)]


def _is_asked(config: Config, release: str) -> bool:
    """Whether an application of ``platform`` is this release: then the gate looks at it there."""
    return any(release in (name, one.release) for name, one in config.platform.items())


def judge(component: str, release: str, found: list[tuple[str, State]], *, hook: bool = False) -> Check:
    """Whether an upgrade may begin; in Helm's hook it has, and its own revision is pending. Pure."""
    if not found:
        return Check(
            "release",
            component,
            "failed",
            f'there is no release "{release}" in the configured namespaces',
            "check its name (helm list -A) and the component's namespaces",
        )
    bad = [(namespace, state) for namespace, state in found if not _may(state, hook=hook)]
    if not bad:
        pending = (
            f"revision {found[0][1].facts.revision} waits for this gate" if hook else "no revision is pending"
        )
        return Check("release", component, "ok", f'release "{release}" is deployed, and {pending}')
    texts = [
        f'revision {state.facts.revision} of "{namespace}/{state.facts.release}" is {state.facts.status}'
        for namespace, state in bad
    ]
    return Check("release", component, "failed", "; ".join(texts), way_out(*bad[0]))


def _may(state: State, *, hook: bool) -> bool:
    if hook:
        return state.facts.status == "pending-upgrade" and state.deployed is not None
    return state.facts.status == "deployed"


def way_out(namespace: str, state: State) -> str:
    """What to do about a newest revision that is not deployed. Pure."""
    name = f"{state.facts.release} --namespace {namespace}"
    if state.facts.status == "failed":
        return f"see what failed (helm history {name}), then: helm rollback {state.facts.release} {state.deployed or ''} --namespace {namespace}"
    if state.facts.status not in helm_storage.STUCK:
        return f"see: helm history {name}"
    if state.deployed is None:
        return (
            f"make sure that no helm is running, then: helm uninstall {name}, and install it again; "
            "data in its volumes and databases may go with it: take a backup first"
        )
    return f"make sure that no helm is running, then: helm rollback {state.facts.release} {state.deployed} --namespace {namespace}, and upgrade again"
