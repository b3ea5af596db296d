"""A scratch namespace's life: made, watched, its log read, deleted whatever happens; and what killed runs left, removed.

::

    with ScratchNamespace(cluster, order) as place:
        state = place.wait(start_seconds=300, changed=print)
        lines = place.log()
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from dr_toolkit import clock, errors, log
from dr_toolkit.cluster import paths, scratch_objects, scratch_state
from dr_toolkit.cluster.faults import NotFound
from dr_toolkit.cluster.scratch_objects import DATABASE, NAME, Order
from dr_toolkit.cluster.scratch_state import State

if TYPE_CHECKING:
    from dr_toolkit.cluster.client import Cluster

_log = log.get("cluster.scratch")

_NAMESPACES = "api/v1/namespaces"
_STEP = 0.5
_LOG_LINES = 400
_GRACE = 15.0
"""Seconds that the Job's own deadline is ahead of ours."""
_Found = TypeVar("_Found")
_SELECTOR = {"labelSelector": scratch_objects.LABEL}


@dataclass(frozen=True, slots=True)
class Leftover:
    """A scratch namespace that was found.

    Attributes:
        namespace: its name.
        owner: who made it.
        expires: when it counts as left over; None where its label says nothing.
        expired: whether that is past.
        removed: whether it was told to end.
        reason: why it was not, where it should have been.
    """

    namespace: str
    owner: str
    expires: datetime | None
    expired: bool
    removed: bool = False
    reason: str = ""


class ScratchNamespace:
    """One namespace for one ``with`` block.

    Args:
        cluster: the API.
        order: what goes into it.

    Raises:
        TargetError: the API refuses a part of it.
    """

    def __init__(self, cluster: Cluster, order: Order) -> None:
        self._cluster = cluster
        self._order = order
        self._asked = False

    def __enter__(self) -> Self:
        try:
            self._make()
        except errors.SourceError as error:
            self.remove()
            raise errors.TargetError(
                f'the scratch namespace "{self._order.namespace}" cannot be made: {error.message}',
                on=error.on,
                hint=error.hint,
                unaffected="it was deleted again; nothing else was touched",
            ) from error
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Tell the namespace to end, with all that is in it. What cannot be told now is told by ``scratch gc``."""
        if not self._asked:
            return
        self._asked = False
        try:
            self._cluster.delete(paths.of(_NAMESPACES, name=self._order.namespace))
        except NotFound:
            return
        except errors.DrctlError as error:
            _log.warning(
                "the scratch namespace could not be deleted",
                namespace=self._order.namespace,
                reason=error.message,
                hint="run: drctl scratch gc",
            )
            return
        _log.info("scratch namespace deleted", namespace=self._order.namespace)

    def wait(self, start_seconds: float, changed: Callable[[str], None]) -> State:
        """Watch until drctl has ended there, or cannot.

        Args:
            start_seconds: how long to wait for it to begin.
            changed: told what is waited for, when that changes.

        Returns:
            ``done`` with drctl's exit code, or ``no`` with the reason.
        """
        return self._wait(start_seconds, changed, lambda: None)

    def _wait(
        self, start_seconds: float, changed: Callable[[str], None], reached: Callable[[], _Found | None]
    ) -> _Found | State:
        """The same, or until something else is reached while drctl runs."""
        began = clock.monotonic()
        end = began + self._order.timeout + _GRACE
        before = ""
        running = False
        while True:
            state = self.state()
            if state.stage in {"done", "no"}:
                return state
            running = running or state.stage == "running"
            found = reached() if running else None
            if found is not None:
                return found
            if state.reason != before:
                before = state.reason
                changed(before or "restoring and comparing")
            now = clock.monotonic()
            if not running and now > began + start_seconds:
                return State("no", f"{state.reason} (waited {start_seconds:.0f} s)", state.hint)
            if now > end:
                return State("no", "the work did not end in time", "raise verify.namespace.timeout")
            clock.sleep(_STEP)

    def state(self) -> State:
        """How it stands now."""
        job = self._cluster.find(self._path("apis/batch/v1/jobs", NAME))
        if job is None:
            return State("no", "the namespace was deleted by somebody else", "run it again")
        return scratch_state.judge(
            job,
            self._pods(),
            self._list("api/v1/events"),
            self._list("api/v1/persistentvolumeclaims") if self._order.storage_class else [],
        )

    def log(self) -> dict[str, list[str]]:
        """The last lines that each container wrote; none of a container that never ran."""
        found: dict[str, list[str]] = {}
        for pod in scratch_objects.names(self._pods()):
            for container in (DATABASE, NAME) if self._order.database_image else (NAME,):
                try:
                    found[container] = self._lines(pod, container)
                except errors.DrctlError as error:
                    _log.debug("no log", container=container, reason=error.message)
        return found

    def _make(self) -> None:
        # From here on it may exist, whatever the answer to the request is.
        self._asked = True
        self._cluster.create(f"/{_NAMESPACES}", scratch_objects.namespace(self._order))
        for path, body in scratch_objects.objects(self._order):
            self._cluster.create(self._path(path), body)
        _log.info("scratch namespace made", namespace=self._order.namespace)

    def _path(self, kind: str, name: str = "") -> str:
        return paths.of(kind, self._order.namespace, name)

    def _pods(self) -> list[dict[str, Any]]:
        return self._list("api/v1/pods", f"{scratch_objects.LABEL}={self._order.id}")

    def _list(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        query = {"labelSelector": selector} if selector else None
        for page in self._cluster.pages(self._path(kind), query=query, restarted=items.clear):
            items += page
        return items

    def _lines(self, pod: str, container: str, most: int = _LOG_LINES) -> list[str]:
        kept: deque[str] = deque(maxlen=most)
        rest = b""
        for piece in self._cluster.log(self._order.namespace, pod, container):
            *lines, rest = (rest + piece).split(b"\n")
            kept.extend(line.decode(errors="replace") for line in lines)
        if rest:
            kept.append(rest.decode(errors="replace"))
        return list(kept)


def collect(cluster: Cluster, *, dry_run: bool = False) -> list[Leftover]:
    """Remove scratch namespaces past their expiry, by the API server's clock.

    Args:
        cluster: the API.
        dry_run: only look.

    Returns:
        Every scratch namespace that is there and not ending.
    """
    items: list[dict[str, Any]] = []
    for page in cluster.pages(f"/{_NAMESPACES}", query=_SELECTOR, restarted=items.clear):
        items += page
    now = cluster.date or clock.now()
    found = [_leftover(item, now) for item in items if not item["metadata"].get("deletionTimestamp")]
    return [_removed(cluster, one) if one.expired and not dry_run else one for one in found]


def _leftover(item: dict[str, Any], now: datetime) -> Leftover:
    metadata = item["metadata"]
    owner = (metadata.get("annotations") or {}).get(scratch_objects.OWNER, "")
    try:
        expires = datetime.fromtimestamp(int(metadata["labels"].get(scratch_objects.EXPIRES, "")), UTC)
    except (ValueError, OverflowError, OSError):
        reason = f"its label {scratch_objects.EXPIRES} is no time: delete it by hand"
        return Leftover(metadata["name"], owner, None, expired=False, reason=reason)
    return Leftover(metadata["name"], owner, expires, expired=expires <= now)


def _removed(cluster: Cluster, found: Leftover) -> Leftover:
    removed, reason = True, ""
    try:
        cluster.delete(paths.of(_NAMESPACES, name=found.namespace))
    except NotFound:
        pass
    except errors.DrctlError as error:
        removed, reason = False, error.message
    return Leftover(found.namespace, found.owner, found.expires, found.expired, removed, reason)
