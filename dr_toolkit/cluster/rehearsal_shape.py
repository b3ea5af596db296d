"""What a rendered chart says of Console's container: the workload that an upgrade's rehearsal starts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dr_toolkit.cluster import manifest, platform

_WORKLOADS = frozenset({"Deployment", "StatefulSet"})
_PERIOD, _FAILURES = 10, 3
"""Kubernetes' defaults for a probe."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Console as a manifest has it.

    Attributes:
        namespace: where it is installed.
        workload: ``Deployment console``.
        source: where the manifest comes from, in words.
        pod: the ``spec`` of its pods.
        container: Console's own, of that.
        config_maps: texts by name and key, of the same manifest.
        secrets: keys by name, of the same manifest; no value is kept.
    """

    namespace: str
    workload: str
    source: str
    pod: Mapping[str, Any] = field(repr=False)
    container: Mapping[str, Any] = field(repr=False)
    config_maps: Mapping[str, Mapping[str, str]] = field(repr=False)
    secrets: Mapping[str, frozenset[str]]

    @property
    def image(self) -> str:
        """Its image as the manifest names it."""
        return str(self.container.get("image", ""))


def find(text: str, namespace: str, source: str) -> Shape | None:
    """Console in a manifest; None where it has none.

    Args:
        text: the manifest.
        namespace: that it is installed in.
        source: where it comes from, in words.
    """
    config_maps: dict[str, dict[str, str]] = {}
    secrets: dict[str, frozenset[str]] = {}
    found: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None
    for one in manifest.objects(text):
        kind, name = str(one.get("kind")), manifest.name_of(one).name
        if kind == "ConfigMap":
            config_maps[name] = {str(key): str(value) for key, value in (one.get("data") or {}).items()}
        elif kind == "Secret":
            secrets[name] = frozenset(
                str(key) for part in ("data", "stringData") for key in one.get(part) or {}
            )
        elif kind in _WORKLOADS and found is None:
            found = _console(one)
    if found is None:
        return None
    workload, container = found
    title = f"{workload.get('kind')} {manifest.name_of(workload).name}"
    pod = workload["spec"]["template"]["spec"]
    return Shape(namespace, title, source, pod, container, config_maps, secrets)


def _console(workload: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    try:
        known = platform.role_of(workload)
    except (KeyError, TypeError, AttributeError):
        return None
    return (workload, known[1]) if known is not None and known[0] == "console" else None


def upgraded(image: str, version: str) -> str:
    """The same image with a version as its tag; a digest belongs to the old one and goes."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}:{version}"


def budget(container: Mapping[str, Any]) -> float | None:
    """Seconds after which the chart's own probes end a container that is not up; None where none does."""
    startup, liveness = container.get("startupProbe"), container.get("livenessProbe")
    probe = startup or liveness
    if not probe:
        return None
    tries = int(probe.get("failureThreshold", _FAILURES)) * int(probe.get("periodSeconds", _PERIOD))
    return float(int(probe.get("initialDelaySeconds", 0)) + tries)


def resources(container: Mapping[str, Any], cpu: str | None, memory: str | None) -> tuple[str, str]:
    """Processor and memory that it is given: what was configured, else the chart's, else what Console's documents ask for."""
    wanted = container.get("resources") or {}
    requests, limits = wanted.get("requests") or {}, wanted.get("limits") or {}
    return (
        cpu or str(requests.get("cpu") or "1"),
        memory or str(limits.get("memory") or requests.get("memory") or "2Gi"),
    )
