"""Remove what killed runs left: directories of this machine at once, namespaces of the cluster past their expiry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dr_toolkit.config import Config
from dr_toolkit.postgres import scratch_places

if TYPE_CHECKING:
    from dr_toolkit.cluster.scratch_namespace import Leftover


@dataclass(frozen=True, slots=True)
class Place:
    """A scratch namespace that was found.

    Attributes:
        namespace: its name.
        owner: who made it.
        expires: when it counts as left over, RFC 3339; None where that is not known.
        state: ``in use``, ``expired``, ``removed``, ``not removed``, or ``unknown``.
        reason: why it is so, where that is not plain.
    """

    namespace: str
    owner: str
    expires: str | None
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Collected:
    """What was found.

    Attributes:
        directories: of this machine, removed.
        namespaces: of the cluster.
        asked: whether the cluster was asked at all.
    """

    directories: list[str] = field(default_factory=list)
    namespaces: list[Place] = field(default_factory=list)
    asked: bool = True

    @property
    def failed(self) -> bool:
        """Whether something should have been removed and was not."""
        return any(place.state in {"not removed", "unknown"} for place in self.namespaces)


def collect(config: Config, *, dry_run: bool = False) -> Collected:
    """Remove leftovers. What a running drctl uses stays.

    Args:
        config: where ``verify.namespace`` is missing, the cluster is not asked.
        dry_run: only look at the namespaces, and leave this machine alone.

    Raises:
        SourceUnreachable: the Kubernetes API does not answer.
        Forbidden: it does not let us list or delete namespaces.
    """
    directories = [] if dry_run else scratch_places.clean_leftovers()
    if config.verify.namespace is None:
        return Collected(directories, asked=False)
    return Collected(directories, _namespaces(config, dry_run=dry_run))


def _namespaces(config: Config, *, dry_run: bool) -> list[Place]:
    from dr_toolkit import clock  # noqa: PLC0415 - with the Kubernetes library, which is slow to import
    from dr_toolkit.cluster import scratch_namespace  # noqa: PLC0415
    from dr_toolkit.cluster.client import Cluster  # noqa: PLC0415

    with Cluster(config.cluster) as cluster:
        found = scratch_namespace.collect(cluster, dry_run=dry_run)
    return [
        Place(
            one.namespace,
            one.owner,
            clock.rfc3339(one.expires) if one.expires else None,
            _state(one),
            one.reason,
        )
        for one in found
    ]


def _state(one: Leftover) -> str:
    if one.removed:
        return "removed"
    if one.expires is None:
        return "unknown"
    if not one.expired:
        return "in use"
    return "not removed" if one.reason else "expired"
