"""Where each component stands: its last good snapshot, its last proof, and both against what was promised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dr_toolkit import clock
from dr_toolkit.config import Config, ObjectivesConfig
from dr_toolkit.jobs import doubts, drill, inspect, opening
from dr_toolkit.jobs.inspect import Inventory
from dr_toolkit.repository import layout
from dr_toolkit.repository.repository import Evidence, Repository
from dr_toolkit.repository.snapshot import Snapshot

_VERIFICATIONS = {
    "restore": "by restore",
    "sample": "of a sample",
    "data": "of the stored data",
    "quick": "of the stored objects",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """One component's.

    Attributes:
        component: its name.
        kind: of component.
        last_good: the newest snapshot that is good; None when there is none.
        age: seconds since it was taken.
        rpo: the objective, in seconds; None without one.
        proven: the newest snapshot whose last restore into scratch passed.
        proven_age: seconds since *that snapshot* was taken: what surely comes back.
        rto_measured: seconds that this restore took.
        rto: the objective, in seconds; None without one.
        missed: objectives that are not met, in words; empty when all are.
        problems: what is damaged or missing, in words.
    """

    component: str
    kind: str
    last_good: Snapshot | None
    age: float | None
    rpo: float | None
    proven: Snapshot | None
    proven_age: float | None
    rto_measured: float | None
    rto: float | None
    missed: tuple[str, ...]
    problems: tuple[str, ...]


def run(
    config: Config, repository: Repository, names: tuple[str, ...]
) -> tuple[list[Standing], drill.Past | None]:
    """Look at the components that are named, or at all; and the newest drill, where there was one."""
    chosen = opening.chosen_components(config, names)
    stock = inspect.inventory(repository)
    now = opening.moment(repository)
    standings = [
        stand(name, component.kind, component.objectives, stock, now) for name, component in chosen.items()
    ]
    drills = drill.history(e for items in stock.evidence.values() for e in items)
    return standings, drills[-1] if drills else None


def stand(
    name: str, kind: str, objectives: ObjectivesConfig | None, stock: Inventory, now: datetime
) -> Standing:
    """Judge one component. Pure."""
    own = sorted((s for s in stock.snapshots if s.header.component == name), key=lambda s: s.id)
    good = [s for s in own if s.header.status == "good" and s.header.moment <= now]
    last = good[-1] if good else None
    proven, proof = _proven(good, stock.evidence)
    age, proven_age = _age(last, now), _age(proven, now)
    rpo = objectives.rpo.total_seconds() if objectives and objectives.rpo else None
    rto = objectives.rto.total_seconds() if objectives and objectives.rto else None
    measured = float(proof.result["seconds"]) if proof else None
    return Standing(
        name,
        kind,
        last,
        age,
        rpo,
        proven,
        proven_age,
        measured,
        rto,
        tuple(_missed(age, rpo, measured, rto, doubts.failing(_all_of(good, stock.evidence)))),
        tuple(_problems(name, stock)),
    )


def _missed(
    age: float | None, rpo: float | None, measured: float | None, rto: float | None, failed: Evidence | None
) -> list[str]:
    """Objectives that are not met. What was never proven is not met."""
    found = []
    if age is None:
        found.append("there is no good snapshot")
    elif rpo is not None and age > rpo:
        found.append("the last good snapshot is older than the RPO allows")
    if rto is not None and measured is None and age is not None:
        found.append("no restore was ever proven, so the RTO is unknown")
    elif rto is not None and measured is not None and measured > rto:
        found.append("the last proven restore took longer than the RTO allows")
    if failed is not None:
        found.append(f"the last verification {_VERIFICATIONS[str(failed.result['level'])]} failed")
    return found


def _proven(
    good: Sequence[Snapshot], evidence: Mapping[tuple[str, str], list[Evidence]]
) -> tuple[Snapshot | None, Evidence | None]:
    """The newest snapshot whose latest restore passed."""
    for found in reversed(good):
        restores = _restores(found, evidence)
        if restores and restores[-1].result.get("result") == "passed":
            return found, restores[-1]
    return None, None


def _all_of(good: Sequence[Snapshot], evidence: Mapping[tuple[str, str], list[Evidence]]) -> list[Evidence]:
    return [e for s in good for e in evidence.get((s.header.component, s.id), [])]


def _restores(found: Snapshot, evidence: Mapping[tuple[str, str], list[Evidence]]) -> list[Evidence]:
    items = evidence.get((found.header.component, found.id), [])
    return sorted((e for e in items if e.result.get("level") == "restore"), key=lambda e: e.time)


def _problems(name: str, stock: Inventory) -> list[str]:
    found = [finding.text for finding in stock.missing if finding.component == name]
    found += inspect.found_damaged(s for s in stock.snapshots if s.header.component == name)
    # What belongs to no component (a point, evidence) is everybody's problem.
    concern = (
        e
        for e in stock.damaged
        if not (e.on or "").startswith(layout.SNAPSHOTS) or f"/{name}/" in (e.on or "")
    )
    return found + [error.message for error in concern]


def _age(found: Snapshot | None, now: datetime) -> float | None:
    return None if found is None else max(0.0, (now - found.header.moment).total_seconds())


def exit_code(standings: Sequence[Standing]) -> int:
    """3 when something is damaged or missing, 4 when an objective is missed, else 0."""
    if any(s.problems for s in standings):
        return 3
    return 4 if any(s.missed for s in standings) else 0


def moment_text(found: Snapshot | None) -> str | None:
    """When a snapshot was taken, in RFC 3339."""
    return None if found is None else clock.rfc3339(found.header.moment)
