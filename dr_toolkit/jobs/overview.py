"""The first screen of an incident: what can be restored, how well it is proven, which snapshot to take and why. Asks no source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dr_toolkit.config import Config
from dr_toolkit.jobs import doubts, inspect, opening
from dr_toolkit.jobs.inspect import Inventory
from dr_toolkit.repository import layout, pins
from dr_toolkit.repository.pins import Pin
from dr_toolkit.repository.repository import Evidence, Point, Repository
from dr_toolkit.repository.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Choice:
    """What to restore of one component.

    Attributes:
        component: its name.
        snapshot: recommended; None when there is none that could be.
        why: in words.
        proven: whether its last restore into scratch passed.
        seconds: that the newest passed restore of the component took; None when there was none.
        age: seconds since the snapshot was taken.
        others: how many more good snapshots there are.
    """

    component: str
    snapshot: Snapshot | None
    why: str
    proven: bool
    seconds: float | None
    age: float | None
    others: int


@dataclass(frozen=True, slots=True)
class PointState:
    """One recovery point.

    Attributes:
        point: itself.
        age: seconds since its newest snapshot was taken.
        whole: all its snapshots are there, unaltered and good.
        proven: all of them were restored into scratch with success.
        pinned: until when; None without a valid pin.
        seconds: sum of the measured restores; None when one was never proven.
    """

    point: Point
    age: float
    whole: bool
    proven: bool
    pinned: datetime | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Overview:
    """What there is.

    Attributes:
        moment: now, by the storage's clock.
        choices: one for each component that is configured or stored.
        points: newest first.
        best: the point to take for the whole platform; None when there is none.
        problems: objects that are damaged or missing.
    """

    moment: datetime
    choices: tuple[Choice, ...]
    points: tuple[PointState, ...]
    best: PointState | None
    problems: int


def run(config: Config, repository: Repository) -> Overview:
    """Look at the repository; a role that lists is enough."""
    stock = inspect.inventory(repository)
    stored = dict.fromkeys(s.header.component for s in stock.snapshots)
    names = [*config.components, *(name for name in stored if name not in config.components)]
    return overview(names, stock, list(pins.pins(repository)), opening.moment(repository))


def overview(names: Sequence[str], stock: Inventory, held: Sequence[Pin], now: datetime) -> Overview:
    """The same of what was read. Pure."""
    points = [
        _state(point, stock, held, now) for point in sorted(stock.points, key=lambda p: p.id, reverse=True)
    ]
    best = next((p for p in points if p.whole and p.proven), next((p for p in points if p.whole), None))
    problems = len(stock.damaged) + len(stock.missing)
    return Overview(now, tuple(choose(n, stock, now) for n in names), tuple(points), best, problems)


def choose(name: str, stock: Inventory, now: datetime) -> Choice:
    """The newest snapshot, unless its proof failed or another's digest is expected of it: then the newest proven one. Pure."""
    own = [s for s in stock.snapshots if s.header.component == name and s.header.moment <= now]
    altered = {(f.component, f.snapshot) for f in stock.missing if f.problem == "altered"}
    good = [s for s in own if s.header.status == "good" and (name, s.id) not in altered]
    good.sort(key=lambda s: s.id, reverse=True)
    last = {s.id: _last_restore(s, stock.evidence) for s in good}
    usable = [s for s in good if doubts.failing(stock.evidence.get((name, s.id), ())) is None]
    proven = [s for s in usable if _passed(last[s.id])]
    seconds = next((float(e.result["seconds"]) for s in proven if (e := last[s.id])), None)
    if not usable:
        why = "its snapshots are damaged, or failed their proof" if own else "it was never backed up"
        return Choice(name, None, why, proven=False, seconds=seconds, age=None, others=len(good))
    found = usable[0]
    if found is not good[0]:
        why = "the newer ones failed their proof"
    elif found in proven:
        why = "the newest, and proven"
    else:
        why = f"the newest, not proven{f'; proven: {proven[0].id}' if proven else ''}"
    age = max(0.0, (now - found.header.moment).total_seconds())
    return Choice(name, found, why, found in proven, seconds, age, len(good) - 1)


def _state(point: Point, stock: Inventory, held: Sequence[Pin], now: datetime) -> PointState:
    known = {(s.header.component, s.id, s.digest_text): s for s in stock.snapshots}
    there = [known[row] for row in point.snapshots if row in known]
    whole = len(there) == len(point.snapshots) > 0 and all(s.header.status == "good" for s in there)
    proofs = [_last_restore(s, stock.evidence) for s in there]
    failing = any(doubts.failing(stock.evidence.get((s.header.component, s.id), ())) for s in there)
    proven = whole and not failing and all(_passed(proof) for proof in proofs)
    until = max((p.until for p in held if p.point == point.id and p.until > now), default=None)
    newest = max((s.header.moment for s in there), default=None) or _named_moment(point, now)
    seconds = sum(float(p.result["seconds"]) for p in proofs if p) if proven else None
    return PointState(point, max(0.0, (now - newest).total_seconds()), whole, proven, until, seconds)


def _named_moment(point: Point, now: datetime) -> datetime:
    """When the newest of its snapshots was taken, by their ids: none of them is there."""
    return max((layout.time_of(snapshot) for _, snapshot, _ in point.snapshots), default=now)


def _last_restore(found: Snapshot, evidence: Mapping[tuple[str, str], list[Evidence]]) -> Evidence | None:
    own = evidence.get((found.header.component, found.id), [])
    return max((e for e in own if e.result.get("level") == "restore"), key=lambda e: e.time, default=None)


def _passed(proof: Evidence | None) -> bool:
    return proof is not None and proof.result.get("result") == "passed"
