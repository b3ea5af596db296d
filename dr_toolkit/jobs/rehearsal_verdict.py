"""Whether a rehearsed upgrade went well: a pure function of what was seen, which gives reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dr_toolkit.cluster.rehearsal import Limits, Seen
from dr_toolkit.cluster.rehearsal_log import Errors

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Reason:
    """Why not.

    Attributes:
        text: in words.
        hint: what to do about it.
    """

    text: str
    hint: str | None = None


def reasons(
    seen: Seen,
    before: Sequence[Mapping[str, Any]],
    found: Errors,
    limits: Limits,
    budget: float | None,
) -> list[Reason]:
    """Everything that speaks against the upgrade, the heaviest first.

    Args:
        seen: what was seen of the new version.
        before: the migration histories before it was started.
        found: errors of its log.
        limits: how long what was waited for.
        budget: seconds after which the chart's own probes end it; None where none does.

    Returns:
        The reasons; none where all went well.
    """
    made = [*_migrations(seen, before, found), *_end(seen, limits)]
    if seen.lost:
        made.append(Reason(f"the restored copy was not there to the end: {seen.lost}", "run it again"))
    if found.count and not found.migration:
        more = f", and {len(found.lines) - _SHOWN} more" if len(found.lines) > _SHOWN else ""
        made.append(
            Reason(
                f"{found.count} error{'s' if found.count > 1 else ''} in its log: {' | '.join(found.lines[:_SHOWN])}{more}",
                "look at each; what is known to be harmless goes under rehearsal.expected_errors",
            )
        )
    took = seen.seconds.get("health", 0.0) - seen.seconds.get("start", 0.0)
    if budget is not None and took > budget:
        made.append(
            Reason(
                f"it was healthy after {took:.0f} s, and the chart's probes end it after {budget:.0f} s",
                "raise the chart's startupProbe.failureThreshold for the upgrade",
            )
        )
    return made


def _migrations(seen: Seen, before: Sequence[Mapping[str, Any]], found: Errors) -> list[Reason]:
    hint = "the live database is as it was; ask for a mended version, or mend what the message names, then rehearse again"
    known = {str(one.get("schema")): one for one in before}
    made = []
    for one in seen.histories:
        earlier = known.get(str(one.get("schema")), {})
        if int(one.get("failed", 0)) > int(earlier.get("failed", 0)):
            made.append(Reason(f"a migration failed: {one.get('schema')}: {one.get('failing')}", hint))
    if found.migration and not made:
        made.append(Reason(f"a migration failed: {found.migration}", hint))
    gone = sorted(known.keys() - {str(one.get("schema")) for one in seen.histories})
    if gone and not seen.lost:
        made.append(Reason(f"the migration history in {', '.join(gone)} is gone or locked", hint))
    return made


def _end(seen: Seen, limits: Limits) -> list[Reason]:
    guest = seen.guest
    if guest.stage == "over":
        return [Reason(guest.text, guest.hint)]
    if seen.late == "start":
        return [Reason(f"{guest.text} (waited {limits.start:.0f} s)", guest.hint)]
    if seen.late == "health":
        return [
            Reason(
                f"its health endpoint did not answer within {limits.health:.0f} s",
                "see its log in the report; where migrations take longer: raise rehearsal.timeout",
            )
        ]
    if seen.fell:
        return [Reason("it was healthy, and then was not any more", "see its log in the report")]
    return []


def migrated(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> str:
    """What the migrations did, in words. Pure."""
    known = {str(one.get("schema")): one for one in before}
    made = []
    for one in after:
        number = int(one.get("count", 0)) - int(known.get(str(one.get("schema")), {}).get("count", 0))
        if number > 0:
            made.append(f"{number} in {one.get('schema')}, to {one.get('newest')}")
    if made:
        return f"migrations: {'; '.join(made)}"
    return "no migration was needed" if after else "no migration history was found"
