"""A rehearsal in a scratch namespace: the restored copy is waited for, the new version is started beside it, and watched until it is well or cannot be.

::

    with Rehearsal(cluster, order, key) as place:
        copy = place.wait_for_copy(start_seconds=300, changed=print)
        if isinstance(copy, Ready):
            seen = place.watch(start, Limits(...), changed=print)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dr_toolkit import clock, errors, log
from dr_toolkit.cluster import rehearsal_objects, rehearsal_state, rehearsal_words
from dr_toolkit.cluster.rehearsal_objects import Start
from dr_toolkit.cluster.rehearsal_state import Guest
from dr_toolkit.cluster.scratch_namespace import ScratchNamespace
from dr_toolkit.cluster.scratch_objects import DATABASE_PORT, GUEST, NAME, PART, Order
from dr_toolkit.cluster.scratch_state import State

if TYPE_CHECKING:
    from dr_toolkit.cluster.client import Cluster

_log = log.get("cluster.rehearsal")

_STEP = 0.5
_GUEST_LINES = 20_000


@dataclass(frozen=True, slots=True)
class Ready:
    """The restored copy, ready to be migrated.

    Attributes:
        address: of its server.
        port: of its server.
        database: its name.
        role: that migrates.
        histories: its migration histories before.
    """

    address: str
    port: int
    database: str
    role: str
    histories: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long what is waited for.

    Attributes:
        start: seconds until its container runs.
        health: seconds from then until it is healthy.
        settle: seconds that it must stay so.
    """

    start: float
    health: float
    settle: float


@dataclass(slots=True)
class Seen:
    """What was seen of the guest.

    Attributes:
        guest: how it stood at last.
        late: what the time was not enough for: ``start``, ``health`` or nothing.
        fell: whether it was healthy and then not.
        lost: why the copy was not there any more; empty where it was.
        histories: the migration histories at last.
        seconds: from its start until its container ran (``start``), the last migration was seen (``migrations``) and it was healthy (``health``).
        lines: of its log.
    """

    guest: Guest = field(default_factory=lambda: Guest("waiting"))
    late: str = ""
    fell: bool = False
    lost: str = ""
    histories: tuple[Mapping[str, Any], ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


class Rehearsal(ScratchNamespace):
    """A scratch namespace with a guest, for one ``with`` block.

    Args:
        cluster: the API.
        order: what goes into it; with room for a guest.
        key: of the words that the Pod with the copy says.

    Raises:
        TargetError: the API refuses a part of it.
    """

    def __init__(self, cluster: Cluster, order: Order, key: str) -> None:
        super().__init__(cluster, order)
        self._key = key

    def wait_for_copy(self, start_seconds: float, changed: Callable[[str], None]) -> Ready | State:
        """Watch until the snapshot was restored and proven there, or cannot be.

        Args:
            start_seconds: how long to wait for it to begin.
            changed: told what is waited for, when that changes.

        Returns:
            The copy; or how drctl ended there, or why it cannot begin.
        """
        return self._wait(start_seconds, changed, self._copy)

    def watch(self, copy: Ready, start: Start, limits: Limits, changed: Callable[[str], None]) -> Seen:
        """Start the new version, and watch it until it is well for long enough, or cannot be.

        Args:
            copy: that it is led to.
            start: what is started.
            limits: how long what is waited for.
            changed: told what is waited for, when that changes.

        Returns:
            What was seen; nothing is judged here.

        Raises:
            TargetError: the API refuses to start it.
        """
        for path, body in rehearsal_objects.objects(start):
            try:
                self._cluster.create(self._path(path), body)
            except errors.SourceError as error:
                raise errors.TargetError(
                    f"the new version cannot be started: {error.message}", on=error.on, hint=error.hint
                ) from error
        _log.info("guest started", namespace=self._order.namespace, image=start.image)
        seen = _Watch(limits, copy.histories, changed)
        while not seen.done(clock.monotonic(), self._guest(), self._words()):
            clock.sleep(_STEP)
        found = seen.seen
        found.lost = self._lost()
        found.lines = self._guest_log()
        return found

    def _copy(self) -> Ready | None:
        words = self._words()
        serving = next((word for word in words if word.get("stage") == "serving"), None)
        pods = self._pods()
        address = str((pods[0].get("status") or {}).get("podIP") or "") if pods else ""
        if serving is None or not address:
            return None
        return Ready(
            address,
            DATABASE_PORT,
            str(serving["database"]),
            str(serving["role"]),
            tuple(serving.get("histories") or ()),
        )

    def _words(self) -> list[dict[str, Any]]:
        """Everything genuine that the Pod with the copy has said so far, and is still in its log."""
        return rehearsal_words.heard(self._key, self.log().get(NAME, []))

    def _guest(self) -> Guest:
        events = [
            event
            for event in self._list("api/v1/events")
            if str((event.get("involvedObject") or {}).get("name", "")).startswith(GUEST)
        ]
        job = self._cluster.find(self._path("apis/batch/v1/jobs", GUEST))
        return rehearsal_state.judge(job, self._guests(), events)

    def _guests(self) -> list[dict[str, Any]]:
        return self._list("api/v1/pods", f"{PART}={GUEST}")

    def _lost(self) -> str:
        state = self.state()
        if state.stage == "running":
            return ""
        return state.reason or "the PostgreSQL with the copy ended"

    def _guest_log(self) -> list[str]:
        kept: deque[str] = deque(maxlen=_GUEST_LINES)
        for pod in self._guests():
            try:
                kept += self._lines(str(pod["metadata"]["name"]), GUEST, _GUEST_LINES)
            except errors.DrctlError as error:
                _log.debug("no log", container=GUEST, reason=error.message)
        return list(kept)


class _Watch:
    """What is known of the guest so far, and whether that is enough."""

    def __init__(
        self, limits: Limits, histories: Sequence[Mapping[str, Any]], changed: Callable[[str], None]
    ) -> None:
        self.seen = Seen(histories=tuple(histories))
        self._limits = limits
        self._changed = changed
        self._began = clock.monotonic()
        self._before = ""
        self._heard = 0
        self._after = 0

    def done(self, now: float, guest: Guest, words: Sequence[Mapping[str, Any]]) -> bool:
        """Take in what is seen at a moment; whether there is nothing more to wait for."""
        seen, limits = self.seen, self._limits
        since = now - self._began
        seen.guest = guest
        self._hear(words, since)
        if guest.stage in {"running", "healthy"}:
            seen.seconds.setdefault("start", round(since, 3))
        if guest.stage == "healthy" and "health" not in seen.seconds:
            seen.seconds["health"] = round(since, 3)
            self._after = self._heard
        self._tell(guest)
        if guest.stage == "over":
            return True
        if "start" not in seen.seconds:
            seen.late = "start" if since > limits.start else ""
        elif "health" not in seen.seconds:
            seen.late = "health" if since > seen.seconds["start"] + limits.health else ""
        else:
            return self._settled(since, guest)
        return bool(seen.late)

    def _settled(self, since: float, guest: Guest) -> bool:
        """Whether it stayed healthy for long enough, and the histories were looked at after it became so."""
        if guest.stage != "healthy":
            self.seen.fell = True
            return True
        waited = since - self.seen.seconds["health"]
        silent = waited > self._limits.settle + self._limits.start
        return (waited >= self._limits.settle and self._heard > self._after) or silent

    def _hear(self, words: Sequence[Mapping[str, Any]], since: float) -> None:
        for word in words:
            number = int(word.get("number", 0))
            if number <= self._heard:
                continue
            self._heard = number
            now = tuple(word.get("histories") or ())
            if now != self.seen.histories:
                self.seen.histories = now
                self.seen.seconds["migrations"] = round(since, 3)

    def _tell(self, guest: Guest) -> None:
        texts = {
            "running": "migrating, until its health endpoint answers",
            "healthy": "healthy; watching it for a while",
        }
        text = texts.get(guest.stage, guest.text)
        if text != self._before:
            self._before = text
            self._changed(text)
