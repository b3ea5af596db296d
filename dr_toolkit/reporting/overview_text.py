"""The first screen of an incident: at most 25 lines of 110 columns, readable at 3 a.m."""

from __future__ import annotations

from typing import Any

from dr_toolkit import clock
from dr_toolkit.jobs.overview import Choice, Overview, PointState
from dr_toolkit.reporting import documents
from dr_toolkit.reporting.text import duration, size, table
from dr_toolkit.words import counted

_COMPONENTS = 7
_POINTS = 3


def text(item: Overview) -> str:
    """What there is, what to take, and the commands."""
    rows = [["COMPONENT", "SNAPSHOT", "AGE", "SIZE", "RESTORE TAKES", "WHY THIS ONE"]]
    rows += [_choice(c) for c in item.choices[:_COMPONENTS]]
    parts = [table(rows)]
    if len(item.choices) > _COMPONENTS:
        parts.append(f"and {len(item.choices) - _COMPONENTS} more: drctl snapshots\n")
    if item.problems:
        parts.append(
            f"ATTENTION: {counted(item.problems, 'object is', 'objects are')} damaged or missing: drctl snapshots\n"
        )
    if item.points:
        points = [["RECOVERY POINT", "AGE", "OF", "STATE"]]
        points += [_point(p, best=p is item.best) for p in item.points[:_POINTS]]
        parts.append("\n" + table(points))
    return "".join([*parts, "\n", *_commands(item)])


def document(item: Overview) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "restorable": [
            {
                "component": c.component,
                "snapshot": documents.snapshot(c.snapshot) if c.snapshot else None,
                "why": c.why,
                "proven": c.proven,
                "age_seconds": c.age,
                "rto_measured_seconds": c.seconds,
                "others": c.others,
            }
            for c in item.choices
        ],
        "points": [
            {
                **documents.point(p.point),
                "whole": p.whole,
                "proven": p.proven,
                "pinned_until": clock.rfc3339(p.pinned) if p.pinned else None,
                "rto_measured_seconds": p.seconds,
                "recommended": p is item.best,
            }
            for p in item.points
        ],
        "problems": item.problems,
    }


def _choice(c: Choice) -> list[str]:
    if c.snapshot is None or c.age is None:
        return [c.component, "NONE", "", "", "", c.why]
    took = "unknown" if c.seconds is None else f"about {duration(c.seconds)}"
    return [
        c.component,
        _short(c.snapshot.id),
        duration(c.age),
        size(c.snapshot.header.bytes_source),
        took,
        _cut(c.why),
    ]


def _short(snapshot_id: str) -> str:
    """Enough of an id to name it: the time and the beginning of what is random."""
    return snapshot_id[:21]


def _cut(why: str) -> str:
    head, separator, snapshot_id = why.partition("proven: ")
    return f"{head}{separator}{_short(snapshot_id)}" if separator else why


def _point(p: PointState, *, best: bool) -> list[str]:
    state = "all proven" if p.proven else "not all proven" if p.whole else "INCOMPLETE"
    pinned = f", pinned until {p.pinned:%Y-%m-%d}" if p.pinned else ""
    return [
        p.point.name[:40],
        duration(p.age),
        str(len(p.point.snapshots)),
        f"{state}{pinned}{' <- take this' if best else ''}",
    ]


def _commands(item: Overview) -> list[str]:
    ready = next((c for c in item.choices if c.snapshot is not None), None)
    if ready is None or ready.snapshot is None:
        return [
            "there is nothing to restore: take a first snapshot with drctl backup, or look at another copy of the repository\n"
        ]
    lines = []
    if item.best is not None:
        name = item.best.point.id if _borne_twice(item) else item.best.point.name
        lines += [
            f"everything, plan only:     drctl restore --point {name} --dry-run",
            f"everything, really:        drctl restore --point {name}",
        ]
    one = f"drctl restore {ready.component} --snapshot {_short(ready.snapshot.id)}"
    lines += [
        f"one component, plan only:  {one} --dry-run",
        f"one component, really:     {one}",
        "nothing live is overwritten: a database goes beside the live one, is compared, and only then gets its name",
    ]
    return [f"{line}\n" for line in lines]


def _borne_twice(item: Overview) -> bool:
    names = [p.point.name for p in item.points]
    return item.best is not None and names.count(item.best.point.name) > 1
