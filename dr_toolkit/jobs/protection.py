"""What is protected, how well, and since when: all of a repository in one look."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dr_toolkit.config import Config
from dr_toolkit.jobs import drill, gate_record, inspect, opening, overview, status
from dr_toolkit.jobs.drill import Past
from dr_toolkit.jobs.gate_record import Stored
from dr_toolkit.jobs.inspect import Inventory
from dr_toolkit.jobs.overview import PointState
from dr_toolkit.jobs.status import Standing
from dr_toolkit.repository import pins
from dr_toolkit.repository.repository import Repository

_KEPT = 10


@dataclass(frozen=True, slots=True)
class Part:
    """One component.

    Attributes:
        standing: its newest snapshot and proof, against its objectives.
        since: when the oldest good snapshot was taken; None without one.
        snapshots: how many good ones there are.
        stored: bytes that its snapshots added to the repository.
        proofs: how many verifications by restore passed, and how many did not.
    """

    standing: Standing
    since: datetime | None
    snapshots: int
    stored: int
    proofs: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Protection:
    """All of it.

    Attributes:
        now: when it was looked at, by the storage's clock.
        url: of the repository.
        parts: the configured components.
        points: newest first, at most ten.
        gates: newest first, at most ten.
        drills: newest first, at most ten.
        problems: what is damaged or missing, in words.
    """

    now: datetime
    url: str
    parts: tuple[Part, ...]
    points: tuple[PointState, ...]
    gates: tuple[Stored, ...]
    drills: tuple[Past, ...]
    problems: tuple[str, ...]


def run(config: Config, repository: Repository) -> Protection:
    """Look; a role that lists is enough."""
    chosen = opening.chosen_components(config, ())
    stock, now = inspect.inventory(repository), opening.moment(repository)
    parts = tuple(
        _part(stock, status.stand(name, component.kind, component.objectives, stock, now))
        for name, component in chosen.items()
    )
    seen = overview.overview(list(chosen), stock, list(pins.pins(repository)), now)
    drills = drill.history(e for items in stock.evidence.values() for e in items)
    return Protection(
        now,
        config.repository.url,
        parts,
        seen.points[:_KEPT],
        tuple(reversed(gate_record.history(stock)[-_KEPT:])),
        tuple(reversed(drills[-_KEPT:])),
        problems(stock),
    )


def problems(stock: Inventory) -> tuple[str, ...]:
    """What is damaged or missing, in words. Pure."""
    return (
        *(error.message for error in stock.damaged),
        *inspect.found_damaged(stock.snapshots),
        *(finding.text for finding in stock.missing),
    )


def _part(stock: Inventory, standing: Standing) -> Part:
    own = [s for s in stock.snapshots if s.header.component == standing.component]
    good = [s for s in own if s.header.status == "good"]
    results = [
        e.result.get("result") == "passed"
        for s in own
        for e in stock.evidence.get((standing.component, s.id), ())
        if e.result.get("level") == "restore"
    ]
    return Part(
        standing,
        min((s.header.moment for s in good), default=None),
        len(good),
        sum(s.header.bytes_stored for s in own),
        (results.count(True), results.count(False)),
    )
