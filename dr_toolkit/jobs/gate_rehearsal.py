"""The rehearsal of an upgrade as a part of the gate: what it says becomes a check, and its restore a proof."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dr_toolkit import errors
from dr_toolkit.config import Config
from dr_toolkit.jobs import rehearsal_target
from dr_toolkit.jobs.gate import Check
from dr_toolkit.jobs.rehearsal_target import Target, Wanted
from dr_toolkit.jobs.verify import Result
from dr_toolkit.log import Progress
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot

if TYPE_CHECKING:
    from dr_toolkit.jobs.rehearsal import Outcome

NAME = "rehearsal"
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Found:
    """What came of it.

    Attributes:
        check: for the gate.
        proof: of the snapshot that was restored for it; None where that did not happen.
        outcome: of the rehearsal; None where it could not be tried.
    """

    check: Check
    proof: Result | None = None
    outcome: Outcome | None = None


def target(config: Config, wanted: Wanted | None, accepted: Collection[str]) -> Target | None:
    """What is tried, found out before anything begins; None where nothing is, or where it cannot be and that is accepted.

    Raises:
        ConfigError: it cannot be tried with this configuration.
    """
    if wanted is None:
        return None
    try:
        return rehearsal_target.target_of(config, wanted)
    except errors.ConfigError as error:
        if NAME in accepted:
            return None
        raise errors.ConfigError(
            error.message, hint=f"{error.hint}; or leave --rehearse out, or --accept {NAME}"
        ) from error


def plan(
    config: Config, repository: Repository, wanted: Wanted | None, accepted: Collection[str]
) -> list[Check]:
    """What a run would try, by the release as it is live; changes nothing.

    Raises:
        ConfigError: it cannot be tried with this configuration.
    """
    if wanted is None:
        return []
    found = target(config, wanted, accepted)
    if found is None:
        return [_not_possible(config, wanted)]
    from dr_toolkit.jobs import rehearsal  # noqa: PLC0415 - with the Kubernetes library, which is slow to import

    try:
        shape, image = rehearsal.shape_of(config, repository, found, wanted, {})
    except errors.DrctlError as error:
        return [Check(NAME, found.component, "unknown", error.message, error.hint)]
    text = f"would start {image} as {shape.workload} ({shape.source}) on a restored copy"
    return [Check(NAME, found.component, "ok", text)]


def run(
    config: Config,
    repository: Repository,
    wanted: Wanted | None,
    found: Target | None,
    snapshots: Mapping[str, Snapshot],
    progress: Progress,
) -> Found:
    """Try the upgrade on the recovery point's snapshot of Console's main database.

    Args:
        config: the configuration.
        repository: opened with the ``read`` role.
        wanted: what is asked for.
        found: what that means; None where it is not possible.
        snapshots: of the recovery point, by component.
        progress: told of each stage.

    Returns:
        The check, never an error: what could not be tried is unknown.
    """
    if wanted is None or found is None:
        return Found(_not_possible(config, wanted))
    from dr_toolkit.jobs import rehearsal  # noqa: PLC0415 - with the Kubernetes library, which is slow to import

    name = found.component
    if name not in snapshots:
        return Found(Check(NAME, name, "unknown", "there is no snapshot of it to restore"))
    try:
        shape, image = rehearsal.shape_of(config, repository, found, wanted, snapshots)
        proof, outcome = rehearsal.run(config, repository, snapshots[name], found, shape, image, progress)
    except errors.DrctlError as error:
        return Found(Check(NAME, name, "unknown", error.message, error.hint))
    if outcome is None:
        text = "the upgrade was not tried, because the snapshot did not pass its proof"
        return Found(Check(NAME, name, "unknown", text), proof)
    return Found(check(name, outcome), proof, outcome)


def check(name: str, outcome: Outcome) -> Check:
    """What the gate says of a rehearsal. Pure."""
    if outcome.reasons:
        text = "; ".join(reason.text for reason in outcome.reasons[:_SHOWN])
        hint = next((reason.hint for reason in outcome.reasons if reason.hint), None)
        return Check(NAME, name, "failed", text, hint)
    took = outcome.seconds.get("health", 0.0)
    text = f"{outcome.image} was healthy after {took:.1f} s on a restored copy; {outcome.migrated}"
    return Check(NAME, name, "ok", text)


def _not_possible(config: Config, wanted: Wanted | None) -> Check:
    try:
        rehearsal_target.target_of(config, wanted or Wanted())
    except errors.ConfigError as error:
        return Check(NAME, None, "unknown", error.message, error.hint)
    return Check(NAME, None, "unknown", "the upgrade was not tried")
