"""A drill: its plan, what came of it, and the history, as text and as documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dr_toolkit.jobs.drill import Outcome, Past, Planned
from dr_toolkit.reporting import documents
from dr_toolkit.reporting import text as texts
from dr_toolkit.reporting.text import duration, size, table
from dr_toolkit.words import counted


def plan(item: Planned) -> str:
    """What would be restored, and how long it took before."""
    lines = [
        f"restore {item.name} into scratch: {counted(len(item.snapshots), 'component')}, within {duration(item.spread)} of each other"
    ]
    for found in item.snapshots:
        header = found.header
        took = item.seconds.get(header.component)
        known = "never proven" if took is None else f"its last proven restore took {duration(took)}"
        lines.append(f"  {header.component} {header.id} ({size(header.bytes_source)}): {known}")
    return "\n".join([*lines, ""])


def plan_document(item: Planned) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "name": item.name,
        "spread_seconds": item.spread,
        "snapshots": [documents.snapshot(s) for s in item.snapshots],
        "rto_measured_seconds": {
            s.header.component: item.seconds.get(s.header.component) for s in item.snapshots
        },
    }


def text(item: Outcome) -> str:
    """Each component's result, then the whole."""
    parts = [texts.verification(item.results)]
    for name, error in item.failed:
        parts.append(f"NOT RESTORED: {name}: {error.message}\n")
        parts += [f"  next: {error.hint}\n"] if error.hint else []
    word = "everything came back and is what it was" if item.passed else "NOT EVERYTHING CAME BACK"
    parts.append(f"{word}: {item.planned.name}, in {duration(item.seconds)}\n")
    return "".join(parts)


def document(item: Outcome) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "name": item.planned.name,
        "passed": item.passed,
        "seconds": round(item.seconds, 3),
        "spread_seconds": item.planned.spread,
        "results": [documents.verification(r) for r in item.results],
        "failures": [documents.failure(error, name) for name, error in item.failed],
    }


def history(items: Sequence[Past]) -> str:
    """A line for each drill, the newest last."""
    if not items:
        return "there was no drill yet; the first: drctl drill\n"
    rows = [["TIME", "POINT", "TOOK", "RESULT", "COMPONENTS"]]
    rows += [
        [
            item.time,
            item.name,
            duration(item.seconds),
            "all back" if item.passed else "FAILED",
            ", ".join(
                f"{name} {duration(took)}{'' if good else ' FAILED'}" for name, took, good in item.components
            ),
        ]
        for item in items
    ]
    return table(rows)


def history_document(items: Sequence[Past]) -> list[dict[str, Any]]:
    """The same for scripts."""
    return [
        {
            "time": item.time,
            "name": item.name,
            "passed": item.passed,
            "seconds": item.seconds,
            "expected": item.expected,
            "components": [
                {"component": name, "seconds": took, "result": "passed" if good else "failed"}
                for name, took, good in item.components
            ],
        }
        for item in items
    ]
