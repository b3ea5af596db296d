"""``drctl restore --undo`` and ``--cleanup``: plans and outcomes, as text and as documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dr_toolkit import errors
from dr_toolkit.jobs.way_back import Aside, Outcome, Step
from dr_toolkit.reporting import documents
from dr_toolkit.reporting.text import size

_SHOWN_CLIENTS = 10


def undo_plan(steps: Sequence[Step]) -> str:
    """Which database gets its name back, and what becomes of the present one."""
    lines = ["go back to the databases from before the last restore"]
    for step in steps:
        if step.back is None or step.past is None:
            lines.append(f"  LEFT AS IT IS {step.component}: {step.left}")
            lines += [f"    instead: {step.hint}"] if step.hint else []
            continue
        back = step.back
        lines.append(f'  {step.component}: "{back.name}" ({_size(back)}) gets the name "{back.live}" again')
        lines.append(f"    it was replaced {back.moment} with snapshot {back.snapshot}")
        lines.append(
            "    the present one is kept; what was written to it since then is in it alone"
            if step.past.there
            else "    there is no database of that name at present"
        )
        lines += [
            f"    session to be ended: {c.application or c.kind} ({c.user}, {c.address or 'local'}, pid {c.pid})"
            for c in step.past.clients[:_SHOWN_CLIENTS]
        ]
    return "\n".join([*lines, ""])


def undo_plan_document(steps: Sequence[Step]) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "steps": [
            {
                "component": step.component,
                "live": step.past.live if step.past else None,
                "back_to": step.back.name if step.back else None,
                "replaced_at": step.back.moment if step.back else None,
                "replaced_with": step.back.snapshot if step.back else None,
                "sessions": len(step.past.clients) if step.past else 0,
                "left_out": step.left or None,
                "hint": step.hint,
            }
            for step in steps
        ]
    }


def undone(outcome: Outcome) -> str:
    """What was done of each component, and how to go on."""
    lines = []
    for step in outcome.steps:
        if report := outcome.done.get(step.component):
            lines.append(f'"{report.live}" is again the database from before the restore')
            lines.append(f"  the name was unavailable for {report.unavailable_seconds:.3f} s")
            lines += [f'  the restored one is kept as "{report.old}"'] if report.old else []
        elif step.left:
            lines.append(f"LEFT AS IT IS: {step.component}: {step.left}")
        elif outcome.failed and outcome.failed[0] == step.component:
            lines += failure(step.component, outcome.failed[1])
        else:
            lines.append(f"NOT BEGUN: {step.component}")
    if outcome.failed:
        lines.append("to go on after that: the same command again")
    else:
        lines.append("next: restart what uses the databases; drop what is kept with: drctl restore --cleanup")
    return "\n".join([*lines, ""])


def undone_document(outcome: Outcome) -> dict[str, Any]:
    """The same for scripts."""
    failed = documents.failure(outcome.failed[1], outcome.failed[0]) if outcome.failed else None
    return {
        "components": {
            name: {
                "database": report.live,
                "kept": report.old,
                "sessions_ended": report.ended,
                "unavailable_seconds": report.unavailable_seconds,
            }
            for name, report in outcome.done.items()
        },
        "left_out": {s.component: s.left for s in outcome.steps if s.left},
        "failed": failed,
    }


def asides(found: Sequence[Aside]) -> str:
    """Every kept database: what it is, how large, who uses it."""
    lines = ["databases that restores put aside, oldest first:"]
    for one in found:
        kept = one.kept
        what = (
            f'what "{kept.live}" was until {kept.moment}'
            if kept.why == "replaced"
            else f"restored from snapshot {kept.snapshot}, undone {kept.moment}"
        )
        lines.append(f'  "{kept.name}" ({_size(kept)}): {what}')
        lines += [f"    sessions open in it: {kept.sessions}"] if kept.sessions else []
        if not one.live_there:
            lines.append(f'    NOT TO BE DROPPED: "{kept.live}" does not exist, this may be the last copy')
    return "\n".join([*lines, ""])


def aside_document(one: Aside) -> dict[str, Any]:
    """One of them for scripts."""
    kept = one.kept
    return {
        "component": one.component,
        "database": kept.name,
        "live": kept.live,
        "why": kept.why,
        "time": kept.moment,
        "snapshot": kept.snapshot,
        "bytes": kept.bytes,
        "sessions": kept.sessions,
        "live_exists": one.live_there,
    }


def dropped(
    names: Sequence[str], left: Sequence[str], failed: Sequence[tuple[str, errors.DrctlError]]
) -> str:
    """What was dropped and what was not."""
    lines = [f'dropped: "{name}"' for name in names]
    lines += [f'left: "{name}"' for name in left]
    for name, error in failed:
        lines += failure(name, error)
    return "\n".join([*lines, ""])


def failure(name: str, error: errors.DrctlError) -> list[str]:
    """A failed step: what, what is unaffected, what to do."""
    extra = (("unaffected", error.unaffected), ("next", error.hint))
    return [f"FAILED: {name}: {error.message}", *(f"  {label}: {value}" for label, value in extra if value)]


def _size(kept: Any) -> str:
    return "size unknown" if kept.bytes is None else size(kept.bytes)
