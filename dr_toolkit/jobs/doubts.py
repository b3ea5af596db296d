"""What speaks against the snapshot that a restore would take: newer ones that are damaged or gone, and what proofs say of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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


_ANSWERS = {
    "quick": ("quick",),
    "data": ("quick", "data"),
    "sample": ("quick", "sample"),
    "restore": ("quick", "data", "sample", "restore"),
}
"""Which failures a verification at each level answers when it passes; the weakest first."""
_ALL = 100


def failing(evidence: Iterable[Evidence]) -> Evidence | None:
    """The verification that failed and was not answered since: the strongest, if there are several. Pure.

    A share of the data that passes is no answer to data that failed: the fault may lie in the rest.

    Args:
        evidence: of one component's snapshots, or of one snapshot; in any order.
    """
    failed: dict[str, Evidence] = {}
    for item in sorted(evidence, key=lambda e: e.time):
        level = str(item.result.get("level"))
        if level not in _ANSWERS:
            continue
        if item.result.get("result") != "passed":
            failed[level] = item
            continue
        for other in _ANSWERS["quick" if _partly(item) else level]:
            failed.pop(other, None)
    return next((failed[level] for level in reversed(_ANSWERS) if level in failed), None)


def _partly(item: Evidence) -> bool:
    checks = item.result.get("checks")
    percent = checks.get("percent", _ALL) if isinstance(checks, dict) else _ALL
    return isinstance(percent, (int, float)) and percent < _ALL
