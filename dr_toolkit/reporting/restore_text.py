"""A restore's plan and outcome, as text and as documents."""

from __future__ import annotations

from typing import Any

from dr_toolkit.jobs.restore import Done, Prepared
from dr_toolkit.reporting import documents
from dr_toolkit.reporting.text import duration, size
from dr_toolkit.words import counted

_SHOWN_CLIENTS = 10
_SHOWN_NOTES = 10


def replaces(prepared: Prepared) -> bool:
    """Whether the restore takes a live database's name."""
    return prepared.database is not None and prepared.database.old is not None and prepared.request.swap


def plan(prepared: Prepared) -> str:
    """What will happen, what is replaced, and how much time of data is lost."""
    header, lines = prepared.snapshot.header, []
    lines.append(f"restore {header.component} from snapshot {header.id}")
    lines.append(
        f"  taken {header.time}, {duration(max(0.0, prepared.seconds_lost))} ago: what was written since then is not in it"
    )
    lines += [f"  WARNING: {doubt}" for doubt in prepared.doubts]
    lines.append(f"  content {size(prepared.bytes)}, to {prepared.place}")
    found = prepared.database
    if found is None:
        return "\n".join([*lines, ""])
    if replaces(prepared):
        lines.append(
            f'  a new database "{found.new}" is filled and compared; then it gets the name "{found.live}"'
        )
        lines.append(f'  the present "{found.live}" ({size(found.live_bytes or 0)}) is kept as "{found.old}"')
    elif prepared.request.swap:
        lines.append(f'  a new database "{found.live}" is made; nothing is replaced')
    else:
        lines.append(f'  a new database "{found.new}" is made and stays beside "{found.live}"')
    free = "unknown" if found.bytes_free is None else size(found.bytes_free)
    needed = "unknown" if found.bytes_needed is None else size(found.bytes_needed)
    lines.append(f"  space: needs about {needed}, free on the server: {free}")
    if found.clients and replaces(prepared):
        lines.append(f"  sessions that will be ended at the swap: {len(found.clients)}")
        lines += [
            f"    {c.application or c.kind} ({c.user}, {c.address or 'local'}, pid {c.pid})"
            for c in found.clients[:_SHOWN_CLIENTS]
        ]
    lines += [f"  warning: {warning}" for warning in found.warnings]
    return "\n".join([*lines, ""])


def plan_document(prepared: Prepared) -> dict[str, Any]:
    """The same for scripts."""
    found = prepared.database
    document: dict[str, Any] = {
        "component": prepared.request.component,
        "snapshot": documents.snapshot(prepared.snapshot),
        "to": prepared.place,
        "bytes": prepared.bytes,
        "seconds_lost": round(prepared.seconds_lost, 1),
        "replaces": replaces(prepared),
        "warnings": list(prepared.doubts),
        "database": None,
    }
    if found is not None:
        document["database"] = {
            "live": found.live,
            "new": found.new,
            "old": found.old,
            "bytes_needed": found.bytes_needed,
            "bytes_free": found.bytes_free,
            "space": found.space,
            "clients": [
                {"pid": c.pid, "user": c.user, "application": c.application, "address": c.address}
                for c in found.clients
            ],
            "problems": list(found.problems),
            "warnings": list(found.warnings),
        }
    return document


def done(item: Done) -> str:
    """What a restore did, and what to do next."""
    header, lines = item.prepared.snapshot.header, []
    if item.files:
        lines.append(
            f"snapshot {header.id} is written to {item.files[0]} ({size(item.prepared.bytes)}, plaintext: guard it)"
        )
        lines.append(f"  read it with: pg_restore --list {item.files[0]}")
        lines += [f"  roles and their passwords: {name} (psql --file)" for name in item.files[1:]]
        return "\n".join(lines)
    if item.prepared.request.tables:
        lines += [
            f'"{item.database}" has table {name} of snapshot {header.id}: {counted(rows, "row")}'
            for name, rows in item.compared.items()
        ]
        return "\n".join([*lines, *(f"  note: {note}" for note in item.notes[:_SHOWN_NOTES])])
    counts = ", ".join(f"{value} {key.replace('_', ' ')}" for key, value in item.compared.items())
    lines.append(f'"{item.database}" has the content of snapshot {header.id}')
    lines.append(f"  compared with the source's digests: {counts}: all equal")
    lines.append(
        "  took "
        + ", ".join(f"{name.replace('_', '-')} {duration(seconds)}" for name, seconds in item.seconds.items())
    )
    if item.unavailable_seconds is not None and item.kept:
        lines.append(f"  the name was unavailable for {item.unavailable_seconds:.3f} s")
    if item.kept:
        component = item.prepared.request.component
        lines.append(f'  the replaced database is kept as "{item.kept}"')
        lines.append(f"    go back to it: drctl restore {component} --undo")
        lines.append(f"    drop it when you are sure: drctl restore {component} --cleanup")
    lines += [f"  note: {note}" for note in item.notes[:_SHOWN_NOTES]]
    if item.kept:
        lines.append("next: restart what uses the database, then look at it with your own eyes")
    return "\n".join(lines)


def done_document(item: Done) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "component": item.prepared.request.component,
        "snapshot": documents.snapshot(item.prepared.snapshot),
        "database": item.database,
        "kept": item.kept,
        "files": list(item.files),
        "seconds": {name: round(value, 3) for name, value in item.seconds.items()},
        "unavailable_seconds": item.unavailable_seconds,
        "tables" if item.prepared.request.tables else "compared": dict(item.compared),
        "warnings": list(item.prepared.doubts),
        "notes": list(item.notes),
    }
