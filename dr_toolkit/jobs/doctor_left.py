"""What ``drctl doctor`` finds of gates and restores that were killed: applications at zero, databases closed or half-restored, plans not carried out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dr_toolkit import clock, errors
from dr_toolkit.config import Config, PostgresDumpConfig
from dr_toolkit.jobs import journal, opening
from dr_toolkit.jobs.findings import Finding
from dr_toolkit.postgres import swap_left
from dr_toolkit.words import counted

if TYPE_CHECKING:
    from dr_toolkit.cluster.client import Cluster
    from dr_toolkit.cluster.lease import Holder
    from dr_toolkit.cluster.replicas import Workload

_RESUME = "drctl resume"


def look(config: Config) -> Iterator[Finding]:
    """Everything that ``drctl resume`` would put in order. Changes nothing."""
    yield from of_plans(journal.unfinished())
    for name, component in config.components.items():
        if isinstance(component, PostgresDumpConfig):
            try:
                found = swap_left.leftovers(opening.source_settings(component, config))
            except errors.DrctlError:
                continue  # that the source is not reached is said where it is looked at
            yield from of_databases(name, found)
    if config.platform:
        yield from _applications(config)


def of_plans(names: Sequence[str]) -> Iterator[Finding]:
    """Restores of everything that were begun on this machine. Pure."""
    for name in names:
        yield Finding(
            "warning",
            "platform",
            f'the restore of "{name}" was begun on this machine and not carried out to its end',
            "what it had not reached is as it was before",
            f"drctl restore --point {name} --resume",
            name,
        )


def of_databases(component: str, found: swap_left.Leftovers) -> Iterator[Finding]:
    """A live database that nobody can connect to, and what looks half-restored. Pure."""
    if found.closed:
        yield Finding(
            "failed",
            "source",
            f'the database "{found.live}" takes no connections: a restore died, or is at this moment, while it swapped names',
            "nobody can use it",
            _RESUME,
            component,
        )
    for name in found.half_restored:
        yield Finding(
            "warning",
            "source",
            f'the database "{name}" is half-restored: a restore is running, or was killed',
            "it takes up room on the server's disk",
            f"where none is running: {_RESUME}",
            component,
        )


def _applications(config: Config) -> Iterator[Finding]:
    from dr_toolkit.jobs import quiet  # noqa: PLC0415  # slow to import, and not needed without a cluster

    try:
        with quiet.connected(config) as cluster:
            for rest in quiet.plan(cluster, config.platform):
                holder = _holder(cluster, rest.application.namespace)
                yield from of_workloads(rest.name, rest.workloads, holder, alive=_alive(cluster, holder))
    except errors.DrctlError as error:
        yield Finding(
            "warning",
            "platform",
            f"the applications cannot be looked at: {error.message}",
            "whether a killed run left one at zero is not known",
            error.hint or "see the message",
        )


def _holder(cluster: Cluster, namespace: str) -> Holder | None:
    from dr_toolkit.cluster import lease  # noqa: PLC0415  # as above

    try:
        return lease.read(cluster, namespace)
    except errors.DrctlError:
        return None  # an account that only looks need not see it


def _alive(cluster: Cluster, holder: Holder | None) -> bool:
    return holder is not None and holder.alive(cluster.date or clock.now())


def of_workloads(
    name: str, workloads: Sequence[Workload], holder: Holder | None, *, alive: bool
) -> Iterator[Finding]:
    """Workloads that a run of ours scaled to zero and that are still there. Pure.

    Args:
        name: of the application.
        workloads: its own.
        holder: who has the namespace's lease; None where nobody has, or it cannot be read.
        alive: whether that run may be at work.
    """
    from dr_toolkit.cluster import replicas  # noqa: PLC0415  # as above

    remembered: Mapping[str, int] = replicas.read_record(holder.scaled) if holder else {}
    for one in workloads:
        meant = one.intended if one.intended is not None else remembered.get(one.title)
        if one.replicas or not meant:
            continue
        at = f"{one.title} in namespace {one.namespace} is at zero and meant to have {counted(meant, 'replica')}"
        if alive and holder is not None:
            what = f"{at}: {holder.who} is at work ({holder.what}), or died not three minutes ago"
            why = "that run scales it up when it ends, if it lives"
            yield Finding(
                "warning", "platform", what, why, f"if it is surely dead: {_RESUME} --take-over", name
            )
            continue
        since = f", since {one.since}" if one.since else ""
        yield Finding(
            "failed",
            "platform",
            f"{at}{since}: the run that scaled it down is gone",
            "the application does not run",
            f"{_RESUME}; or go on with what was interrupted (drctl restore --point NAME --resume)",
            name,
        )
