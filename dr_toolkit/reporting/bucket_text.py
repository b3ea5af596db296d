"""Plan and outcome of the restore of a bucket, as text and as documents."""

from __future__ import annotations

from typing import Any

from dr_toolkit.buckets.restore import Plan
from dr_toolkit.jobs.bucket_restore import Done, Prepared
from dr_toolkit.reporting import documents
from dr_toolkit.reporting.text import duration, size

_NAMED = 5


def replaces(prepared: Prepared) -> bool:
    """Whether an object of the target is overwritten or deleted."""
    plan = prepared.plan
    return plan is not None and (plan.replace > 0 or (prepared.request.exact and plan.extra > 0))


def plan(prepared: Prepared) -> str:
    """What will happen, what is replaced, and how much time of data is lost."""
    header, found = prepared.snapshot.header, prepared.plan
    lines = [
        f"restore {header.component} from snapshot {header.id}",
        f"  taken {header.time}, {duration(max(0.0, prepared.seconds_lost))} ago: what was written since then is not in it",
        *(f"  WARNING: {doubt}" for doubt in prepared.doubts),
    ]
    if found is None:
        lines.append(f"  {size(prepared.bytes)} as files, to {prepared.place}")
        return "\n".join([*lines, ""])
    lines.append(f"  to {prepared.place}: {size(found.bytes)} to copy")
    lines.append(
        f"  {found.new} objects are new there, {found.replace} are replaced, {found.same} are the same and stay"
    )
    if found.extra:
        fate = "are DELETED (--exact)" if prepared.request.exact else "stay (--exact would delete them)"
        lines.append(f"  {found.extra} objects are only there and {fate}")
    lines += _torn(found)
    return "\n".join([*lines, ""])


def plan_document(prepared: Prepared) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "component": prepared.request.component,
        "snapshot": documents.snapshot(prepared.snapshot),
        "to": prepared.place,
        "bytes": prepared.plan.bytes if prepared.plan else prepared.bytes,
        "seconds_lost": round(prepared.seconds_lost, 1),
        "replaces": replaces(prepared),
        "exact": prepared.request.exact,
        "objects": _counts(prepared.plan) if prepared.plan else None,
        "warnings": list(prepared.doubts),
    }


def done(item: Done) -> str:
    """What a restore did."""
    took = duration(item.seconds["write"])
    if item.result is None:
        return f"{item.prepared.place} has {item.files} objects as files, and their metadata in %objects.jsonl; it took {took}\n"
    found = item.result
    removed = f", {found.extra} deleted" if item.prepared.request.exact else ""
    lines = [
        f"{item.prepared.place}: {found.new + found.replace} objects copied ({size(found.bytes)}), {found.same} were the same{removed}; it took {took}",
        *_torn(found),
    ]
    return "\n".join([*lines, ""])


def done_document(item: Done) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "component": item.prepared.request.component,
        "snapshot": documents.snapshot(item.prepared.snapshot),
        "to": item.prepared.place,
        "files": item.files,
        "objects": _counts(item.result) if item.result else None,
        "exact": item.prepared.request.exact,
        "seconds": {name: round(value, 3) for name, value in item.seconds.items()},
        "warnings": list(item.prepared.doubts),
    }


def _counts(found: Plan) -> dict[str, Any]:
    return {
        "new": found.new,
        "replaced": found.replace,
        "same": found.same,
        "extra": found.extra,
        "not_restorable": found.torn,
        "bytes": found.bytes,
    }


def _torn(found: Plan) -> list[str]:
    if not found.torn:
        return []
    named = ", ".join(f'"{key}"' for key in found.torn[:_NAMED])
    return [
        f"  WARNING: {len(found.torn)} objects changed while they were read and are not restored: {named}"
    ]
