"""The gate's report, kept as evidence, so that it can be read again: which checks there were, what was accepted, and what was said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from dr_toolkit import __version__, clock, errors, log
from dr_toolkit.jobs.gate import Check, Question, Verdict
from dr_toolkit.jobs.inspect import Inventory
from dr_toolkit.jobs.pre_upgrade import Report, Request
from dr_toolkit.repository.repository import Evidence, Repository

_log = log.get("jobs.gate")

LEVEL = "gate"
"""Of the evidence: a judgement, and no proof of its own."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A report that was kept.

    Attributes:
        report: as it was.
        time: when it was stored, RFC 3339.
        gone: components whose snapshot is not there any more: their way back is not, either.
    """

    report: Report
    time: str
    gone: tuple[str, ...] = ()


def store(repository: Repository, report: Report) -> bool:
    """Keep a report (role ``read``); it is tied to the first of its snapshots.

    Returns:
        Whether that was done: not without a snapshot, the key, or room.
    """
    if not report.snapshots:
        return False
    found = next(iter(report.snapshots.values()))
    row: dict[str, Any] = {
        "component": found.header.component,
        "snapshot": found.id,
        "digest": found.digest_text,
        "level": LEVEL,
        "result": "passed" if report.verdict.go else "failed",
        "seconds": round(sum(report.seconds.values()), 3),
        "checks": {LEVEL: log.masked_document(document(report))},
        "failures": [],
    }
    try:
        repository.add_evidence([row], clock.rfc3339(repository.store.now()), f"drctl {__version__}")
    except errors.DrctlError as error:  # whatever it was: the gate has judged, and its word must not be lost
        _log.warning("the report was not kept", reason=error.message)
        return False
    return True


def document(report: Report) -> dict[str, Any]:
    """What is kept of a report. Pure."""
    request = report.request
    return {
        "release": request.question.release,
        "to_version": request.question.to_version,
        "keep_seconds": request.keep.total_seconds(),
        "time": clock.rfc3339(report.moment),
        "go": report.verdict.go,
        "checks": [_row(check) for check in report.checks],
        "reasons": [_row(check) for check in report.verdict.reasons],
        "accepted": [_row(check) for check in report.verdict.accepted],
        "snapshots": {name: s.id for name, s in report.snapshots.items()},
        "proven": dict(report.proven),
        "point": report.point.id if report.point else None,
        "pinned_until": clock.rfc3339(report.pin) if report.pin else None,
        "seconds": dict(report.seconds),
    }


def history(stock: Inventory) -> list[Stored]:
    """Every gate whose report was kept, oldest first; what does not read as one is left out. Pure."""
    found = []
    for item in sorted(stock.gates, key=lambda e: e.time):
        kept: Any = (item.result.get("checks") or {}).get(LEVEL)
        try:
            found.append(_stored(item, kept, stock))
        except (KeyError, TypeError, ValueError, AttributeError):
            _log.warning("a kept report is not understood", run=item.run)
    return found


def find(stock: Inventory, wanted: str | None) -> Stored:
    """The newest report, or the newest of a point.

    Args:
        stock: the repository's content.
        wanted: name or id of a point; None for whatever is newest.

    Raises:
        NothingToDo: none was kept.
    """
    known = [
        one
        for one in history(stock)
        if wanted is None or (one.report.point and wanted in {one.report.point.name, one.report.point.id})
    ]
    if not known:
        of = f' of point "{wanted}"' if wanted else ""
        raise errors.NothingToDo(
            f"there is no report of a gate{of}",
            on=wanted,
            hint="reports of gates that took at least one snapshot are kept; see: drctl snapshots",
        )
    return known[-1]


def _stored(item: Evidence, kept: Mapping[str, Any], stock: Inventory) -> Stored:
    present = {(s.header.component, s.id): s for s in stock.snapshots}
    ids: Mapping[str, str] = kept["snapshots"]
    snapshots = {name: present[name, one] for name, one in ids.items() if (name, one) in present}
    report = Report(
        Request(
            Question(kept["release"], kept["to_version"]), keep=timedelta(seconds=float(kept["keep_seconds"]))
        ),
        clock.parse_rfc3339(kept["time"]),
        _checks(kept["checks"]),
        snapshots,
        {name: float(seconds) for name, seconds in kept["proven"].items()},
        next((p for p in stock.points if p.id == kept["point"]), None),
        clock.parse_rfc3339(kept["pinned_until"]) if kept["pinned_until"] else None,
        {stage: float(seconds) for stage, seconds in kept["seconds"].items()},
        Verdict(bool(kept["go"]), tuple(_checks(kept["reasons"])), tuple(_checks(kept["accepted"]))),
    )
    return Stored(report, item.time, tuple(name for name in ids if name not in snapshots))


def _row(check: Check) -> list[str | None]:
    return [check.name, check.component, check.state, check.text, check.hint]


def _checks(rows: Sequence[Sequence[Any]]) -> list[Check]:
    return [Check(*row) for row in rows]
