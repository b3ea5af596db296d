"""The difference between a release in a snapshot and the live one. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dr_toolkit.cluster import helm_storage, manifest, yaml_text
from dr_toolkit.cluster.redaction import Redactor


@dataclass(frozen=True, slots=True)
class Difference:
    """What is different; from the snapshot (``-``) to what is live (``+``).

    Attributes:
        namespace: of the release.
        release: its name.
        chart: chart, version and appVersion, as (before, now), where they differ.
        values: lines of a unified diff of the user's values, secrets hidden.
        images: (workload and container, before, now).
        objects: lines about objects that only one of the two has.
        absent: why there is nothing to compare with; empty otherwise.
    """

    namespace: str
    release: str
    chart: tuple[str, str] | None = None
    values: tuple[str, ...] = ()
    images: tuple[tuple[str, str, str], ...] = ()
    objects: tuple[str, ...] = ()
    absent: str = ""

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (self.chart or self.values or self.images or self.objects or self.absent)


def compare(
    kept: Mapping[str, Any],
    live: Mapping[str, Any],
    kept_images: Mapping[str, str],
    live_images: Mapping[str, str],
    redactor: Redactor,
) -> Difference:
    """Compare two revisions of a release, and what runs of them.

    Args:
        kept: the release in the snapshot.
        live: the live one.
        kept_images: by workload and container.
        live_images: the same, now.
        redactor: hides secrets; a changed one has another tag.
    """
    facts, now = helm_storage.facts(kept), helm_storage.facts(live)
    names = [_chart(one) for one in (facts, now)]
    documents = [yaml_text.dump(redactor.document(helm_storage.user_values(one))) for one in (kept, live)]
    lines = difflib.unified_diff(
        documents[0].splitlines(), documents[1].splitlines(), "snapshot", "live", lineterm="", n=2
    )
    objects = [
        {(n.kind, n.name) for n in manifest.names(str(one.get("manifest") or ""))} for one in (kept, live)
    ]
    return Difference(
        facts.namespace,
        facts.release,
        None if names[0] == names[1] else (names[0], names[1]),
        tuple(lines),
        tuple(
            (key, kept_images.get(key, "none"), live_images.get(key, "none"))
            for key in sorted({*kept_images, *live_images})
            if kept_images.get(key) != live_images.get(key)
        ),
        tuple(
            [f"- {kind} {name}" for kind, name in sorted(objects[0] - objects[1])]
            + [f"+ {kind} {name}" for kind, name in sorted(objects[1] - objects[0])]
        ),
    )


def _chart(facts: helm_storage.Facts) -> str:
    return f"{facts.chart} {facts.chart_version} (app {facts.app_version or 'unknown'})"


def images_of(state: Mapping[str, Any], release: str) -> dict[str, str]:
    """Images by workload and container, with the digest where one runs."""
    found = {}
    for workload in _workloads(state, release):
        for one in workload["images"]:
            running = sorted({_digest(text) for text in one["running"]} - {""})
            key = f"{workload['kind']}/{workload['name']}/{one['container']}"
            found[key] = " ".join([one["image"], *running])
    return found


def workloads_of(state: Mapping[str, Any], release: str) -> list[dict[str, Any]]:
    """The workloads of one release."""
    return list(_workloads(state, release))


def _workloads(state: Mapping[str, Any], release: str) -> Iterable[dict[str, Any]]:
    return (one for one in state.get("workloads") or [] if one.get("release") == release)


def _digest(text: str) -> str:
    _before, mark, digest = text.rpartition("@")
    return digest if mark else ""
