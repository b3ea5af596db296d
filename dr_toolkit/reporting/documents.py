"""Results as JSON documents: the contract of ``--output json`` (docs/cli.md). Keys in snake_case; additions only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dr_toolkit import errors
from dr_toolkit.jobs.inspect import Change, Inventory
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
        "bytes_source": header.bytes_source,
        "bytes_new": header.bytes_new,
        "bytes_stored": header.bytes_stored,
        "entries": header.entry_count,
        "warnings": list(header.warnings),
        "evidence": [evidence(item) for item in proofs],
        "head": found.digest_text,
    }


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
    return damaged + [
        {"problem": f.problem, "on": f"{f.component}/{f.snapshot}", "message": f.text} for f in stock.missing
    ]


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


def facts(source: Mapping[str, Any]) -> dict[str, Any]:
    """The source's facts of a snapshot."""
    return dict(source)
