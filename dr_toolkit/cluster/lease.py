"""A Lease that guards a restore: two people in one incident must not restore the same platform at once.

It is renewed while the run lives and expires a few minutes after its death. It also carries what the run scaled down, so that a
workload that lost its marks can still be given its replicas back.
"""

from __future__ import annotations

import getpass
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dr_toolkit import clock, log
from dr_toolkit.cluster import faults, paths
from dr_toolkit.cluster.client import Cluster
from dr_toolkit.errors import DrctlError, TargetError

NAME = "drctl-restore"
SECONDS = 180
"""So long after its last sign of life a holder counts as dead: longer than an API server that is away for a minute."""
SCALED = "drctl.conduktor.io/scaled-down"
WHAT = "drctl.conduktor.io/doing"
_LEASES = "apis/coordination.k8s.io/v1/leases"

_log = log.get("cluster.lease")


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has it.

    Attributes:
        who: user, machine and process.
        what: that is being done.
        since: when it was taken.
        renewed: the last sign of life.
        scaled: what the run scaled down, as `replicas.record` wrote it; empty for nothing.
    """

    who: str
    what: str
    since: datetime | None
    renewed: datetime | None
    scaled: str

    def alive(self, now: datetime) -> bool:
        """Whether its run may still be at work. Pure."""
        return bool(self.who) and (self.renewed is None or now < self.renewed + timedelta(seconds=SECONDS))


def me() -> str:
    """This process, in words."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, in a container
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} (pid {os.getpid()})"


def read(cluster: Cluster, namespace: str) -> Holder | None:
    """Who has it; None where there is none."""
    found = cluster.find(paths.of(_LEASES, namespace, NAME))
    return None if found is None else _holder(found)


class Lease:
    """One that is held; made by `held`.

    Attributes:
        namespace: whose restores it guards.
        left: what the run before, which died, had scaled down.
    """

    def __init__(self, cluster: Cluster, namespace: str, what: str) -> None:
        self.namespace = namespace
        self.left = ""
        self._cluster = cluster
        self._what = what
        self._path = paths.of(_LEASES, namespace, NAME)
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._revision = ""
        self._renewed = 0.0
        self._lost = ""
        self._thread = threading.Thread(target=self._renew_always, name="drctl-lease", daemon=True)

    def take(self, *, take_over: bool) -> None:
        """Take it.

        Raises:
            TargetError: somebody else has it; the message says who and since when.
        """
        found = self._cluster.find(self._path)
        if found is None:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": NAME, "annotations": {WHAT: self._what}},
                "spec": self._spec(),
            }
            try:
                self._note(self._cluster.create(paths.of(_LEASES, self.namespace), body))
            except faults.Conflict as error:
                raise self._refused(self._cluster.find(self._path)) from error
        else:
            holder = _holder(found)
            if holder.alive(self._cluster.date or clock.now()) and not take_over:
                raise self._refused(found)
            if holder.who:
                _log.warning("taking over", of=holder.who, doing=holder.what, renewed=str(holder.renewed))
            self.left = holder.scaled
            meta = {
                "annotations": {WHAT: self._what},
                "resourceVersion": found["metadata"]["resourceVersion"],
            }
            try:
                self._note(self._cluster.patch(self._path, {"metadata": meta, "spec": self._spec()}))
            except faults.Conflict as error:
                raise self._refused(self._cluster.find(self._path)) from error
        self._thread.start()

    def check(self) -> None:
        """Still ours? Asked before each step that changes something.

        Raises:
            TargetError: somebody took it over, or it could not be renewed for too long.
        """
        late = clock.monotonic() - self._renewed > SECONDS
        if self._lost or late:
            reason = self._lost or f"it could not be renewed for {SECONDS} s"
            raise TargetError(
                f'this restore does not have the lease of namespace "{self.namespace}" any more: {reason}',
                on=f"{self.namespace}/{NAME}",
                hint="find out who restores now; then go on with --resume",
                unaffected="no further step was begun",
            )

    def remember(self, scaled: str | None) -> None:
        """Write down what is about to be scaled down, before it is; None once it has its replicas again."""
        self._patch({"metadata": {"annotations": {SCALED: scaled}}})

    def release(self) -> None:
        """Give it back."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._lost:
            return
        body = {
            "metadata": {"annotations": {WHAT: None}},
            "spec": {"holderIdentity": None, "renewTime": None},
        }
        try:
            self._patch(body)
        except DrctlError as error:  # it expires by itself
            _log.warning("lease not given back", reason=error.message)

    def _spec(self) -> dict[str, Any]:
        now = _micro(clock.now())
        return {"holderIdentity": me(), "leaseDurationSeconds": SECONDS, "acquireTime": now, "renewTime": now}

    def _note(self, answer: dict[str, Any]) -> None:
        self._revision = str(answer["metadata"]["resourceVersion"])
        self._renewed = clock.monotonic()

    def _patch(self, body: dict[str, Any]) -> None:
        with self._lock:
            meta = {**body.get("metadata", {}), "resourceVersion": self._revision}
            try:
                self._note(self._cluster.patch(self._path, {**body, "metadata": meta}))
            except faults.Conflict as error:
                self._look_who(error)
                raise

    def _look_who(self, error: DrctlError) -> None:
        """An answer that got lost also looks like a conflict: it is still ours when it says so."""
        found = self._cluster.find(self._path)
        if found is not None and _holder(found).who == me():
            self._note(found)
            return
        who = _holder(found).who if found else ""
        self._lost = f"{who or 'somebody'} took it over"
        _log.error("lease lost", reason=self._lost, cause=error.message)

    def _renew_always(self) -> None:
        while not self._ended.wait(SECONDS / 6):
            try:
                self._patch({"spec": {"renewTime": _micro(clock.now())}})
            except faults.Conflict:
                if self._lost:
                    return
            except DrctlError as error:
                _log.warning("lease not renewed", reason=error.message)

    def _refused(self, found: dict[str, Any] | None) -> TargetError:
        holder = _holder(found) if found else None
        who = holder.who if holder else "another run"
        since = f" since {clock.rfc3339(holder.since)}" if holder and holder.since else ""
        doing = f": {holder.what}" if holder and holder.what else ""
        return TargetError(
            f'{who} works on namespace "{self.namespace}"{since}{doing}',
            on=f"{self.namespace}/{NAME}",
            hint="talk to them; when that run is surely dead: --take-over",
            unaffected="nothing was started",
        )


@contextmanager
def held(cluster: Cluster, namespace: str, what: str, *, take_over: bool = False) -> Iterator[Lease]:
    """Have the lease for a block.

    Raises:
        TargetError: somebody else has it; the message says who and since when.
    """
    lease = Lease(cluster, namespace, what)
    lease.take(take_over=take_over)
    try:
        yield lease
    finally:
        lease.release()


def _micro(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _holder(found: dict[str, Any]) -> Holder:
    spec, marks = found.get("spec") or {}, found["metadata"].get("annotations") or {}
    return Holder(
        who=str(spec.get("holderIdentity") or ""),
        what=str(marks.get(WHAT, "")),
        since=_moment(spec.get("acquireTime")),
        renewed=_moment(spec.get("renewTime")),
        scaled=str(marks.get(SCALED, "")),
    )


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)) if text else None
    except ValueError:
        return None
