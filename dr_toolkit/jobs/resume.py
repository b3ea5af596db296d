"""Put in order what a killed gate or restore left: workloads at zero, closed or half-restored databases, plans that were not carried out."""

from __future__ import annotations

from dataclasses import dataclass, field

from dr_toolkit import errors
from dr_toolkit.config import Config, PostgresDumpConfig
from dr_toolkit.jobs import journal, opening
from dr_toolkit.postgres import swap


@dataclass(slots=True)
class Outcome:
    """What was found and done.

    Attributes:
        scaled: workloads that got their replicas back: ``namespace/deployment/name``, and how many.
        opened: live databases that take connections again.
        dropped: half-restored databases that are gone.
        left: databases that look like ours and carry no marker; a person decides.
        unfinished: plans that were begun on this machine and not carried out.
        failed: (what, why) of what could not be put in order.
    """

    scaled: dict[str, int] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    failed: list[tuple[str, errors.DrctlError]] = field(default_factory=list)

    @property
    def nothing(self) -> bool:
        """Whether everything was in order already."""
        return not any((self.scaled, self.opened, self.dropped, self.left, self.failed))


def run(config: Config, *, take_over: bool) -> Outcome:
    """Names first, then replicas: an application that wakes finds its database open. What fails does not keep the rest from being done."""
    outcome = Outcome(unfinished=journal.unfinished())
    for name, component in config.components.items():
        if isinstance(component, PostgresDumpConfig):
            try:
                settings = opening.restore_settings(component, config)
                found = swap.repair(settings)
            except errors.DrctlError as error:
                outcome.failed.append((name, error))
                continue
            outcome.opened += found.reopened
            outcome.dropped += found.dropped
            outcome.left += found.left
    if config.platform:
        from dr_toolkit.jobs import quiet  # noqa: PLC0415  # slow to import, and not needed without a cluster

        try:
            with quiet.connected(config) as cluster:
                rest = quiet.plan(cluster, config.platform)
                outcome.scaled = quiet.wake(cluster, rest, take_over=take_over)
        except errors.DrctlError as error:
            outcome.failed.append(("platform", error))
    return outcome
