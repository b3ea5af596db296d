"""Results as text for a person: aligned columns, newest last, nothing that needs a wide terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from dr_toolkit import clock
from dr_toolkit.buckets.facts import CHANGED
from dr_toolkit.buckets.replica_plan import SIZE, TARGET
from dr_toolkit.jobs import doubts, inspect
from dr_toolkit.jobs.backup import Outcome, Planned
from dr_toolkit.jobs.initialise import Made
from dr_toolkit.jobs.inspect import Details, Inventory
from dr_toolkit.jobs.verify import Result
from dr_toolkit.repository.repository import Evidence, Point
from dr_toolkit.repository.snapshot import Snapshot
from dr_toolkit.words import counted

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_TIME, _MORE = 16, 5
_LEVELS = ("restore", "sample", "data", "quick")
_SHOWN_CHANGES = 40
_SHOWN_FAILURES = 20


def size(count: float) -> str:
    """Bytes for a person: ``1.5 GiB``."""
    for unit in _UNITS[:-1]:
        if abs(count) < 1024:  # noqa: PLR2004  # the next unit
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"


def duration(seconds: float) -> str:
    """Seconds for a person: ``3.2 s``, ``12 min``, ``5 h``, ``3 d``."""
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds:.1f} s" if unit == "s" else f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def table(rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    """Columns aligned by spaces; ``right`` names those that are aligned to the right."""
    if not rows:
        return ""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def made(item: Made) -> str:
    """After ``drctl init``."""
    lines = [
        f"repository {item.repository_id} made at {item.where}",
        "",
        "put this line into the configuration, under repository, wherever drctl runs:",
        f'  trust: "{item.trust}"',
        "",
        "recipients:",
        *(f"  {name} ({kind}): {role}" for name, kind, role in item.recipients),
        "",
        "keep safe: without a recipient that may read, nobody can restore anything.",
        "  key files: a copy away from this machine; Vault: its own backup and unseal keys.",
    ]
    if item.create_only:
        lines.append("the storage refuses to create an object twice: tried, and it does.")
    lines += [f"warning: {warning}" for warning in item.warnings]
    return "\n".join(lines)


def planned(items: Sequence[Planned]) -> str:
    """``drctl backup --dry-run``."""
    rows = [["COMPONENT", "ABOUT", "COMPARED WITH", "SOURCE"]]
    rows += [
        [
            p.component,
            "unknown" if p.bytes is None else size(p.bytes),
            p.parent or "nothing: a first backup",
            p.source,
        ]
        for p in items
    ]
    foreseen = "".join(f"  {p.component}: {line}\n" for p in items for line in p.foreseen)
    return table(rows, frozenset({1})) + foreseen + "nothing was read or written"


def backup(outcome: Outcome) -> str:
    """After ``drctl backup``."""
    parts = []
    if outcome.snapshots:
        rows = [["COMPONENT", "SNAPSHOT", "READ", "NEW", "STORED", "TOOK"]]
        shown = short_ids([s.id for s in outcome.snapshots])
        for s in outcome.snapshots:
            h = s.header
            rows.append(
                [
                    h.component,
                    shown[s.id],
                    size(h.bytes_source),
                    size(h.bytes_new),
                    size(h.bytes_stored),
                    duration(outcome.seconds[s.id]),
                ]
            )
        parts.append(table(rows, frozenset({2, 3, 4, 5})))
    # Whoever keeps these lines can tell later whether the newest snapshot was removed (docs/format.md, section 10).
    parts += [f"head {s.header.component} {s.id} {s.digest_text}\n" for s in outcome.snapshots]
    parts += [f"warning: {s.header.component}: {w}\n" for s in outcome.snapshots for w in s.header.warnings]
    for component, error in outcome.failures:
        parts.append(f"FAILED: {component}: {error.message}\n")
        parts += [
            f"  {label}: {value}\n"
            for label, value in (("unaffected", error.unaffected), ("next", error.hint))
            if value
        ]
    if outcome.point:
        parts.append(f'point "{outcome.point.name}" ({outcome.point.id})\n')
    elif outcome.point_wanted and outcome.snapshots and outcome.failures:
        parts.append("no point was made, because not every component was backed up\n")
    if outcome.snapshots and not outcome.failures:
        parts.append("not yet proven; prove it: drctl verify --restore\n")
    return "".join(parts)


def proof(items: Sequence[Evidence]) -> str:
    """The strongest result so far, in a word or two."""
    last = _strongest(items)
    if last is None:
        return "none"
    return f"{last.result['level']} {last.result.get('result')} {last.time[:16].replace('T', ' ')}"


def _strongest(items: Sequence[Evidence]) -> Evidence | None:
    for level in _LEVELS:
        found = [e for e in items if e.result.get("level") == level]
        if found:
            return found[-1]
    return None


def inventory(stock: Inventory, now: datetime) -> str:
    """``drctl snapshots``."""
    rows = [["COMPONENT", "SNAPSHOT", "AGE", "READ", "STORED", "STATUS", "PROVEN (AGO)"]]
    shown = short_ids([s.id for s in stock.snapshots])
    rows += [
        _row(s, shown[s.id], stock.evidence.get((s.header.component, s.id), []), now) for s in stock.snapshots
    ]
    parts = [
        table(rows, frozenset({2, 3, 4})) if stock.snapshots else "no snapshots yet; take one: drctl backup\n"
    ]
    if stock.points:
        parts.append(
            "\n"
            + table(
                [
                    ["POINT", "TIME", "SNAPSHOTS"],
                    *([p.name, p.time, str(len(p.snapshots))] for p in stock.points),
                ]
            )
        )
    parts += [f"DAMAGED: {error.message}\n" for error in stock.damaged]
    parts += [f"DAMAGED: {sentence}\n" for sentence in inspect.found_damaged(stock.snapshots)]
    parts += [f"{finding.problem.upper()}: {finding.text}\n" for finding in stock.missing]
    return "".join(parts)


def _row(s: Snapshot, shown: str, proofs: Sequence[Evidence], now: datetime) -> list[str]:
    h = s.header
    sizes = size(h.bytes_source), size(h.bytes_stored)
    return [h.component, shown, _ago(now, h.moment), *sizes, h.status, _proven(proofs, now)]


def _ago(now: datetime, then: datetime) -> str:
    return duration(max(0.0, (now - then).total_seconds()))


def _proven(items: Sequence[Evidence], now: datetime) -> str:
    last = _strongest(items)
    if last is None:
        return "no"
    bad = doubts.failing(items)
    shown, failed = (last, "") if bad is None else (bad, " FAILED")
    return f"{shown.result['level']}{failed} {_ago(now, clock.parse_rfc3339(shown.time))}"


def point(item: Point) -> str:
    """``drctl show POINT``."""
    return f'point "{item.name}" ({item.id}), {item.time}\n' + table(
        [[c, i] for c, i, _digest in item.snapshots]
    )


def details(item: Details) -> str:
    """``drctl show SNAPSHOT``."""
    h = item.snapshot.header
    lines = [
        f"{h.component} ({h.kind}), {h.time}, {h.status}",
        f"id       {h.id}",
        f"head     {item.snapshot.digest_text}",
        f"parent   {h.parent or 'none'}",
        f"read     {size(h.bytes_source)}; new {size(h.bytes_new)}; stored {size(h.bytes_stored)}",
        *_method(h.source),
        f"proof    {proof(item.evidence)}",
        f"made by  {h.tool}",
        *(f"warning  {w}" for w in h.warnings),
        "",
        "SOURCE",
        *(f"  {key}: {_short(_fact(key, value))}" for key, value in h.source.items()),
        "",
    ]
    rows = [
        ["SIZE", "ROWS", "ENTRY"],
        *(
            [
                size(int(e.meta[SIZE]) if TARGET in e.meta else e.size),
                str(e.meta.get("rows") if e.meta.get("rows") is not None else ""),
                e.path + (" (changed while it was read: not restorable)" if CHANGED in e.meta else ""),
            ]
            for e in item.entries
        ),
    ]
    return "\n".join(lines) + "\n" + table(rows, frozenset({0, 1})) + "\n" + _changes(item)


def _method(source: Mapping[str, Any]) -> list[str]:
    """How a base backup was read, and why."""
    base = source.get("base")
    if not isinstance(base, dict) or "method" not in base:
        return []
    lines = [f"method   {base['method']}" + (f": {base['reason']}" if base.get("reason") else "")]
    if audit := base.get("audit"):
        rows = [f"{path} page {first} ({count})" for path, first, count in audit["listed"][:_SHOWN_FAILURES]]
        lines.append(
            f"audit    {counted(audit['pages'], 'page')} held against {audit['against']}: {counted(audit['unexplained'], 'differs', 'differ')} without a reason"
            + (f", {audit['unjudged']} could not be judged" if audit["unjudged"] else "")
        )
        lines += [f"         {row}" for row in rows]
    return lines


def _changes(item: Details) -> str:
    if item.changes is None:
        return "no parent to compare with\n"
    changed = [c for c in item.changes if c.change != "same"]
    same = len(item.changes) - len(changed)
    rows = [[c.change, size(c.size_before), "->", size(c.size), c.path] for c in changed[:_SHOWN_CHANGES]]
    more = f"… and {len(changed) - _SHOWN_CHANGES} more\n" if len(changed) > _SHOWN_CHANGES else ""
    return (
        f"against its parent: {len(changed)} changed, {same} the same\n"
        + table(rows, frozenset({1, 3}))
        + more
    )


def _fact(key: str, value: object) -> str:
    """A fact about the source, as a person writes it."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "unknown"}[value]
    if key.endswith("bytes") and isinstance(value, int):
        return size(value)
    if isinstance(value, Mapping):
        if set(value) == {"count", "names"}:
            return (
                ", ".join(value["names"]) + (", …" if value["count"] > len(value["names"]) else "") or "none"
            )
        return ", ".join(f"{name} {_fact(name, inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(_fact(key, inner) for inner in value) or "none"
    return str(value)


def _short(shown: str) -> str:
    return shown if len(shown) <= 160 else shown[:157] + "..."  # noqa: PLR2004  # two lines of a terminal


def short_ids(ids: Collection[str]) -> dict[str, str]:
    """Enough of each id to name it where these are shown: its time, and the beginning of what is random where the time is not enough."""
    times = Counter(snapshot_id[:_TIME] for snapshot_id in ids)
    return {i: i[:_TIME] if times[i[:_TIME]] == 1 else i[: _TIME + _MORE] for i in ids}


def verification(results: Sequence[Result]) -> str:
    """After ``drctl verify``."""
    parts = []
    for r in results:
        word = "PASSED" if r.passed else "FAILED"
        counts = ", ".join(
            f"{key} {_count(key, value)}"
            for key, value in r.checks.items()
            if not isinstance(value, dict | list)
        )
        looked = f"{r.level} in {duration(r.seconds)}: {counts}" if counts else f"{r.level}"
        parts.append(f"{word}  {r.component} {r.snapshot or '(no snapshot)'} {looked}\n")
        parts += [f"  {sentence}\n" for sentence in r.failures[:_SHOWN_FAILURES]]
        if len(r.failures) > _SHOWN_FAILURES:
            parts.append(f"  … and {len(r.failures) - _SHOWN_FAILURES} more\n")
        parts += [f"  note: {sentence}\n" for sentence in r.notes[:_SHOWN_FAILURES]]
        if r.snapshot and not r.signed:
            parts.append(
                "  evidence was not stored: that needs a recipient with the role read, and room in the repository\n"
            )
    return "".join(parts)


def _count(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return size(value) if key.startswith("bytes") and isinstance(value, int | float) else str(value)
