"""Plan and outcome of the restore of Helm releases, as text and as documents."""

from __future__ import annotations

from typing import Any

from dr_toolkit.cluster.release_diff import Difference
from dr_toolkit.cluster.release_reading import Stored
from dr_toolkit.jobs.helm_restore import Done, Prepared
from dr_toolkit.reporting import documents
from dr_toolkit.reporting.text import duration, table
from dr_toolkit.words import counted


def replaces(prepared: Prepared) -> bool:
    """Nothing live is touched."""
    del prepared
    return False


def plan(prepared: Prepared) -> str:
    """Which releases, and where to."""
    header = prepared.snapshot.header
    doing = "compare" if prepared.request.diff else "write"
    lines = [
        f"{doing} {header.component} of snapshot {header.id}",
        f"  taken {header.time}, {duration(max(0.0, prepared.seconds_lost))} ago: later upgrades are not in it",
        *(f"  WARNING: {doubt}" for doubt in prepared.doubts),
        f"  {'with what is live' if prepared.request.diff else f'as files, to {prepared.place}; nothing is installed'}",
    ]
    rows = [
        ["  " + f"{one.namespace}/{one.release}", f"revision {one.revision}", one.status, one.chart]
        for one in prepared.releases
    ]
    return "\n".join([*lines, ""]) + table(rows)


def plan_document(prepared: Prepared) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "component": prepared.request.component,
        "snapshot": documents.snapshot(prepared.snapshot),
        "to": prepared.place or None,
        "seconds_lost": round(prepared.seconds_lost, 1),
        "replaces": False,
        "releases": [_release(one) for one in prepared.releases],
        "warnings": list(prepared.doubts),
    }


def done(item: Done) -> str:
    """The lines that install, or the differences."""
    if item.prepared.request.diff:
        return "".join(_difference(one) for one in item.differences)
    lines = [
        f"{counted(len(item.ways), 'release is', 'releases are')} in {item.prepared.place}; nothing was installed",
        "",
    ]
    for one, place, way in item.ways:
        lines += [f"{one.namespace}/{one.release}: sh {place}/restore.sh", f"  {way.line}"]
        if way.source == "unknown":
            lines.append("  name the chart in CHART: Helm keeps neither its repository nor its subcharts")
    lines += ["", "first the Secrets: drctl restore secrets; then the databases; then these"]
    return "\n".join([*lines, ""])


def done_document(item: Done) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "component": item.prepared.request.component,
        "snapshot": documents.snapshot(item.prepared.snapshot),
        "to": item.prepared.place or None,
        "releases": [
            {**_release(one), "directory": place, "command": way.line, "chart_from": way.source}
            for one, place, way in item.ways
        ],
        "differences": [_difference_document(one) for one in item.differences],
        "seconds": {name: round(value, 3) for name, value in item.seconds.items()},
        "warnings": list(item.prepared.doubts),
    }


def _release(one: Stored) -> dict[str, Any]:
    return {
        "namespace": one.namespace,
        "release": one.release,
        "revision": one.revision,
        "status": one.status,
        "chart": one.chart,
        "storage": one.driver,
    }


def _difference(one: Difference) -> str:
    name = f"{one.namespace}/{one.release}"
    if one.absent:
        return f"{name}: ABSENT: {one.absent}\n"
    if one.same:
        return f"{name}: the same\n"
    lines = [f"{name}: different (- snapshot, + live)"]
    if one.chart:
        lines += [f"  - chart {one.chart[0]}", f"  + chart {one.chart[1]}"]
    for key, before, now in one.images:
        lines += [f"  - image {key}: {before}", f"  + image {key}: {now}"]
    lines += [f"  {line}" for line in (*one.objects, *one.values)]
    return "\n".join([*lines, ""])


def _difference_document(one: Difference) -> dict[str, Any]:
    return {
        "namespace": one.namespace,
        "release": one.release,
        "same": one.same,
        "absent": one.absent or None,
        "chart": {"snapshot": one.chart[0], "live": one.chart[1]} if one.chart else None,
        "values": list(one.values),
        "images": [{"container": key, "snapshot": before, "live": now} for key, before, now in one.images],
        "objects": list(one.objects),
    }
