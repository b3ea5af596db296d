"""A rehearsed upgrade: as text, as documents, and as a part of the gate's page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from dr_toolkit.reporting import documents
from dr_toolkit.reporting.text import duration, verification

if TYPE_CHECKING:
    from dr_toolkit.jobs.rehearsal import Alone, Outcome, Planned

_STAGES = {
    "start": "it ran",
    "migrations": "its last migration was seen",
    "health": "it was healthy",
    "all": "all was over",
}
_SHOWN = 20
NOT_PROVED = (
    "the migrations of Console's SQL database (its settings are left out; its snapshot is proven by restore alone)",
    "Kafka, single sign-on, certificates, metrics, the license, plugins: what a closed namespace has not",
    "Gateway, and the charts' other workloads: Console's own container is started",
)
"""What no rehearsal shows, so that nobody takes it for more than it is."""


def alone(done: Alone) -> str:
    """``drctl rehearse``."""
    if done.outcome is None:
        return verification([done.proof]) + "not rehearsed, because the snapshot could not be proven\n"
    head = "PASSED: the upgrade was tried" if done.passed else "FAILED: the upgrade does not work"
    return f"{head}\n{text(done.outcome)}"


def alone_document(done: Alone) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "proof": documents.verification(done.proof),
        "rehearsal": None if done.outcome is None else document(done.outcome),
    }


def plan(planned: Planned) -> str:
    """``drctl rehearse --dry-run``: names of variables, and no value."""
    shape, given = planned.shape, planned.given
    lines = [
        f"would restore snapshot {planned.snapshot.id} of {planned.target.component} in a scratch namespace, and start",
        f"  {planned.image} as {shape.workload} ({shape.source})",
        f"  with {', '.join(sorted(given.environment))}",
        *(f"  not as live: {note}" for note in given.notes),
        "nothing was changed",
    ]
    return "".join(f"{line}\n" for line in lines)


def plan_document(planned: Planned) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "plan": {
            "application": planned.target.name,
            "component": planned.target.component,
            "snapshot": planned.snapshot.id,
            "image": planned.image,
            "workload": planned.shape.workload,
            "source": planned.shape.source,
            "environment": sorted(planned.given.environment),
            "not_as_live": list(planned.given.notes),
        }
    }


def text(outcome: Outcome) -> str:
    """What was tried, how long it took, what speaks against it, and how it differed from the live one."""
    lines = [
        f"  {outcome.image} as {outcome.workload} ({outcome.source}), on snapshot {outcome.snapshot} of {outcome.component}",
    ]
    for reason in outcome.reasons:
        lines.append(f"  FAILED: {reason.text}")
        if reason.hint:
            lines.append(f"    next: {reason.hint}")
    lines += [f"  {outcome.migrated}", f"  {times(outcome)}"]
    if outcome.expected:
        lines.append(f"  lines with the level ERROR that a closed namespace explains: {outcome.expected}")
    if not outcome.passed and outcome.lines:
        lines.append(f"  the end of its log ({len(outcome.lines)} lines in the JSON answer):")
        lines += [f"    {line}" for line in outcome.lines[-_SHOWN:]]
    lines += [f"  not as live: {note}" for note in outcome.notes]
    lines += [f"  not proved: {what}" for what in NOT_PROVED]
    if not outcome.signed:
        lines.append("  the evidence could not be stored")
    return "".join(f"{line}\n" for line in lines)


def times(outcome: Outcome) -> str:
    """When what was reached, counted from its start; the whole with the restore."""
    parts = [
        f"{word} after {duration(outcome.seconds[stage])}"
        for stage, word in _STAGES.items()
        if stage in outcome.seconds
    ]
    return ", ".join(parts)


def document(outcome: Outcome) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "passed": outcome.passed,
        "application": outcome.application,
        "component": outcome.component,
        "snapshot": outcome.snapshot,
        "image": outcome.image,
        "workload": outcome.workload,
        "source": outcome.source,
        "reasons": [{"text": one.text, "hint": one.hint} for one in outcome.reasons],
        "migrations": {
            "text": outcome.migrated,
            "before": [dict(one) for one in outcome.before],
            "after": [dict(one) for one in outcome.after],
        },
        "seconds": dict(outcome.seconds),
        "errors": list(outcome.errors),
        "expected_errors": outcome.expected,
        "not_as_live": list(outcome.notes),
        "not_proved": list(NOT_PROVED),
        "log": list(outcome.lines),
        "evidence": outcome.signed,
    }


def page(outcome: Outcome) -> str:
    """A section of the gate's HTML page."""
    state = ("ok", "passed") if outcome.passed else ("failed", "failed")
    rows = [
        ("result", f'<span class="{state[0]}">{state[1]}</span>'),
        ("image", f"<code>{escape(outcome.image)}</code>"),
        ("workload", escape(f"{outcome.workload}, {outcome.source}")),
        ("restored", escape(f"snapshot {outcome.snapshot} of {outcome.component}")),
        ("migrations", escape(outcome.migrated)),
        ("times", escape(times(outcome))),
        ("errors expected", str(outcome.expected)),
        *(("not as live", escape(note)) for note in outcome.notes),
        *(("not proved", escape(what)) for what in NOT_PROVED),
    ]
    cells = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows)
    log = escape("\n".join(outcome.lines))
    return (
        f"<h2>Rehearsal of the upgrade</h2><table>{cells}</table>"
        f"<details><summary>The end of its log</summary><pre>{log}</pre></details>"
    )
