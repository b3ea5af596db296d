"""Bring the applications to rest while their data is replaced or copied, and wake them again: leases, replicas, health.

What an application is meant to have is recorded before it is taken away: on the workload itself, and in the lease of its namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from dr_toolkit import clock, errors
from dr_toolkit.cluster import health as endpoints
from dr_toolkit.cluster import lease
from dr_toolkit.cluster import replicas as workloads
from dr_toolkit.cluster.client import Cluster
from dr_toolkit.cluster.replicas import Workload
from dr_toolkit.config import ApplicationConfig, Config
from dr_toolkit.log import Progress

WAIT_S = 180.0
_STEP_S = 1.0
_AWAY_S = 120.0
"""An API server that is away for a minute, and then some time to start, must not leave an application at zero."""


@dataclass(frozen=True, slots=True)
class Rest:
    """One application that is brought to rest.

    Attributes:
        name: in the configuration.
        application: its section.
        workloads: as they were found.
    """

    name: str
    application: ApplicationConfig
    workloads: tuple[Workload, ...]


class Session:
    """The applications of one run, and the leases of their namespaces; made by `session`.

    Attributes:
        wait_seconds: how long pods may take to end, and to get ready.
    """

    def __init__(
        self, cluster: Cluster, rest: Sequence[Rest], held: Sequence[lease.Lease], wait_seconds: float
    ) -> None:
        self.wait_seconds = wait_seconds
        self._cluster = cluster
        self._rest = tuple(rest)
        self._leases = {one.namespace: one for one in held}
        self._goals: dict[str, dict[str, int]] = {}

    def check(self) -> None:
        """Whether the leases are ours still.

        Raises:
            TargetError: one was taken over.
        """
        for one in self._leases.values():
            one.check()

    def down(self, progress: Progress) -> None:
        """Record, scale to zero, wait until the last pod is gone. When that does not work out, everything is scaled up again.

        Raises:
            TargetError: a pod does not end; or a workload cannot be changed.
            SourceUnreachable: the API server does not answer.
        """
        for namespace, held in self._leases.items():
            goals = workloads.read_record(held.left)
            goals |= {one.title: one.goal for one in self._in(namespace) if one.goal}
            self._goals[namespace] = goals
            held.remember(workloads.record(goals))
        try:
            for rest in self._rest:
                progress.note(f"scaling {rest.name} to zero")
                for one in rest.workloads:
                    workloads.scale_down(self._cluster, one)
            workloads.wait_for_no_pods(self._cluster, self._every(), self.wait_seconds)
        except errors.DrctlError:
            self.up(progress)
            raise

    def up(self, progress: Progress) -> None:
        """Give everything its replicas back.

        Raises:
            TargetError: a workload cannot be changed; the message says how to go on.
        """
        try:
            for rest in self._rest:
                progress.note(f"scaling {rest.name} up again")
                goals = self._goals.get(rest.application.namespace, {})
                for one in rest.workloads:
                    now = workloads.again(self._cluster, one)
                    workloads.scale_up(self._cluster, now, replicas=goals.get(one.title))
            for held in self._leases.values():
                held.remember(None)
        except errors.DrctlError as error:
            error.hint = (
                "what the workloads are meant to have is recorded on them; give it back: drctl resume"
            )
            raise

    def health(self) -> list[tuple[bool, str]]:
        """Wait until the applications are well; what they said at last, and whether it is well."""
        return health(self._cluster, self._rest, self.wait_seconds)

    def _every(self) -> Iterator[Workload]:
        return (one for rest in self._rest for one in rest.workloads)

    def _in(self, namespace: str) -> Iterator[Workload]:
        return (one for one in self._every() if one.namespace == namespace)


def chosen(config: Config, names: Sequence[str]) -> dict[str, ApplicationConfig]:
    """The applications that are named.

    Raises:
        UsageError: one is not configured.
    """
    for name in names:
        if name not in config.platform:
            known = ", ".join(config.platform) or "none"
            raise errors.UsageError(
                f'no application "{name}" is configured',
                on=name,
                hint=f'applications are configured under "platform"; there: {known}',
                unaffected="nothing was started",
            )
    return {name: config.platform[name] for name in names}


def writers(config: Config) -> dict[str, ApplicationConfig]:
    """The applications that write to what is protected."""
    return {name: found for name, found in config.platform.items() if found.writes}


def plan(cluster: Cluster, applications: dict[str, ApplicationConfig]) -> tuple[Rest, ...]:
    """Find the workloads; changes nothing.

    Raises:
        TargetError: an application has none.
        SourceUnreachable: the API server does not answer.
    """
    return tuple(
        Rest(
            name,
            found,
            tuple(
                workloads.find(cluster, found.namespace, release=found.release or name, named=found.workloads)
            ),
        )
        for name, found in applications.items()
    )


@contextmanager
def connected(config: Config) -> Iterator[Cluster]:
    """The configured cluster. What is at zero is scaled up by it, so it is waited for longer than elsewhere."""
    with Cluster(config.cluster, retry_seconds=_AWAY_S) as cluster:
        yield cluster


@contextmanager
def session(
    cluster: Cluster,
    rest: Sequence[Rest],
    what: str,
    *,
    take_over: bool = False,
    wait_seconds: float = WAIT_S,
) -> Iterator[Session]:
    """Hold the leases of the applications' namespaces for a block.

    Raises:
        TargetError: somebody else has one; the message says who and since when.
    """
    with ExitStack() as stack:
        names = sorted({one.application.namespace for one in rest})
        held = [stack.enter_context(lease.held(cluster, name, what, take_over=take_over)) for name in names]
        yield Session(cluster, rest, held, wait_seconds)


def wake(cluster: Cluster, rest: Sequence[Rest], *, take_over: bool) -> dict[str, int]:
    """Give everything that a run of ours scaled down, and left so, its replicas back; what got how many.

    Raises:
        TargetError: a run is still at work on it.
        SourceUnreachable: the API server does not answer.
    """
    woken = {}
    with ExitStack() as stack:
        names = sorted({one.application.namespace for one in rest})
        leases = {
            name: stack.enter_context(lease.held(cluster, name, "resume", take_over=take_over))
            for name in names
        }
        for one in (one for application in rest for one in application.workloads):
            goals = workloads.read_record(leases[one.namespace].left)
            if workloads.scale_up(cluster, one, replicas=goals.get(one.title)):
                woken[f"{one.namespace}/{one.title}"] = workloads.again(cluster, one).replicas
        for held in leases.values():
            held.remember(None)
    return woken


def health(cluster: Cluster, rest: Sequence[Rest], seconds: float) -> list[tuple[bool, str]]:
    """Wait until the applications are well; what they said at last, and whether it is well."""
    found = []
    for one in rest:
        late = workloads.wait_until_ready(cluster, one.workloads, seconds)
        found += [(False, f"{one.name}: {text}") for text in late]
        if not late:
            found.append((True, f"{one.name}: all replicas are ready"))
    for one in rest:
        if one.application.url is not None:
            found.append(_until_ready(one.application, seconds))
    return found


def _until_ready(application: ApplicationConfig, seconds: float) -> tuple[bool, str]:
    assert application.url is not None  # noqa: S101  # for the type checker: the caller looked
    answer = until(
        lambda: endpoints.ask(application.kind, application.url or "", application.ca_file), seconds
    )
    return answer.ready, answer.text


def until(ask: Callable[[], endpoints.Health], seconds: float) -> endpoints.Health:
    """Ask again and again until it is ready, or the time is over; the last answer."""
    latest = clock.monotonic() + seconds
    answer = ask()
    while not answer.ready and clock.monotonic() < latest:
        clock.sleep(_STEP_S)
        answer = ask()
    return answer
