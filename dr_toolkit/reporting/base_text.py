"""Plan and outcome of the restore of a whole cluster, as text and as documents."""

from __future__ import annotations

from typing import Any

from dr_toolkit.jobs import base_archive
from dr_toolkit.jobs.base_restore import Done, Prepared
from dr_toolkit.postgres import base_recovery
from dr_toolkit.postgres.base_recovery import Recovery
from dr_toolkit.reporting import documents
from dr_toolkit.reporting.text import duration, size
from dr_toolkit.words import counted


def replaces(prepared: Prepared) -> bool:
    """Nothing live is replaced: a cluster goes into a directory of its own."""
    del prepared
    return False


def plan(prepared: Prepared) -> str:
    """What will happen, and how much time of data is lost."""
    header = prepared.snapshot.header
    lines = [
        f"restore {header.component} from snapshot {header.id}",
        f"  taken {header.time}, {duration(max(0.0, prepared.seconds_lost))} ago: what was written since then is not in it",
        *(f"  WARNING: {doubt}" for doubt in prepared.doubts),
        f"  content {size(prepared.bytes)}, to {prepared.directory}, free there: {size(prepared.bytes_free)}",
    ]
    if prepared.tools is None:
        lines.append("  the files are only written: not verified and not started")
    else:
        lines.append(
            f"  then pg_verifybackup, a start for ourselves alone (PostgreSQL {prepared.tools.version}), and a first query"
        )
    if prepared.recovery is not None:
        lines.append(f"  then {_going_on(prepared.recovery)}")
    return "\n".join([*lines, ""])


def _going_on(recovery: Recovery) -> str:
    names = ", ".join(name for name, _value in recovery.settings)
    what = "a standby" if recovery.signal == base_recovery.STANDBY else "a recovery that goes on"
    return f"left as {what}: {recovery.signal}, and {names} in postgresql.auto.conf"


def plan_document(prepared: Prepared) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "component": prepared.snapshot.header.component,
        "snapshot": documents.snapshot(prepared.snapshot),
        "to": str(prepared.directory),
        "bytes": prepared.bytes,
        "bytes_free": prepared.bytes_free,
        "seconds_lost": round(prepared.seconds_lost, 1),
        "replaces": False,
        "start": prepared.tools is not None,
        "signal": prepared.recovery.signal if prepared.recovery else None,
        "warnings": list(prepared.doubts),
    }


def done(item: Done) -> str:
    """What a restore did, and what to do next."""
    header = item.prepared.snapshot.header
    base = header.source.get("base", {})
    lines = [
        f"{item.prepared.directory} has the cluster of snapshot {header.id}: {counted(item.files, 'file')}, {size(item.prepared.bytes)}"
    ]
    if item.started:
        lines.append(
            f"  pg_verifybackup accepts it; it started, and recovery reached {base.get('end_lsn')} on timeline {base.get('timeline')}"
            + (f", which has all that was committed up to {base['time']}" if "time" in base else "")
        )
    lines.append(
        "  took "
        + ", ".join(f"{name.replace('_', '-')} {duration(seconds)}" for name, seconds in item.seconds.items())
    )
    if item.prepared.recovery is not None:
        lines.append(f"  {_going_on(item.prepared.recovery)}")
        if any(name == "primary_conninfo" for name, _value in item.prepared.recovery.settings):
            lines.append(
                "  no password is in it: put it into the .pgpass file of the user who runs the server"
            )
    lines.append("next: look at postgresql.conf and pg_hba.conf there, then start PostgreSQL on it")
    return "\n".join(lines)


def done_document(item: Done) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "component": item.prepared.snapshot.header.component,
        "snapshot": documents.snapshot(item.prepared.snapshot),
        "directory": str(item.prepared.directory),
        "files": item.files,
        "started": item.started,
        "signal": item.prepared.recovery.signal if item.prepared.recovery else None,
        "seconds": {name: round(value, 3) for name, value in item.seconds.items()},
        "warnings": list(item.prepared.doubts),
    }


def archive_plan(prepared: base_archive.Prepared) -> str:
    """What a tar will hold, and how much time of data is lost."""
    header = prepared.snapshot.header
    lines = [
        f"restore {header.component} from snapshot {header.id}",
        f"  taken {header.time}, {duration(max(0.0, prepared.seconds_lost))} ago: what was written since then is not in it",
        *(f"  WARNING: {doubt}" for doubt in prepared.doubts),
        f"  content {size(header.bytes_source)}, as a tar to standard output: not verified and not started",
    ]
    return "\n".join([*lines, ""])


def archive_plan_document(prepared: base_archive.Prepared) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "component": prepared.snapshot.header.component,
        "snapshot": documents.snapshot(prepared.snapshot),
        "to": "-",
        "bytes": prepared.snapshot.header.bytes_source,
        "seconds_lost": round(prepared.seconds_lost, 1),
        "replaces": False,
        "start": False,
        "warnings": list(prepared.doubts),
    }


def archive_done(item: base_archive.Done) -> str:
    """What was written, and what to do next."""
    header = item.prepared.snapshot.header
    return (
        f"the tar has the cluster of snapshot {header.id}: {counted(item.files, 'file')}, {size(header.bytes_source)}, "
        f"took {duration(item.seconds['write'])}\n"
        "next: pg_verifybackup on the directory that it was unpacked into, then start PostgreSQL there"
    )
