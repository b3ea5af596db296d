"""Results as JSON documents: the contract of ``--output json`` (docs/cli.md). Keys in snake_case; additions only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dr_toolkit import errors
from dr_toolkit.jobs import inspect
from dr_toolkit.jobs.backup import Outcome, Planned
from dr_toolkit.jobs.inspect import Change, Details, Inventory
from dr_toolkit.jobs.verify import Result
from dr_toolkit.repository.entries import EntryInfo
from dr_toolkit.repository.repository import Evidence, Point
from dr_toolkit.repository.snapshot import Snapshot


def evidence(item: Evidence) -> dict[str, Any]:
    """One result of a verification."""
    result = item.result
    return {
        "run": item.run,
        "level": result.get("level"),
        "time": item.time,
        "result": result.get("result"),
        "seconds": result.get("seconds"),
    }


def snapshot(found: Snapshot, proofs: Sequence[Evidence] = ()) -> dict[str, Any]:
    """A snapshot, as everywhere."""
    header = found.header
    return {
        "id": header.id,
        "component": header.component,
        "kind": header.kind,
        "time": header.time,
        "parent": header.parent,
        "status": header.status,
        "damaged_by": found.damaged_by,
        "lsn": inspect.lsn_of(found),
        **_method(header.source),
        "bytes_source": header.bytes_source,
        "bytes_new": header.bytes_new,
        "bytes_stored": header.bytes_stored,
        "entries": header.entry_count,
        "warnings": list(header.warnings),
        "evidence": [evidence(item) for item in proofs],
        "head": found.digest_text,
    }


def _method(source: Mapping[str, Any]) -> dict[str, Any]:
    """How a base backup was read, and why whole."""
    base = source.get("base")
    if not isinstance(base, dict) or "method" not in base:
        return {}
    return {"method": base["method"], "method_reason": base.get("reason"), "audit": base.get("audit")}


def point(item: Point) -> dict[str, Any]:
    """A recovery point."""
    rows = [{"component": c, "id": i, "head": d} for c, i, d in item.snapshots]
    return {"id": item.id, "name": item.name, "time": item.time, "snapshots": rows}


def entry(info: EntryInfo) -> dict[str, Any]:
    """One entry of a snapshot."""
    return {"path": info.path, "kind": info.kind, "size": info.size, **dict(info.meta)}


def change(item: Change) -> dict[str, Any]:
    """One difference to the parent."""
    return {"path": item.path, "change": item.change, "size": item.size, "size_before": item.size_before}


def problems(stock: Inventory) -> list[dict[str, Any]]:
    """What is damaged or missing."""
    damaged = [{"problem": "damaged", "on": e.on, "message": e.message} for e in stock.damaged]
    return (
        damaged
        + [
            {"problem": f.problem, "on": f"{f.component}/{f.snapshot}", "message": f.text}
            for f in stock.missing
        ]
        + [
            {"problem": "damaged", "on": None, "message": text}
            for text in inspect.found_damaged(stock.snapshots)
        ]
    )


def inventory(stock: Inventory) -> dict[str, Any]:
    """What ``drctl snapshots`` prints."""
    rows = [snapshot(s, stock.evidence.get((s.header.component, s.id), ())) for s in stock.snapshots]
    return {"snapshots": rows, "points": [point(p) for p in stock.points], "problems": problems(stock)}


def failure(error: errors.DrctlError, component: str | None = None) -> dict[str, Any]:
    """An error, as in ``{"error": …}`` and in lists of failures."""
    row: dict[str, Any] = {
        "code": error.code,
        "message": error.message,
        "on": error.on,
        "hint": error.hint,
        "retry": error.retry,
        "unaffected": error.unaffected,
    }
    return row if component is None else {"component": component, **row}


def planned(item: Planned) -> dict[str, Any]:
    """What a backup would do."""
    return {
        "component": item.component,
        "source": item.source,
        "bytes": item.bytes,
        "parent": item.parent,
        "programs": item.programs,
        "foreseen": list(item.foreseen),
    }


def backup(outcome: Outcome) -> dict[str, Any]:
    """What ``drctl backup`` prints."""
    rows = [{**snapshot(s), "seconds": outcome.seconds.get(s.id)} for s in outcome.snapshots]
    failures = [failure(error, component) for component, error in outcome.failures]
    return {"snapshots": rows, "point": point(outcome.point) if outcome.point else None, "failures": failures}


def details(item: Details) -> dict[str, Any]:
    """What ``drctl show SNAPSHOT`` prints."""
    changes = None if item.changes is None else [change(c) for c in item.changes if c.change != "same"]
    return {
        "snapshot": snapshot(item.snapshot, item.evidence),
        "source": dict(item.snapshot.header.source),
        "entries": [entry(info) for info in item.entries],
        "changes": changes,
    }


def verification(result: Result) -> dict[str, Any]:
    """One result of ``drctl verify``."""
    return {
        **result.row(),
        "failures": list(result.failures),
        "notes": list(result.notes),
        "evidence_signed": result.signed,
    }
