"""What is the matter with a scratch namespace's Pod: waiting, running, done, or a NO with its reason. A pure function of what the API says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dr_toolkit.cluster.scratch_objects import DATABASE, NAME

Stage = Literal["waiting", "running", "done", "no"]
PULL = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
)
NOT_STARTED = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull"})


@dataclass(frozen=True, slots=True)
class State:
    """How it stands.

    Attributes:
        stage: ``waiting`` may become better, ``no`` cannot.
        reason: what is waited for, or why not, in words.
        hint: what to do about it.
        code: drctl's exit code, when ``done``.
    """

    stage: Stage
    reason: str = ""
    hint: str = ""
    code: int = -1


def judge(
    job: Mapping[str, Any],
    pods: Sequence[Mapping[str, Any]],
    events: Sequence[Mapping[str, Any]],
    claims: Sequence[Mapping[str, Any]],
) -> State:
    """Say how it stands.

    Args:
        job: the Job.
        pods: its Pods; never more than one.
        events: of the namespace.
        claims: for volumes, of the namespace.

    Returns:
        The state.
    """
    if pods:
        found = _of_pod(pods[0], events, claims)
        if found.stage != "waiting":
            return found
        return _given_up(job) or found
    given_up = _given_up(job)
    refused = newest_event(events, "FailedCreate")
    if refused:
        hint = "raise verify.namespace.quota or lower memory and cpu there" if "quota" in refused else ""
        return State("no" if given_up else "waiting", f"the Pod is refused: {refused}", hint)
    return given_up or State("waiting", "no Pod was made yet")


def _of_pod(
    pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]], claims: Sequence[Mapping[str, Any]]
) -> State:
    status = pod.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    obstacles = [found for found in map(_obstacle, containers) if found is not None]
    decided = _ended(status) or _lost(pod, status) or (obstacles[0] if obstacles else None)
    if decided is not None:
        return decided
    if "running" in (_container(status, NAME).get("state") or {}):
        return State("running")
    return _placed(status, events, claims)


def _lost(pod: Mapping[str, Any], status: Mapping[str, Any]) -> State | None:
    if status.get("reason") == "Evicted":
        return State(
            "no",
            f"the Pod was evicted: {status.get('message', 'no reason was given')}",
            "give the node or the claim more room (verify.namespace.size, memory), and run it again",
        )
    if status.get("phase") == "Failed":
        said = f"{status.get('reason') or ''} {status.get('message') or ''}".strip()
        return State("no", f"the Pod failed: {said or 'no reason was given'}")
    if pod.get("metadata", {}).get("deletionTimestamp"):
        return State(
            "no", "the Pod was deleted by somebody else, or its node is being drained", "run it again"
        )
    return None


def _ended(status: Mapping[str, Any]) -> State | None:
    over = (_container(status, NAME).get("state") or {}).get("terminated")
    if not over or status.get("reason") == "Evicted":
        return None
    if over.get("reason") == "OOMKilled":
        return State("no", "drctl took more than its memory and was killed", "raise verify.namespace.memory")
    return State("done", str(over.get("message") or ""), code=int(over.get("exitCode", -1)))


def _obstacle(container: Mapping[str, Any]) -> State | None:
    name = container.get("name")
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
    if reason in PULL:
        return State(
            "no" if reason in HOPELESS else "waiting",
            f'the image "{container.get("image")}" cannot be pulled: {message or reason}',
            "check its name and digest under verify.namespace, and whether the nodes may read that registry",
        )
    if reason in NOT_STARTED:
        return State("waiting", f'the container "{name}" cannot be started: {message or reason}')
    if name != DATABASE or not container.get("restartCount"):
        return None
    last = (container.get("lastState") or {}).get("terminated") or {}
    if last.get("reason") == "OOMKilled":
        return State(
            "no", "PostgreSQL took more than its memory and was killed", "raise verify.namespace.memory"
        )
    said = " ".join(str(last.get("message", "")).split())[-300:]
    return State(
        "no",
        f"PostgreSQL does not stay up: exit code {last.get('exitCode')}" + (f", {said}" if said else ""),
        "check its image and verify.namespace.postgres_user: that user must be in the image's /etc/passwd",
    )


def _placed(
    status: Mapping[str, Any], events: Sequence[Mapping[str, Any]], claims: Sequence[Mapping[str, Any]]
) -> State:
    """What a Pod without a fault waits for: a volume, a node, or only time."""
    for claim in claims:
        if (claim.get("status") or {}).get("phase") == "Pending" and not status.get("podIP"):
            name = (claim.get("spec") or {}).get("storageClassName")
            why = newest_event(events, "ProvisioningFailed") or newest_event(events, "FailedBinding")
            return State(
                "waiting",
                f'the volume of storage class "{name}" is pending' + (f": {why}" if why else ""),
                "check verify.namespace.storage_class and what its provisioner says, or leave it out for an emptyDir",
            )
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return State(
                "waiting",
                f"no node takes the Pod: {condition.get('message', condition.get('reason'))}",
                "lower verify.namespace.memory, cpu or size, or give the cluster more room",
            )
    mount = newest_event(events, "FailedMount")
    return State(
        "waiting", f"a volume cannot be mounted: {mount}" if mount else "the containers are starting"
    )


def _given_up(job: Mapping[str, Any]) -> State | None:
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "Failed" and condition.get("status") == "True":
            if condition.get("reason") == "DeadlineExceeded":
                return State("no", "the work did not end in time", "raise verify.namespace.timeout")
            return State("no", f"the Job failed: {condition.get('message') or condition.get('reason')}")
    return None


def _container(status: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any]
    for found in status.get("containerStatuses") or []:
        if found.get("name") == name:
            return found
    return {}


def newest_event(events: Sequence[Mapping[str, Any]], reason: str) -> str:
    """The newest event's message of this reason, on one line."""
    found = [str(event.get("message", "")) for event in events if event.get("reason") == reason]
    return " ".join(found[-1].split())[:500] if found else ""
