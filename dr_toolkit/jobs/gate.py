"""GO or NO-GO: what was checked, and a pure function that judges it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "failed", "unknown"]

CHECKS = {
    "proof": "the snapshot was restored into scratch and its content is the source's",
    "backup": "a snapshot was taken, or one that is fresh enough is there",
    "repository": "nothing that is stored is damaged or missing",
    "point": "the snapshots are tied together as a recovery point, and pinned against retention",
    "counts": "after the upgrade: no table is gone or has fewer rows than before",
    "rehearsal": "the new version migrated a restored copy and got healthy on it (with --rehearse)",
    "migrations": "no migration of the database failed or is running",
    "release": "the Helm release is deployed, and no revision is pending",
    "versions": "the path from the present version to the new one skips none that must not be skipped",
    "health": "the platform's own health endpoints answer that it is ready",
    "transactions": "no transaction has been open for long",
    "replication": "no standby is far behind",
    "space": "there is room for a restore beside the live database, and for the next snapshot",
}
"""Name and meaning of every check, in the order of their weight."""

NEVER_ACCEPTED = frozenset({"proof", "backup", "repository", "point"})
"""Without these there is no way back, whatever a person is willing to accept."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: a key of `CHECKS`.
        component: which one; None for the whole.
        state: ``unknown`` when it could not be looked at.
        text: what was found, in words.
        hint: what to do, where there is something.
    """

    name: str
    component: str | None
    state: State
    text: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What an upgrade is about, for the checks that need it.

    Attributes:
        release: of Helm; None when none was named.
        to_version: that it is upgraded to; None when not said.
        upgraded: whether that has been done already.
        wait_s: for how long an application may still get ready.
        hook: whether Helm itself asks, in the middle of the upgrade: then its newest revision is pending, and must be.
    """

    release: str | None = None
    to_version: str | None = None
    upgraded: bool = False
    wait_s: float = 0.0
    hook: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer.

    Attributes:
        go: whether everything is fine or accepted.
        reasons: what speaks against it, the heaviest first; empty for GO.
        accepted: what spoke against it and was accepted by a person.
    """

    go: bool
    reasons: tuple[Check, ...]
    accepted: tuple[Check, ...]


def decide(
    checks: Sequence[Check], components: Collection[str] | None, accepted: Collection[str] = ()
) -> Verdict:
    """Judge. A component without a proof is a reason of its own: silence is never GO. Pure.

    Args:
        checks: everything that was looked at.
        components: that must be proven; None where no proof is asked for.
        accepted: names of checks whose failing, or not being possible, a person accepts.
    """
    against = [check for check in checks if check.state != "ok"]
    if components is not None:
        proven = {check.component for check in checks if check.name == "proof"}
        against += [
            Check("proof", name, "unknown", "no restore of it was tried")
            for name in components
            if name not in proven
        ]
        if not components:
            against.append(Check("proof", None, "unknown", "there is no component to prove"))
    waived = [c for c in against if c.name in accepted and c.name not in NEVER_ACCEPTED]
    reasons = [c for c in against if c not in waived]
    return Verdict(not reasons, tuple(sorted(reasons, key=_weight)), tuple(sorted(waived, key=_weight)))


def amount(count: float) -> str:
    """Bytes, for the text of a check: ``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:  # noqa: PLR2004  # the next unit
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _weight(check: Check) -> tuple[int, bool, str]:
    order = list(CHECKS)
    place = order.index(check.name) if check.name in CHECKS else len(order)
    return place, check.state != "failed", check.component or ""
