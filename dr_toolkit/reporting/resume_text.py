"""What ``drctl resume`` found and did, as text and as a document."""

from __future__ import annotations

from typing import Any

from dr_toolkit.jobs.resume import Outcome
from dr_toolkit.reporting import documents
from dr_toolkit.reporting.way_back_text import failure


def text(item: Outcome) -> str:
    """A line for each thing."""
    lines = [f"scaled up: {name} to {count}" for name, count in item.scaled.items()]
    lines += [f'opened: the database "{name}"' for name in item.opened]
    lines += [f'dropped: the half-restored database "{name}"' for name in item.dropped]
    lines += [
        f'left: "{name}" looks like a half-restored database and carries no marker; drop it by hand'
        for name in item.left
    ]
    for name, error in item.failed:
        lines += failure(name, error)
    lines += [
        f"unfinished: the restore of {name} on this machine; go on: drctl restore --point {name} --resume"
        for name in item.unfinished
    ]
    if item.nothing:
        lines.append("nothing else was left to put in order" if lines else "nothing was left to put in order")
    return "\n".join([*lines, ""])


def document(item: Outcome) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "scaled": dict(item.scaled),
        "opened": list(item.opened),
        "dropped": list(item.dropped),
        "left": list(item.left),
        "unfinished": list(item.unfinished),
        "failures": [documents.failure(error, name) for name, error in item.failed],
    }
