"""Plan and outcome of the restore of a bucket, as text and as documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dr_toolkit.buckets import history_restore
from dr_toolkit.buckets.restore import Plan
from dr_toolkit.jobs.bucket_restore import Done, Prepared
from dr_toolkit.reporting import documents
from dr_toolkit.reporting.text import duration, size
from dr_toolkit.words import counted

_NAMED = 5


def replaces(prepared: Prepared) -> bool:
    """Whether an object of the target is overwritten or deleted."""
    if prepared.history is not None:
        return prepared.history.on_top > 0
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
    if prepared.history is not None:
        return "\n".join([*lines, *_history(prepared), ""])
    if found is None:
        lines.append(f"  {size(prepared.bytes)} as files, to {prepared.place}")
        lines += _torn(prepared.torn)
        return "\n".join([*lines, ""])
    lines.append(f"  to {prepared.place}: {size(found.bytes)} to copy")
    lines.append(
        f"  {counted(found.new, 'object is', 'objects are')} new there, {counted(found.replace, 'is', 'are')} replaced, {counted(found.same, 'is', 'are')} the same and {'stays' if found.same == 1 else 'stay'}"
    )
    if found.extra:
        fate = ("is", "are") if prepared.request.exact else ("stays", "stay")
        it = "it" if found.extra == 1 else "them"
        deleted = "DELETED (--exact)" if prepared.request.exact else f"(--exact would delete {it})"
        one, many = (f"object is only there and {fate[0]}", f"objects are only there and {fate[1]}")
        lines.append(f"  {counted(found.extra, one, many)} {deleted}")
    lines += _torn(found.torn)
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
        "not_restorable": list(prepared.plan.torn if prepared.plan else prepared.torn),
        "versions": _versions(prepared.history),
        "warnings": list(prepared.doubts),
    }


def done(item: Done) -> str:
    """What a restore did."""
    took = duration(item.seconds["write"])
    if item.history is not None:
        made = item.history
        return (
            f"{item.prepared.place}: {counted(made.versions, 'version')} ({size(made.bytes)}) and {counted(made.markers, 'delete marker')} written, "
            f"{made.same} keys were the same; the ids are in {item.prepared.request.history}; it took {took}\n"
        )
    if item.result is None:
        return (
            f"{item.prepared.place} has {counted(item.files, 'object as a file', 'objects as files')}, with metadata in %objects.jsonl; it took {took}\n"
            + "".join(f"{line}\n" for line in _torn(item.prepared.torn))
        )
    found = item.result
    removed = f", {found.extra} deleted" if item.prepared.request.exact else ""
    lines = [
        f"{item.prepared.place}: {counted(found.new + found.replace, 'object')} copied ({size(found.bytes)}), {counted(found.same, 'was', 'were')} the same{removed}; it took {took}",
        *_torn(found.torn),
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
        "not_restorable": list(item.result.torn if item.result else item.prepared.torn),
        "versions": _versions(item.history),
        "report": item.prepared.request.history,
        "exact": item.prepared.request.exact,
        "seconds": {name: round(value, 3) for name, value in item.seconds.items()},
        "warnings": list(item.prepared.doubts),
    }


def _history(prepared: Prepared) -> list[str]:
    found = prepared.history
    if found is None:
        return []
    lines = [
        f"  to {prepared.place}: {counted(found.versions, 'version')} ({size(found.bytes)}) and {counted(found.markers, 'delete marker')} to write, the oldest first",
        f"  {found.new} keys are new there, {found.goes_on} go on where a restore stopped, {found.same} are the same",
        f"  ids and times will be the target's; {prepared.request.history} will list them beside the snapshot's",
    ]
    if found.on_top:
        lines.append(
            f"  {found.on_top} keys have another history there: this one is written over it, and all of it stays below"
        )
    if found.torn:
        named = ", ".join(f'"{key}"' for key in found.torn[:_NAMED])
        lines.append(
            f"  WARNING: {counted(len(found.torn), 'version could not be read whole and is', 'versions could not be read whole and are')} not restored: {named}"
        )
    return lines


def _versions(found: history_restore.Plan | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "keys_new": found.new,
        "keys_continued": found.goes_on,
        "keys_same": found.same,
        "keys_on_top": found.on_top,
        "versions": found.versions,
        "delete_markers": found.markers,
        "not_restorable": found.torn,
        "bytes": found.bytes,
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


def _torn(keys: Sequence[str]) -> list[str]:
    if not keys:
        return []
    named = ", ".join(f'"{key}"' for key in keys[:_NAMED])
    return [
        f"  WARNING: {counted(len(keys), 'object changed while it was read and is', 'objects changed while they were read and are')} not restored: {named}"
    ]
