"""The gate's answer, before and after an upgrade: as text and as documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dr_toolkit import clock
from dr_toolkit.jobs import post_upgrade, pre_upgrade
from dr_toolkit.jobs.gate import Check, Verdict
from dr_toolkit.jobs.gate_record import Stored
from dr_toolkit.reporting import documents, rehearsal_text
from dr_toolkit.reporting.text import duration
from dr_toolkit.repository.repository import Point
from dr_toolkit.repository.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Back:
    """The way back of one component.

    Attributes:
        component: its name.
        snapshot: to restore.
        time: of it: what is written later is lost.
        command: to run.
        seconds: that its proven restore took; None when there is none.
    """

    component: str
    snapshot: str
    time: str
    command: str
    seconds: float | None


def way_back(snapshots: Mapping[str, Snapshot], proven: Mapping[str, float]) -> list[Back]:
    """How to get every component back to where it was."""
    return [
        Back(name, s.id, s.header.time, f"drctl restore {name} --snapshot {s.id}", proven.get(name))
        for name, s in snapshots.items()
    ]


def everything(point: Point) -> str:
    """The command that brings a whole point back."""
    return f"drctl restore --point {point.id}"


def before(report: pre_upgrade.Report, *, planned: bool = False) -> str:
    """What ``drctl pre-upgrade`` answers."""
    parts = [_head(report.verdict, "GO", "NO-GO", planned=planned), _reasons(report.verdict)]
    if planned:
        kept = ", ".join(report.snapshots) or "none"
        parts.append(
            f"a run would take a snapshot of every component (taken over: {kept}), restore each into scratch, and pin the point\n"
        )
        return "".join([*parts, _looked(report.checks), "nothing was changed\n"])
    parts.append(_looked(report.checks))
    if report.rehearsal is not None:
        parts.append(f"rehearsal of the upgrade:\n{rehearsal_text.text(report.rehearsal)}")
    if report.point:
        pinned = f", pinned until {clock.rfc3339(report.pin)}" if report.pin else ", not pinned"
        parts.append(f'point "{report.point.name}" ({report.point.id}){pinned}\n')
    parts.append(_back(way_back(report.snapshots, report.proven)))
    if report.point:
        parts.append(f"  or everything: {everything(report.point)}\n")
    if report.verdict.go and report.point:
        parts.append(f"next: upgrade, then: drctl post-upgrade --point {report.point.id}\n")
    return "".join(parts)


def before_document(report: pre_upgrade.Report, *, planned: bool = False) -> dict[str, Any]:
    """The same for scripts; ``go`` is null when only a plan was made."""
    point = None if report.point is None else documents.point(report.point)
    return {
        "gate": {
            "go": None if planned else report.verdict.go,
            "time": clock.rfc3339(report.moment),
            **_question(report.request.question.release, report.request.question.to_version),
            **_verdict(report.verdict, report.checks),
            "point": point,
            "way_back_everything": None if report.point is None else everything(report.point),
            "pinned_until": None if report.pin is None else clock.rfc3339(report.pin),
            "snapshots": [documents.snapshot(s) for s in report.snapshots.values()],
            "way_back": _back_rows(way_back(report.snapshots, report.proven)),
            "rehearsal": None if report.rehearsal is None else rehearsal_text.document(report.rehearsal),
            "seconds": dict(report.seconds),
        }
    }


def kept(stored: Stored) -> str:
    """What ``drctl report gate`` answers."""
    gone = "".join(f"  GONE: the snapshot of {name} is not there any more\n" for name in stored.gone)
    return f"said by the gate of {clock.rfc3339(stored.report.moment)}:\n{before(stored.report)}{gone}"


def kept_document(stored: Stored) -> dict[str, Any]:
    """The same for scripts."""
    return {**before_document(stored.report), "gone": list(stored.gone)}


def after(report: post_upgrade.Report) -> str:
    """What ``drctl post-upgrade`` answers."""
    parts = [
        _head(report.verdict, "OK", "NOT OK", planned=False),
        _reasons(report.verdict),
        _looked(report.checks),
        f'compared with point "{report.point.name}" of {report.point.time}\n',
    ]
    if not report.verdict.go:
        parts.append(_back(way_back(report.before, report.proven)))
        parts.append(f"  or everything: {everything(report.point)}\n")
    return "".join(parts)


def after_document(report: post_upgrade.Report) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "after": {
            "ok": report.verdict.go,
            "time": clock.rfc3339(report.moment),
            **_question(report.request.question.release, report.request.question.to_version),
            **_verdict(report.verdict, report.checks),
            "point": documents.point(report.point),
            "way_back_everything": everything(report.point),
            "snapshots": [documents.snapshot(s) for s in report.after.values()],
            "way_back": _back_rows(way_back(report.before, report.proven)),
        }
    }


def place(check: Check) -> str:
    """Which check, and of what: ``proof of console-db``."""
    return f"{check.name} of {check.component}" if check.component else check.name


def _head(verdict: Verdict, good: str, bad: str, *, planned: bool) -> str:
    if planned:
        return "so far nothing speaks against it\n" if verdict.go else f"{bad}, as it stands\n"
    note = f", with {len(verdict.accepted)} accepted" if verdict.accepted else ""
    return f"{good if verdict.go else bad}{note if verdict.go else ''}\n"


def _reasons(verdict: Verdict) -> str:
    lines = []
    for check in verdict.reasons:
        lines.append(f"  {_word(check)}: {place(check)}: {check.text}")
        if check.hint:
            lines.append(f"    next: {check.hint}")
    lines += [f"  accepted: {place(check)}: {check.text}" for check in verdict.accepted]
    return "".join(f"{line}\n" for line in lines)


def _word(check: Check) -> str:
    return "FAILED" if check.state == "failed" else "NOT CHECKED"


def _looked(checks: Sequence[Check]) -> str:
    fine = [check for check in checks if check.state == "ok"]
    return "".join(f"  ok: {place(check)}: {check.text}\n" for check in fine)


def _back(rows: Sequence[Back]) -> str:
    if not rows:
        return ""
    lines = ["the way back (workloads that write are scaled down first):"]
    for row in rows:
        took = "never proven" if row.seconds is None else f"its proven restore took {duration(row.seconds)}"
        lines += [f"  {row.command}", f"    lost: what was written after {row.time}; {took}"]
    return "\n".join([*lines, ""])


def _back_rows(rows: Sequence[Back]) -> list[dict[str, Any]]:
    return [
        {
            "component": r.component,
            "snapshot": r.snapshot,
            "command": r.command,
            "lost_after": r.time,
            "rto_measured_seconds": r.seconds,
        }
        for r in rows
    ]


def _question(release: str | None, to_version: str | None) -> dict[str, Any]:
    return {"release": release, "to_version": to_version}


def _verdict(verdict: Verdict, checks: Sequence[Check]) -> dict[str, Any]:
    return {
        "reasons": [_check(c) for c in verdict.reasons],
        "accepted": [_check(c) for c in verdict.accepted],
        "checks": [_check(c) for c in checks],
    }


def _check(check: Check) -> dict[str, Any]:
    return {
        "check": check.name,
        "component": check.component,
        "state": check.state,
        "text": check.text,
        "hint": check.hint,
    }
