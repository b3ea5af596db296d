"""The report about Secrets that ``drctl restore`` gives, as text and as documents."""

from __future__ import annotations

from typing import Any

from dr_toolkit.cluster.secret_facts import Difference
from dr_toolkit.jobs.secrets_restore import Done, Prepared
from dr_toolkit.reporting import documents
from dr_toolkit.reporting.text import duration

_ORDER = ("missing", "type", "changed", "extra")


def replaces(prepared: Prepared) -> bool:
    """Nothing is ever written."""
    del prepared
    return False


def incomplete(item: Done) -> bool:
    """Whether a namespace could not be compared: the report is shown, and the command failed in part."""
    return bool(item.parts.failed)


def plan(prepared: Prepared) -> str:
    """Which namespaces are compared."""
    header = prepared.snapshot.header
    lines = [
        f"compare {header.component} of snapshot {header.id} with the live Secrets of {', '.join(prepared.namespaces)}",
        f"  taken {header.time}, {duration(max(0.0, prepared.seconds_lost))} ago; no Secret is written",
        *(f"  WARNING: {doubt}" for doubt in prepared.doubts),
    ]
    return "\n".join([*lines, ""])


def plan_document(prepared: Prepared) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "component": prepared.request.component,
        "snapshot": documents.snapshot(prepared.snapshot),
        "namespaces": list(prepared.namespaces),
        "seconds_lost": round(prepared.seconds_lost, 1),
        "replaces": False,
        "warnings": list(prepared.doubts),
    }


def done(item: Done) -> str:
    """What is missing, changed and extra, and where each comes from."""
    counts = {kind: sum(1 for one in item.differences if one.change == kind) for kind in _ORDER}
    lines = [
        f"{item.same} Secrets are the same, {counts['missing']} are missing, {counts['changed'] + counts['type']} changed, {counts['extra']} extra"
    ]
    lines += [f'NOT COMPARED: namespace "{name}": {error.message}' for name, error in item.parts.failed]
    for one in sorted(item.differences, key=lambda d: (_ORDER.index(d.change), d.namespace, d.name)):
        lines += _lines(item.prepared.snapshot.id, one)
    return "\n".join([*lines, ""])


def _lines(snapshot: str, one: Difference) -> list[str]:
    word = "CHANGED" if one.change == "type" else one.change.upper()
    lines = [f"{word} {one.namespace}/{one.name}, from {one.origin}"]
    if one.change == "missing":
        lines.append(f"  {one.origin.way_back}")
    if one.change == "type":
        lines.append(f"  type was {one.type_before} and is {one.type_now}")
    for what, keys in (("missing", one.missing), ("new", one.extra), ("changed", one.changed)):
        if keys:
            lines.append(f"  keys {what}: {', '.join(keys)}")
    if one.kept_values and one.change != "extra":
        lines.append(
            f"  its values are kept: drctl show {snapshot} {one.namespace}/values/{one.name} --reveal | kubectl apply -f -"
        )
    return lines


def done_document(item: Done) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "component": item.prepared.request.component,
        "snapshot": documents.snapshot(item.prepared.snapshot),
        "same": item.same,
        "differences": [
            {
                "namespace": one.namespace,
                "secret": one.name,
                "change": one.change,
                "from": {"by": one.origin.by, "name": one.origin.name or None},
                "way_back": one.origin.way_back,
                "keys_missing": list(one.missing),
                "keys_extra": list(one.extra),
                "keys_changed": list(one.changed),
                "type_before": one.type_before or None,
                "type_now": one.type_now or None,
                "values_kept": bool(one.kept_values),
            }
            for one in item.differences
        ],
        "failures": [documents.failure(error, name) for name, error in item.parts.failed],
        "seconds": {name: round(value, 3) for name, value in item.seconds.items()},
        "warnings": list(item.prepared.doubts),
    }
