"""What a replica's run would do: the source's listing, the record of the last run and the target's listing are merged, and every key gets a reason.

An object is the same when the source shows what the record says was copied, and the target shows what the record says was written. So
metadata that alone was changed is noticed on either side, and an object whose ETag depends on how it was uploaded is not copied again and again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from dr_toolkit.buckets import facts
from dr_toolkit.buckets.listing import Listed
from dr_toolkit.buckets.restore import Names
from dr_toolkit.repository.writer import Carried

Action = Literal["new", "replace", "repair", "adopt", "same", "delete", "foreign", "forget"]
RECORD = "replicated"
"""The kind of a record's entries; they have no content."""
TARGET, SIZE = "target", "bytes"
"""In a record's ``meta``: how the target shows the object, and its size."""
_SECONDS = len("2026-11-24T12:00:00")


@dataclass(frozen=True, slots=True)
class Step:
    """One key.

    Attributes:
        action: ``new``, ``replace`` (the source changed), ``repair`` (the target is not as it was written), ``adopt`` (already there, not by us),
            ``same``, ``delete`` (gone from the source), ``foreign`` (only at the target, not by us), ``forget`` (gone from both).
        key: the source's.
        listed: at the source.
        carried: its record.
    """

    action: Action
    key: str
    listed: Listed | None
    carried: Carried | None


@dataclass(slots=True)
class Plan:
    """How many keys get which action; ``recorded`` and ``there`` are what the last run left and what the target has.

    Attributes:
        bytes: to copy.
    """

    new: int = 0
    replace: int = 0
    repair: int = 0
    adopt: int = 0
    same: int = 0
    delete: int = 0
    foreign: int = 0
    forget: int = 0
    recorded: int = 0
    there: int = 0
    bytes: int = 0

    @property
    def copied(self) -> int:
        """Objects to copy."""
        return self.new + self.replace + self.repair


@dataclass(frozen=True, slots=True)
class Held:
    """What a guard forbids in this run, and why.

    Attributes:
        deletes: why nothing is deleted; None when it may be.
        overwrites: why nothing is overwritten; None when it may be.
    """

    deletes: str | None = None
    overwrites: str | None = None

    @property
    def reasons(self) -> list[str]:
        """Both, for people."""
        return [reason for reason in (self.deletes, self.overwrites) if reason]


def shown(there: Listed) -> list[Any]:
    """How a target shows an object, as a record keeps it. Listings and heads agree on whole seconds only."""
    return [there.size, there.etag, there.modified[:_SECONDS]]


def action_of(listed: Listed | None, record: dict[str, Any] | None, there: Listed | None) -> Action:
    """What is to be done with a key, by what the source, the record and the target say of it."""
    untouched = there is not None and record is not None and record.get(TARGET) == shown(there)
    if listed is None:
        if there is None:
            return "forget"
        return "delete" if untouched else "foreign"
    if there is None:
        return "new"
    if record is None:
        return "adopt" if (there.size, there.etag) == (listed.size, listed.etag) else "replace"
    if not facts.is_same(listed, int(record.get(SIZE, -1)), record):
        return "replace"
    return "same" if untouched else "repair"


def steps(
    source: Iterator[Listed], records: Iterator[Carried], target: Iterator[Listed], names: Names
) -> Iterator[Step]:
    """The merge of the three, in order of the source's keys."""
    back = Names(names.target, names.source)
    listed, carried, there = next(source, None), next(records, None), next(target, None)
    while True:
        heads = [
            *([listed.key] if listed else []),
            *([carried.info.path] if carried else []),
            *([back.at_target(there.key)] if there else []),
        ]
        if not heads:
            return
        key = min(heads, key=str.encode)
        one = listed if listed and listed.key == key else None
        record = carried if carried and carried.info.path == key else None
        found = there if there and back.at_target(there.key) == key else None
        yield Step(action_of(one, dict(record.info.meta) if record else None, found), key, one, record)
        listed = next(source, None) if one else listed
        carried = next(records, None) if record else carried
        there = next(target, None) if found else there


def count(walk: Iterator[Step], there: int) -> Plan:
    """What the steps amount to; ``there`` is the number of objects at the target."""
    plan = Plan(there=there)
    for step in walk:
        setattr(plan, step.action, getattr(plan, step.action) + 1)
        plan.recorded += step.carried is not None
        if step.action in {"new", "replace", "repair"} and step.listed is not None:
            plan.bytes += step.listed.size
    return plan


def held(plan: Plan, max_delete: str | int, max_change: int) -> Held:
    """Which limits a plan would break.

    Args:
        plan: of the whole run.
        max_delete: ``10%`` of the recorded objects, or a number.
        max_change: percentage of the recorded objects (of those at the target, where nothing is recorded yet) that may be overwritten.
    """
    percent = isinstance(max_delete, str)
    limit = plan.recorded * int(max_delete[:-1]) if isinstance(max_delete, str) else max_delete
    deletes = overwrites = None
    if plan.delete * (100 if percent else 1) > limit:
        deletes = (
            f"{plan.delete} of {plan.recorded} replicated objects are gone from the source (max_delete is "
            f"{max_delete}): none of them is deleted from the replica"
        )
    base = plan.recorded or plan.there
    if plan.replace * 100 > base * max_change:
        overwrites = f"{plan.replace} of {base} objects would be overwritten (max_change is {max_change}%): none of them is"
    return Held(deletes, overwrites)
