"""``drctl scratch gc`` as text and as a document."""

from __future__ import annotations

from typing import Any

from dr_toolkit.jobs.scratch import Collected
from dr_toolkit.reporting.text import table


def text(found: Collected, *, dry_run: bool) -> str:
    """What was there, and what became of it."""
    parts = [f"removed on this machine: {directory}\n" for directory in found.directories]
    if found.namespaces:
        rows = [["NAMESPACE", "OWNER", "EXPIRES", "STATE"]]
        rows += [[p.namespace, p.owner, p.expires or "unknown", p.state] for p in found.namespaces]
        parts.append(table(rows))
        parts += [f"{p.namespace}: {p.reason}\n" for p in found.namespaces if p.reason]
    if not found.asked:
        parts.append("verify.namespace is not configured, so the cluster was not asked\n")
    removed = sum(p.state == "removed" for p in found.namespaces) + len(found.directories)
    if dry_run:
        parts.append("nothing was removed")
    else:
        parts.append(f"{removed} removed" if removed else "nothing was left over")
    return "".join(parts)


def document(found: Collected) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "directories": found.directories,
        "cluster_asked": found.asked,
        "namespaces": [
            {
                "namespace": p.namespace,
                "owner": p.owner,
                "expires": p.expires,
                "state": p.state.replace(" ", "_"),
                "reason": p.reason,
            }
            for p in found.namespaces
        ],
    }
