"""How the guest of a scratch namespace does: waiting, running, healthy, or ended, by what the API says. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dr_toolkit.cluster.scratch_state import HOPELESS, NOT_STARTED, PULL, newest_event
from dr_toolkit.words import counted

Stage = Literal["waiting", "running", "healthy", "over"]


@dataclass(frozen=True, slots=True)
class Guest:
    """How it stands.

    Attributes:
        stage: ``over`` cannot become better.
        text: what is waited for, or how it ended, in words.
        hint: what to do about it.
        restarts: of its container.
    """

    stage: Stage
    text: str = ""
    hint: str | None = None
    restarts: int = 0


def judge(
    job: Mapping[str, Any] | None, pods: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]
) -> Guest:
    """Say how it stands.

    Args:
        job: its Job; None when it is gone.
        pods: its Pods; never more than one.
        events: of the namespace.
    """
    if job is None:
        return Guest("over", "the namespace was deleted by somebody else", "run it again")
    if pods:
        return _of_pod(pods[0])
    refused = newest_event(events, "FailedCreate")
    if refused:
        return _refused(refused, given_up=_failed(job))
    return (
        Guest("over", "its Job failed before a Pod was made")
        if _failed(job)
        else Guest("waiting", "no Pod was made yet")
    )


def _refused(text: str, *, given_up: bool) -> Guest:
    """The API takes no Pod of it: for good where the level of the namespace forbids it, else until there is room."""
    hint = None
    if "PodSecurity" in text:
        hint = "a rehearsal runs at the restricted level: let the chart's securityContext run it as an ordinary user"
    elif "quota" in text:
        hint = "raise verify.namespace.quota, or lower rehearsal.memory and rehearsal.cpu"
    over = given_up or "PodSecurity" in text
    return Guest("over" if over else "waiting", f"the Pod is refused: {text}", hint)


def _of_pod(pod: Mapping[str, Any]) -> Guest:
    status = pod.get("status") or {}
    container: Mapping[str, Any] = next(iter(status.get("containerStatuses") or []), {})
    restarts = int(container.get("restartCount") or 0)
    over = _over(pod, status, container)
    if over is not None:
        return over
    if restarts:
        return Guest(
            "over", f"its container was started again {counted(restarts, 'time')}", restarts=restarts
        )
    if "running" in (container.get("state") or {}):
        return Guest("healthy" if container.get("ready") else "running")
    return _waiting(status, container)


def _waiting(status: Mapping[str, Any], container: Mapping[str, Any]) -> Guest:
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
    if reason in PULL:
        return Guest(
            "over" if reason in HOPELESS else "waiting",
            f'the image "{container.get("image")}" cannot be pulled: {message or reason}',
            "check its name and version, and whether the nodes may read that registry without a pull secret",
        )
    if reason in NOT_STARTED:
        return Guest("waiting", f"its container cannot be started: {message or reason}")
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return Guest(
                "waiting",
                f"no node takes the Pod: {condition.get('message', condition.get('reason'))}",
                "lower rehearsal.memory or rehearsal.cpu, or give the cluster more room",
            )
    return Guest("waiting", "its container is starting")


def _over(pod: Mapping[str, Any], status: Mapping[str, Any], container: Mapping[str, Any]) -> Guest | None:
    if status.get("reason") == "Evicted":
        return Guest(
            "over",
            f"its Pod was evicted: {status.get('message', 'no reason was given')}",
            "give the node more room, and run it again",
        )
    ended = (container.get("state") or {}).get("terminated")
    if ended:
        if ended.get("reason") == "OOMKilled":
            return Guest("over", "it took more than its memory and was killed", "raise rehearsal.memory")
        return Guest("over", f"its container ended with exit code {ended.get('exitCode')}")
    if status.get("phase") == "Failed":
        said = f"{status.get('reason') or ''} {status.get('message') or ''}".strip()
        return Guest("over", f"its Pod failed: {said or 'no reason was given'}")
    if pod.get("metadata", {}).get("deletionTimestamp"):
        return Guest(
            "over", "its Pod was deleted by somebody else, or its node is being drained", "run it again"
        )
    return None


def _failed(job: Mapping[str, Any]) -> bool:
    return any(
        condition.get("type") == "Failed" and condition.get("status") == "True"
        for condition in (job.get("status") or {}).get("conditions") or []
    )
