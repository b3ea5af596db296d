"""What speaks against the snapshot that a restore would take: newer ones that are damaged or gone, and what proofs say of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from dr_toolkit import errors
from dr_toolkit.repository import layout
from dr_toolkit.repository.repository import Evidence
from dr_toolkit.repository.snapshot import Finding, Snapshot


def doubts(
    found: Snapshot,
    *,
    damaged: Sequence[errors.DataError],
    findings: Sequence[Finding],
    evidence: Sequence[Evidence],
    at: datetime | None = None,
) -> tuple[str, ...]:
    """Why a person should look twice. A pure function.

    Args:
        found: the chosen snapshot.
        damaged: an error for each header that does not open.
        findings: of the whole repository.
        evidence: signed results of the whole repository, oldest first.
        at: snapshots after this moment were not wanted.

    Returns:
        A sentence for each doubt; empty when there is none.
    """
    component = found.header.component
    bad = {
        parsed: "is damaged" for error in damaged if (parsed := layout.parse_snapshot_name(error.on or ""))
    }
    bad |= {(f.component, f.snapshot): "is gone" for f in findings if f.problem == "missing"}
    newer = [
        f'the newer snapshot "{snapshot}" {what}: this one is not the latest that was taken'
        for (owner, snapshot), what in sorted(bad.items())
        if owner == component and snapshot > found.id and (at is None or layout.time_of(snapshot) <= at)
    ]
    return (*newer, *altered(found, findings), *_failed(found, evidence))


def altered(found: Snapshot, findings: Sequence[Finding]) -> tuple[str, ...]:
    """Who names this snapshot with another digest than the one that it has."""
    return tuple(
        f"this {f.text.removeprefix('snapshot ')}"
        for f in findings
        if (f.component, f.snapshot, f.problem) == (found.header.component, found.id, "altered")
    )


def _failed(found: Snapshot, evidence: Sequence[Evidence]) -> Iterator[str]:
    own = [
        e.result
        for e in evidence
        if e.result.get("digest") == found.digest_text and e.result.get("level") != "gate"
    ]
    if own and own[-1].get("result") != "passed":
        yield f"its last verification ({own[-1].get('level')}) did not pass"
