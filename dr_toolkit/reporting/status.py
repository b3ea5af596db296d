"""``drctl status`` as text, as a document, and as metrics in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from dr_toolkit.jobs.drill import Past
from dr_toolkit.jobs.status import Standing, moment_text
from dr_toolkit.reporting.text import duration, table


def text(standings: Sequence[Standing], last: Past | None = None) -> str:
    """A table, then what is wrong, then what to do."""
    rows = [["COMPONENT", "LAST GOOD", "AGE / RPO", "PROVEN", "RESTORE TOOK / RTO", "STATE"]]
    rows += [
        [
            s.component,
            s.last_good.id[:16] if s.last_good else "none",
            _against(s.age, s.rpo),
            "never" if s.proven_age is None else f"{duration(s.proven_age)} old",
            _against(s.rto_measured, s.rto),
            "DAMAGED" if s.problems else "MISSED" if s.missed else "ok",
        ]
        for s in standings
    ]
    parts = [table(rows)]
    parts += [f"DAMAGED: {s.component}: {problem}\n" for s in standings for problem in s.problems]
    parts += [f"MISSED: {s.component}: {reason}\n" for s in standings for reason in s.missed]
    if last is not None:
        how = "all came back" if last.passed else "NOT ALL CAME BACK"
        parts.append(f"last drill: {last.time}, {last.name}: {how} in {duration(last.seconds)}\n")
    if any(s.missed for s in standings):
        parts.append("next: drctl backup, then drctl verify --restore\n")
    return "".join(parts)


def document(standings: Sequence[Standing], last: Past | None = None) -> dict[str, Any]:
    """The same for scripts; durations in seconds."""
    return {
        "components": [
            {
                "component": s.component,
                "kind": s.kind,
                "last_good": s.last_good.id if s.last_good else None,
                "last_good_time": moment_text(s.last_good),
                "head": s.last_good.digest_text if s.last_good else None,
                "age_seconds": s.age,
                "rpo_seconds": s.rpo,
                "proven": s.proven.id if s.proven else None,
                "proven_age_seconds": s.proven_age,
                "rto_measured_seconds": s.rto_measured,
                "rto_seconds": s.rto,
                "missed": list(s.missed),
                "problems": list(s.problems),
            }
            for s in standings
        ],
        "last_drill": None
        if last is None
        else {"time": last.time, "name": last.name, "passed": last.passed, "seconds": last.seconds},
    }


def metrics(standings: Sequence[Standing]) -> bytes:
    """Gauges by component; what is not known is left out, so that an alert on absence works."""
    registry = CollectorRegistry()
    gauges = {
        "last_good": ("drctl_last_good_snapshot_timestamp_seconds", "When the last good snapshot was taken."),
        "proven": ("drctl_proven_snapshot_timestamp_seconds", "When the newest proven snapshot was taken."),
        "rto": ("drctl_restore_measured_seconds", "How long its verification by restore took."),
        "bytes": ("drctl_last_good_snapshot_bytes", "Content of the last good snapshot."),
        "missed": ("drctl_objectives_missed", "Objectives that are not met."),
        "problems": ("drctl_snapshot_problems", "Snapshots that are damaged or missing."),
    }
    made = {
        key: Gauge(name, help_text, ["component", "kind"], registry=registry)
        for key, (name, help_text) in gauges.items()
    }
    for s in standings:
        values = {
            "last_good": s.last_good.header.moment.timestamp() if s.last_good else None,
            "proven": s.proven.header.moment.timestamp() if s.proven else None,
            "rto": s.rto_measured,
            "bytes": s.last_good.header.bytes_source if s.last_good else None,
            "missed": len(s.missed),
            "problems": len(s.problems),
        }
        for key, value in values.items():
            if value is not None:
                made[key].labels(s.component, s.kind).set(value)
    return generate_latest(registry)


def _against(value: float | None, limit: float | None) -> str:
    shown = "unknown" if value is None else duration(value)
    return shown if limit is None else f"{shown} / {duration(limit)}"
